from functools import partial

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest import layouts
from clinvit.datasets.manifest.tables import read_manifest, write_manifest
from clinvit.datasets.slides.outlines import read_outlines
from clinvit.datasets.slides.reading import slide_stem
from clinvit.datasets.slides.scale import MppOverride
from clinvit.phantoms.slides import write_camelyon16, write_slide_folder
from clinvit.stages.prepare import prepare_stage
from clinvit.tasks.slides.labels import COUNTS, LABELS, PARTLY_OUTLINED
from clinvit.tasks.slides.layouts import LAYOUTS
from clinvit.tests.datasets.slides.dicom_slides import write_dicom_slide
from PIL import Image

recognise, to_manifest = (partial(function, LAYOUTS) for function in (layouts.recognise, layouts.to_manifest))

OFFICIAL = {
    "training/normal/normal": [n for n in range(1, 161) if n != 86],
    "training/tumor/tumor": list(range(1, 112)),
    "testing/images/test": [n for n in range(1, 131) if n != 49],
}
TEST_TUMOURS = frozenset(range(1, 131, 3)) - {49} | {114}
SMALL = (1088, 1280)


def touch(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")


def reference(root, numbers=None, style="test_{:03d},{},None,None"):
    numbers = OFFICIAL["testing/images/test"] if numbers is None else numbers
    lines = [style.format(n, "Tumor" if n in TEST_TUMOURS else "Normal") for n in numbers]
    root.mkdir(parents=True, exist_ok=True)
    (root / "reference.csv").write_text("\n".join(lines) + "\n")


def camelyon(root, *, outlines=True, extra=()):
    """The names of the whole data set, with empty files."""
    touch(root, *(f"{place}_{n:03d}.tif" for place, numbers in OFFICIAL.items() for n in numbers), *extra)
    reference(root / "testing")
    if outlines:
        touch(root, *(f"training/lesion_annotations/tumor_{n:03d}.xml" for n in range(1, 112)))
        touch(root, *(f"testing/lesion_annotations/test_{n:03d}.xml" for n in TEST_TUMOURS))
    return root


def said(table, text, kind="notes"):
    return sum(text in sentence for sentence in table.attrs[kind])


def test_the_whole_of_camelyon16(tmp_path):
    table, labels = to_manifest(camelyon(tmp_path))
    assert table.attrs["layout"] == "camelyon16" and labels == LABELS == ("tumor",)
    keys = ["id", "path", "patient", "split", "tumor", "mpp", "annotation", "outlined"]
    assert list(table.columns) == keys and len(table) == sum(COUNTS.values()) == 399
    assert table["id"].is_unique and (table["patient"] == table["id"]).all()
    kinds = table["id"].str.partition("_")[0]
    assert kinds.value_counts().to_dict() == COUNTS
    assert set(table.loc[kinds != "test", "split"]) == {"train", "val"}
    val = table[table["split"] == "val"]
    assert len(val) == pytest.approx(270 / 8, abs=2) and val["tumor"].mean() == pytest.approx(111 / 270, abs=0.06)
    test = table[kinds == "test"]
    assert set(test["split"]) == {"test"} and test["tumor"].sum() == len(TEST_TUMOURS)
    assert table.set_index("id").loc["tumor_007", "annotation"] == "training/lesion_annotations/tumor_007.xml"
    assert (table.loc[table["tumor"] == 0, "annotation"] == "").all()
    assert set(table.loc[table["outlined"] == "part", "id"]) == PARTLY_OUTLINED
    assert said(table, "only part of the tumour") and not said(table, "not all of", "warnings")
    assert said(table, "test_114 and test_124", "warnings")


def test_the_cut_of_val_follows_the_seed(tmp_path):
    camelyon(tmp_path)
    one, again, other = (to_manifest(tmp_path, seed=seed)[0]["split"] for seed in (0, 0, 1))
    assert (one == again).all() and (one != other).any()


def test_withdrawn_slides_are_left_out(tmp_path):
    table, _ = to_manifest(camelyon(tmp_path, extra=("training/normal/normal_086.tif", "testing/images/test_049.tif")))
    assert len(table) == 399 and not table["id"].isin(["normal_086", "test_049"]).any()
    assert said(table, "normal_086") == said(table, "test_049") == 1
    assert not said(table, "in reference.csv", "warnings")


def test_disputed_slides_can_be_left_out(tmp_path):
    table, _ = to_manifest(camelyon(tmp_path), leave_out=["test_114", "test_124"])
    assert (table["split"] == "test").sum() == 127
    assert said(table, "as asked: test_114, test_124") and not said(table, "some papers", "warnings")
    with pytest.raises(DataError, match="no slide 'test_999'"):
        to_manifest(tmp_path, leave_out="test_999")


def test_the_flat_mirror_and_the_folder_above(tmp_path):
    base = tmp_path / "download" / "CAMELYON16"
    touch(base, "images/normal_001.tif", "images/Normal_002.TIF", "images/tumor_001.tif", "images/tumor_002.tif")
    touch(base, "images/test_001.tif", "annotations/tumor_001.xml", "masks/tumor_001.tif", "images/tumor_001_mask.tif")
    reference(base / "evaluation", [1])
    table, _ = to_manifest(tmp_path / "download")
    assert sorted(table["id"]) == ["normal_001", "normal_002", "test_001", "tumor_001", "tumor_002"]
    row = table.set_index("id").loc["tumor_001"]
    assert (row["path"], row["annotation"]) == (
        "CAMELYON16/images/tumor_001.tif",
        "CAMELYON16/annotations/tumor_001.xml",
    )
    assert table.set_index("id").loc["test_001", "tumor"] == 1


def test_half_a_download_is_told(tmp_path):
    touch(tmp_path, *(f"training/normal/normal_{n:03d}.tif" for n in range(1, 9)))
    touch(tmp_path, *(f"training/tumor/tumor_{n:03d}.tif" for n in range(1, 9)), "training/lesion_annotations.zip")
    table, _ = to_manifest(tmp_path)
    assert said(table, "8 of 159 normal, 8 of 111 tumor, 0 of 129 test", "warnings")
    assert said(table, "no test slides", "warnings")
    zipped = tmp_path / "training" / "lesion_annotations"
    assert said(table, f"unzip {zipped}.zip -d {zipped}", "warnings")
    assert (table["annotation"] == "").all() and set(table["split"]) == {"train", "val"}


def test_test_slides_without_truth_stay_unknown(tmp_path):
    camelyon(tmp_path)
    reference(tmp_path / "testing", range(1, 129), "test_{:03d}.tif,{}")
    table, _ = to_manifest(tmp_path)
    assert table.set_index("id").loc[["test_129", "test_130"], "tumor"].isna().all()
    assert said(table, "2 test slides are not in", "warnings")
    (tmp_path / "testing" / "reference.csv").unlink()
    table, _ = to_manifest(tmp_path)
    assert table.loc[table["split"] == "test", "tumor"].isna().all() and said(
        table, "no testing/reference.csv", "warnings"
    )


def test_listed_slides_that_are_not_there_are_noted(tmp_path):
    camelyon(tmp_path)
    (tmp_path / "testing" / "images" / "test_005.tif").unlink()
    table, _ = to_manifest(tmp_path, leave_out=["test_114"])
    assert said(table, "1 slides of testing/reference.csv are not there; the first is test_005")


@pytest.mark.parametrize(
    "text, message",
    [
        ("test_001,Tumour\n", "row 1: test_001,Tumour"),
        ("test_001,Tumor\nsomething,Normal\n", "row 2: something,Normal"),
        ("test_001,Tumor\ntest_001,Normal\n", "'test_001' stands twice"),
        ("test_001\n", "expected rows such as"),
    ],
)
def test_wrong_rows_of_the_reference(tmp_path, text, message):
    camelyon(tmp_path)
    (tmp_path / "testing" / "reference.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        to_manifest(tmp_path)


def test_a_header_of_the_reference_is_let_pass(tmp_path):
    camelyon(tmp_path)
    (tmp_path / "testing" / "reference.csv").write_text("image,class\ntest_001,Tumor\ntest_002,Normal\n")
    table = to_manifest(tmp_path)[0].set_index("id")
    assert table.loc[["test_001", "test_002"], "tumor"].tolist() == [1, 0]


def test_a_slide_twice_is_refused(tmp_path):
    camelyon(tmp_path, extra=("copy/tumor_001.tif",))
    with pytest.raises(DataError, match="slide 'tumor_001' stands twice"):
        to_manifest(tmp_path)


def test_the_scale_may_be_given(tmp_path):
    camelyon(tmp_path)
    assert set(to_manifest(tmp_path)[0]["mpp"]) == {""}
    assert set(to_manifest(tmp_path, mpp=0.243)[0]["mpp"]) == {"0.243"}
    with pytest.raises(DataError, match="microns per pixel"):
        to_manifest(tmp_path, mpp=-1)


def test_nothing_of_it_is_no_camelyon16(tmp_path):
    touch(tmp_path, "training/normal/readme.txt", "images/holiday.tif")
    with pytest.raises(DataError, match="no known layout"):
        recognise(tmp_path)
    with pytest.raises(DataError, match="no slide such as"):
        to_manifest(tmp_path, "camelyon16")


def test_a_folder_with_a_table_alone_is_one_whose_slides_lie_elsewhere(tmp_path):
    (tmp_path / "labels.csv").write_text("path,patient,tumor\n/data/slides/a.svs,p0,0\n/data/slides/b.svs,p1,1\n")
    assert recognise(tmp_path) == "folder"
    with pytest.raises(DataError, match=r"2 of 2 listed files are not there, first /data/slides/a\.svs"):
        to_manifest(tmp_path)


def test_phantoms_walk_to_a_manifest_elsewhere(tmp_path):
    root = write_camelyon16(tmp_path / "raw", normal=2, tumour=2, test=2, size_px=SMALL)
    before = sorted(path for path in root.rglob("*"))
    prepared = prepare_stage(LAYOUTS, root, tmp_path / "made" / "manifest.csv")
    manifest = prepared.manifest
    assert manifest.labels == LABELS and manifest.meaning["tumor"].startswith("1 = ")
    assert all(file.is_file() for file in manifest.files()) and sorted(root.rglob("*")) == before
    drawn = [cell for cell in manifest.table["annotation"] if cell]
    assert len(drawn) == 3 and all(read_outlines(manifest.path.parent / cell) for cell in drawn)
    beside = prepare_stage(LAYOUTS, root, root / "manifest.csv").manifest
    assert all((root / cell).is_file() for cell in beside.table["annotation"] if cell)


def own(root, rows, header="path,patient,grade", slides=()):
    touch(root, *slides)
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


SLIDES = [f"{'left' if n % 2 else 'right'}/case_{n:02d}.svs" for n in range(12)]


@pytest.mark.parametrize("style", ["{}", "{stem}", "{name}", "{absolute}"])
def test_slides_are_named_by_path_or_by_name(tmp_path, style):
    def cell(slide):
        name = slide.partition("/")[2]
        return style.format(slide, stem=name[:-4], name=name, absolute=tmp_path / slide)

    root = own(tmp_path, [f"{cell(slide)},p{n // 2},{n % 2}" for n, slide in enumerate(SLIDES)], slides=SLIDES)
    assert recognise(root) == "folder"
    table, labels = to_manifest(root)
    assert labels == ("grade",) and table["path"].tolist() == SLIDES
    assert table["id"].tolist() == [f"case_{n:02d}" for n in range(12)]
    assert set(table["split"]) == {"train", "val", "test"} and table.groupby("patient")["split"].nunique().eq(1).all()
    assert set(table["mpp"]) == set(table["annotation"]) == {""}
    assert to_manifest(root / "labels.csv")[0]["path"].tolist() == SLIDES


def test_scale_and_outlines_pass_through(tmp_path):
    rows = [f"case_{n:02d},p{n},{n % 2},{'0.25' if n else 'NA'},{'case_01.xml' if n == 1 else ''}" for n in range(12)]
    own(tmp_path, rows, "path,patient,grade,MPP,annotation", [*SLIDES, "case_01.xml"])
    table = to_manifest(tmp_path)[0]
    assert table["mpp"].tolist() == ["", *["0.25"] * 11]
    assert table["annotation"].tolist() == ["", "case_01.xml", *[""] * 10]
    assert to_manifest(tmp_path, mpp=0.5)[0]["mpp"].tolist() == ["0.5", *["0.25"] * 11]
    (tmp_path / "case_01.xml").unlink()
    table = to_manifest(tmp_path)[0]
    assert set(table["annotation"]) == {""} and said(table, "1 annotations are not there")


def test_classes_patients_and_ids_as_elsewhere(tmp_path):
    rows = [f"{n},case_{n:02d},{'cancer' if n % 2 else 'normal'}" for n in range(12)]
    own(tmp_path, rows, "number,slide,kind", SLIDES)
    options = {"path_column": "slide", "class_column": "kind", "each_file_own_patient": True}
    table, labels = to_manifest(tmp_path, **options)
    assert labels == ("cancer",) and table["cancer"].tolist() == [0, 1] * 6
    assert (table["patient"] == table["id"]).all() and table["id"].iloc[0] == "case_00"
    assert to_manifest(tmp_path, id_column="number", **options)[0]["id"].tolist() == [str(n) for n in range(12)]
    with pytest.raises(DataError, match="Splits are by patient"):
        to_manifest(tmp_path, path_column="slide", class_column="kind")


def test_slides_that_are_missing_or_not_listed(tmp_path):
    rows = [f"case_{n:02d},p{n},{n % 2}" for n in range(12)]
    own(tmp_path, rows, slides=[*SLIDES[:10], "left/other.ndpi"])
    table = to_manifest(tmp_path)[0]
    assert len(table) == 10 and said(table, "2 listed files are not there and were left out; the first is case_10")
    assert said(table, "1 slides have no row in labels.csv and were left out; first left/other.ndpi")
    assert len(to_manifest(tmp_path, keep_missing=True)[0]) == 12
    own(tmp_path, [f"gone_{n},p{n},{n % 2}" for n in range(12)])
    with pytest.raises(DataError, match="12 of 12 listed files are not there"):
        to_manifest(tmp_path)


def test_two_slides_of_one_name(tmp_path):
    own(tmp_path, ["a/case.svs,p1,0", "b/case.svs,p2,1"], slides=["a/case.svs", "b/case.svs"])
    with pytest.raises(DataError, match=r"rows 2 and 3: a/case.svs and b/case.svs have one name") as caught:
        to_manifest(tmp_path)
    assert "id_column" in str(caught.value) and "\n" not in str(caught.value)
    own(tmp_path, ["case,p1,0"])
    with pytest.raises(DataError, match=r"'case' fits a/case\.svs and b/case\.svs"):
        to_manifest(tmp_path)
    rows = [f"{n % 2}/case_{n // 2}.svs,p{n},{n % 2},id{n}" for n in range(8)]
    (tmp_path / "x").mkdir()
    own(tmp_path / "x", rows, "path,patient,grade,name", [row.partition(",")[0] for row in rows])
    assert to_manifest(tmp_path / "x", id_column="name")[0]["id"].tolist() == [f"id{n}" for n in range(8)]


@pytest.mark.parametrize("scale", ["0", "-1", "fine", "inf", "1000"])
def test_a_scale_that_is_none_is_refused(tmp_path, scale):
    own(tmp_path, [f"case_{n:02d},p{n},{n % 2},{scale}" for n in range(12)], "path,patient,grade,mpp", SLIDES)
    with pytest.raises(DataError, match="slide case_00: mpp is"):
        to_manifest(tmp_path)


def test_the_table_may_lie_elsewhere(tmp_path):
    touch(tmp_path / "slides", *SLIDES)
    own(tmp_path, [f"case_{n:02d},p{n},{n % 2}" for n in range(12)])
    table, _ = to_manifest(tmp_path / "slides", "folder", table=tmp_path / "labels.csv")
    assert table["path"].tolist() == SLIDES


def test_phantoms_of_ones_own(tmp_path):
    root = write_slide_folder(tmp_path / "mine", slides=6, size_px=SMALL)
    manifest = prepare_stage(LAYOUTS, root, tmp_path / "manifest.csv").manifest
    assert manifest.labels == LABELS and manifest.table["mpp"].isin(["", "0.5"]).all()
    assert all(file.is_file() for file in manifest.files())
    assert all((tmp_path / cell).is_file() for cell in manifest.table["annotation"] if cell)
    np.testing.assert_array_equal(manifest.targets()[:, 0], [0, 1] * 3)


def test_folders_of_classes_and_bare_slides_are_layouts_too(tmp_path):
    assert list(LAYOUTS) == ["camelyon16", "folder", "folders", "unlabelled"]
    files = [f"{kind}/{kind[2:]}_{n}.svs" for kind in ("0-normal", "1-tumor") for n in range(6)]
    touch(tmp_path, *files)
    table, labels = to_manifest(tmp_path, each_file_own_patient=True)
    assert table.attrs["layout"] == "folders" and len(table) == 12 and len(labels) == 1
    bare, labels = to_manifest(tmp_path, "unlabelled", each_file_own_patient=True)
    assert labels == () and set(bare["split"]) == {"train"}


def test_labels_are_read_from_the_table_as_they_are(tmp_path):
    own(tmp_path, [f"case_{n:02d},p{n},{n % 2}" for n in range(12)], slides=SLIDES)
    table = to_manifest(tmp_path)[0]
    expected = pd.read_csv(tmp_path / "labels.csv").set_index("path")["grade"]
    assert (table.set_index("id")["grade"] == expected).all()


def dicom_table(root, rows, column="path"):
    (root / "labels.csv").write_text(f"{column},patient,tumor\n" + "".join(f"{row}\n" for row in rows))
    return root / "labels.csv"


@pytest.mark.parametrize("name", ["cases/{0}/SURNAME{0}_1.dcm", "cases/{0}/SURNAME{0}_0.dcm", "cases/{0}", "{0}"])
def test_dicom_slides_are_named_by_any_file_or_by_their_folder(tmp_path, name):
    for number in range(3):
        write_dicom_slide(tmp_path / f"cases/{number}", f"SURNAME{number}", np.zeros((64, 64, 3), np.uint8))
    rows = [f"{name.format(number)},p{number},{number % 2}" for number in range(3)]
    table, _ = to_manifest(dicom_table(tmp_path, rows))
    assert table["path"].tolist() == [f"cases/{number}/SURNAME{number}_1.dcm" for number in range(3)]
    assert table["id"].is_unique and not table["id"].str.contains("SURNAME").any()
    again, _ = to_manifest(tmp_path / "labels.csv")
    assert again["id"].tolist() == table["id"].tolist()


def test_a_table_of_all_files_has_a_row_per_dicom_slide(tmp_path):
    rows = []
    for number in range(4):
        files = write_dicom_slide(tmp_path, f"s{number}", np.zeros((64, 64, 3), np.uint8))
        rows += [f"{file.name},p{number},{number % 2}" for file in files]
    table, _ = to_manifest(dicom_table(tmp_path, rows))
    assert len(table) == 4 and table["patient"].tolist() == ["p0", "p1", "p2", "p3"]
    assert said(table, "8 rows name a further file of a DICOM slide")


def test_files_of_one_dicom_slide_with_different_labels_are_refused(tmp_path):
    for number in range(3):
        write_dicom_slide(tmp_path, f"s{number}", np.zeros((64, 64, 3), np.uint8))
    rows = ["s0_0.dcm,p0,0", "s0_1.dcm,p0,1", "s1_1.dcm,p1,0", "s2_1.dcm,p2,1"]
    with pytest.raises(DataError, match="rows 2 and 3"):
        to_manifest(dicom_table(tmp_path, rows))


def test_class_folders_of_dicom_slides(tmp_path):
    for number in range(4):
        folder = tmp_path / ("tumor", "normal")[number % 2] / f"case{number}"
        write_dicom_slide(folder, "x", np.zeros((64, 64, 3), np.uint8), PatientID=f"MRN{number}")
    table, _ = to_manifest(tmp_path, "folders")
    assert len(table) == 4 and table["patient"].nunique() == 4
    assert not table["patient"].str.contains("MRN").any() and said(table, "8 x further file")


def test_absolute_paths_on_another_disk_without_a_slide_below_the_table(tmp_path):
    (tmp_path / "here").mkdir()
    touch(tmp_path / "disk", *(f"s{number}.svs" for number in range(4)))
    rows = [f"{tmp_path}/disk/s{number}.svs,p{number},{number % 2}" for number in range(4)]
    table, labels = to_manifest(dicom_table(tmp_path / "here", rows))
    assert table["id"].tolist() == ["s0", "s1", "s2", "s3"] and labels == ("tumor",)
    assert table["path"].tolist() == [f"../disk/s{number}.svs" for number in range(4)]


def clam_table(root, label):
    names = [f"TCGA-{number:02d}-01Z-00-DX1.AB.{number}" for number in range(6)]
    lines = [f"case{number // 2},{name},{label(number)}" for number, name in enumerate(names)]
    (root / "dataset.csv").write_text("case_id,slide_id,label\n" + "\n".join(lines) + "\n")
    return names


def test_features_only_by_the_table_of_clam(tmp_path):
    names = clam_table(tmp_path, lambda number: ("normal_tissue", "tumor_tissue")[number // 2 % 2])
    touch(tmp_path, *(f"features/{name}.h5" for name in names))
    table, labels = to_manifest(tmp_path, keep_missing=True)
    assert table["id"].tolist() == names and labels == ("tumor_tissue",)
    assert table["patient"].tolist() == ["case0", "case0", "case1", "case1", "case2", "case2"]
    assert table["tumor_tissue"].tolist() == [0, 0, 1, 1, 0, 0]
    assert said(table, "'slide_id'") and said(table, "'case_id'") and said(table, "names in the column 'label'")


def test_slides_by_the_table_of_clam(tmp_path):
    names = clam_table(tmp_path, lambda number: number // 2 % 2)
    touch(tmp_path, *(f"slides/{name}.svs" for name in names))
    table, labels = to_manifest(tmp_path)
    assert table["path"].tolist() == [f"slides/{name}.svs" for name in names] and labels == ("label",)
    assert table["id"].tolist() == names


@pytest.mark.parametrize(
    "name, stem",
    [
        ("a.svs", "a"), ("TCGA-1-DX1.0A.SVS", "TCGA-1-DX1.0A"), ("TCGA-01Z-00-DX1.AB.CD", "TCGA-01Z-00-DX1.AB.CD"),
        ("1.2.840.5", "1.2.840.5"), ("a.qptiff", "a"), (".svs", ".svs"), ("a.b.h5", "a.b"),
    ],
)  # fmt: skip
def test_names_are_cut_at_known_suffixes_only(name, stem):
    assert slide_stem(name) == stem


def test_listed_files_of_unknown_kinds_are_there_and_fail_later(tmp_path):
    (tmp_path / "a.isyntax").write_bytes(b"philips")
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"s{number}.btf", "TIFF")
    rows = ["a.isyntax,p,1", *(f"s{number}.btf,p{number},{number % 2}" for number in range(3))]
    table, _ = to_manifest(dicom_table(tmp_path, rows))
    assert table["path"].tolist() == ["a.isyntax", "s0.btf", "s1.btf", "s2.btf"] and not said(table, "not there")
    assert said(table, "1 listed files are of no kind that is read as a slide")
    assert table["id"].tolist() == ["a.isyntax", "s0", "s1", "s2"]


def test_a_wrong_scale_is_overridden_by_option_or_column(tmp_path):
    write_slide_folder(tmp_path)
    path = tmp_path / next(each.name for each in tmp_path.glob("*.csv"))
    table, labels = to_manifest(tmp_path, mpp_override=0.4)
    assert (table["mpp_override"] == "0.4").all()
    write_manifest(tmp_path / "out.csv", table, labels)
    found = read_manifest(tmp_path / "out.csv", labels).microns_per_px()
    assert {type(each) for each in found} == {MppOverride} and set(found) == {0.4}
    pd.read_csv(path, dtype=str).assign(mpp_override="x").to_csv(path, index=False)
    with pytest.raises(DataError, match="mpp_override is 'x'"):
        to_manifest(path)


def test_tables_of_slides_have_the_policies_of_other_tables(tmp_path):
    """Readers, uncertain cells, columns that are no labels, capitals of names, a table with tabs."""
    rows = [
        f"CASE_{n:02d}\tp{n}\t{value}\t{n % 2}"
        for n in range(12)
        for value in ((1, 1, 0) if n % 2 else (0, "-1", 1 if n == 4 else 0))
    ]
    touch(tmp_path, *SLIDES)
    (tmp_path / "labels.tsv").write_text("\n".join(["path\tpatient\tgrade\tscanned_twice", *rows]) + "\n")
    assert recognise(tmp_path) == recognise(tmp_path / "labels.tsv") == "folder"
    table, labels = to_manifest(tmp_path, readers="majority", uncertain="zeros", not_labels=["scanned_twice"])
    assert labels == ("grade",) and table["path"].tolist() == SLIDES and table["grade"].tolist() == [0, 1] * 6
    table, _ = to_manifest(tmp_path, readers="any", uncertain="zeros", not_labels="scanned_twice")
    assert table["grade"].tolist() == [0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1]
    with pytest.raises(DataError, match=r"rows 2 and 3 are of one slide.*readers=majority"):
        to_manifest(tmp_path)


ELSEWHERE = ["/data/slides/{}", "D:\\Scans\\2024\\{}", "\\\\server\\share\\{}", "C:/x/{}", "/data/slides/{stem}"]


@pytest.mark.parametrize("style", ELSEWHERE)
@pytest.mark.parametrize("column", ["path", "Pfad", "slide_id"])
def test_absolute_paths_of_another_machine_name_the_slides_here(tmp_path, style, column):
    def cell(slide):
        name = slide.partition("/")[2]
        return style.format(name, stem=name[:-4])

    own(tmp_path, [f"{cell(s)},p{n},{n % 2}" for n, s in enumerate(SLIDES)], f"{column},patient,grade", SLIDES)
    table, labels = to_manifest(tmp_path)
    assert table["path"].tolist() == SLIDES and labels == ("grade",)
    assert table["id"].str.fullmatch(r"case_\d\d" if column == "slide_id" else r"(?:left/|right/)?case_\d\d").all()
    assert said(table, "12 absolute paths lead nowhere: the slides of their names below")


def test_slide_ids_that_are_paths_of_one_name_in_two_folders(tmp_path):
    slides = [f"{n % 2}/case_{n // 2:02d}.svs" for n in range(12)]
    own(tmp_path, [f"{tmp_path / s},p{n},{n % 2}" for n, s in enumerate(slides)], "slide_id,case_id,grade", slides)
    with pytest.raises(DataError, match=r"0/case_00\.svs and 1/case_00\.svs have one name"):
        to_manifest(tmp_path)


def test_a_relative_path_names_no_slide_in_another_folder(tmp_path):
    rows = [f"{'right' if n == 1 else 'left' if n % 2 else 'right'}/case_{n:02d}.svs,p{n},{n % 2}" for n in range(12)]
    own(tmp_path, rows, slides=SLIDES)
    table = to_manifest(tmp_path)[0]
    assert len(table) == 11 and said(table, "1 listed files are not there and were left out")


@pytest.mark.parametrize("before", [False, True])
def test_slides_on_another_disk_are_refused_before_a_manifest_is_written(tmp_path, before):
    disk, root, out = tmp_path / "disk", tmp_path / "tables", tmp_path / "out/manifest.csv"
    slides = [f"case_{n:02d}.svs" for n in range(12)]
    touch(disk, *slides)
    root.mkdir()
    own(root, [f"{disk / slide},p{n},{n % 2}" for n, slide in enumerate(slides)])
    if before:
        out.parent.mkdir()
        out.write_text("as it was")
    with pytest.raises(DataError, match=f"leads out of .* prepare with --data-root {disk}"):
        prepare_stage(LAYOUTS, root / "labels.csv", out)
    assert out.read_text() == "as it was" if before else not out.exists()
    found = prepare_stage(LAYOUTS, root / "labels.csv", out, data_roots=[disk]).manifest
    assert all(file.is_file() for file in found.files())
    for slide in slides:
        (disk / slide).unlink()
    with pytest.raises(DataError, match=r"12 of 12 listed files are not there.*lie in now \(--data-root\)"):
        prepare_stage(LAYOUTS, root / "labels.csv", out)
