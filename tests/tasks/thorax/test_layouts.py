import gzip
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest import layouts
from clinvit.datasets.manifest.tables import read_manifest, write_manifest
from clinvit.phantoms.radiographs import write_chestxray14
from clinvit.tasks.thorax.labels import CHESTXRAY14, CHEXPERT, CHEXPERT14, MIMIC, VINDR
from clinvit.tasks.thorax.layouts import LAYOUTS
from clinvit.tasks.thorax.layouts.box_list import boxes

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)

recognise, to_manifest = (partial(function, LAYOUTS) for function in (layouts.recognise, layouts.to_manifest))
CHEXPERT_HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT14)


def touch(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def patients(table, split):
    return set(table.loc[table["split"] == split, "patient"])


def assert_sound(table, labels, root):
    """Patients in one split only, paths that exist, and a manifest that reads back."""
    assert not patients(table, "train") & patients(table, "val")
    assert not (patients(table, "train") | patients(table, "val")) & patients(table, "test")
    assert all((root / path).is_file() for path in table["path"])
    write_manifest(root / "manifest_of_test.csv", table, labels)
    manifest = read_manifest(root / "manifest_of_test.csv", labels)
    assert manifest.labels == tuple(labels)
    np.testing.assert_array_equal(manifest.targets(), table[list(labels)].to_numpy(np.float32))
    (root / "manifest_of_test.csv").unlink()


# ChestX-ray14


def nih(
    root,
    *,
    trailing=True,
    sex="Gender",
    flat=False,
    name="Data_Entry_2017.csv",
    patients=20,
    header_comma=True,
):
    """Twenty patients with two images each; the last four are the test patients."""
    rows, lists = [], {"train_val": [], "test": []}
    for patient in range(1, patients + 1):
        for follow_up in range(2):
            file = f"{patient:08d}_{follow_up:03d}.png"
            findings = ["No Finding", "Effusion", "Effusion|Pleural_Thickening", "Mass"][patient % 4]
            row = f"{file},{findings},{follow_up},{patient},058Y,M,PA,2682,2749,0.143,0.143"
            rows.append(row + ("," if trailing else ""))
            lists["test" if patient > patients - 4 else "train_val"].append(file)
            touch(root, file if flat else f"images_{1 + patient // 2:03d}/images/{file}")
    header = NIH_HEADER.replace("Gender", sex) + ("," if trailing and header_comma else "")
    write(root / name, header, *rows)
    for part, files in lists.items():
        write(root / f"{part}_list.txt", *files)
    write(
        root / "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,",
        "00000017_000.png,Infiltrate,256,512,128,64,,,",
        "00000018_001.png,Mass,225.084745762712,547.019216763771,86.7796610169492,79.1864406779661,,,",
    )
    return root


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"trailing": False, "name": "Data_Entry_2017_v2020.csv"},
        {"header_comma": False},
        {"sex": "Sex", "flat": True},
    ],
)
def test_chestxray14_as_downloaded(tmp_path, variant):
    root = nih(tmp_path, **variant)
    assert recognise(root) == "chestxray14"
    table, labels = to_manifest(root)
    assert labels == CHESTXRAY14 and len(table) == 40
    assert_sound(table, labels, root)
    assert patients(table, "test") == {f"{patient:08d}" for patient in range(17, 21)} and patients(table, "val")
    row = table.set_index("id").loc["00000002_001"]
    assert row["patient"] == "00000002" and row["age"] == 58 and row["follow_up"] == 1 and row["sex"] == "M"
    assert [label for label in labels if row[label] == 1] == ["Effusion", "Pleural_Thickening"]
    assert not table.set_index("id").loc["00000004_000", list(labels)].any()
    assert table.attrs["meaning"]["Mass"].startswith("1 = ") and table.attrs["layout"] == "chestxray14"


def test_chestxray14_phantoms_are_read_as_the_real_set(tmp_path):
    root = write_chestxray14(tmp_path, patients=16, size=32)
    table, labels = to_manifest(root)
    assert_sound(table, labels, root)
    outlines = boxes(root)
    assert set(outlines["id"]) <= set(table.loc[table["split"] == "test", "id"])
    found = table.set_index("id")
    assert all(found.loc[row.id, row.label] == 1 for row in outlines.itertuples())
    assert outlines[["x", "y", "w", "h"]].ge(0).all(axis=None)
    assert (outlines["x"] + outlines["w"]).le(1).all() and (outlines["y"] + outlines["h"]).le(1).all()


def test_chestxray14_boxes_are_fractions(tmp_path):
    outlines = boxes(nih(tmp_path))
    assert list(outlines.columns) == ["id", "label", "x", "y", "w", "h"]
    assert outlines.iloc[0].tolist() == ["00000017_000", "Infiltration", 0.25, 0.5, 0.125, 0.0625]
    write(
        tmp_path / "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,",
        "a.png,Mass,1,2,0,4,,,",
    )
    with pytest.raises(DataError, match="row 2"):
        boxes(tmp_path)


@pytest.mark.parametrize("given", ["", "findings.csv"], ids=["folder", "table"])
def test_boxes_beside_a_table_of_ones_own(tmp_path, given):
    nih(tmp_path)
    for name in ("Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt"):
        (tmp_path / name).unlink()
    images = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    write(
        tmp_path / "findings.csv",
        "path,patient,Infiltration",
        *(f"{image},{Path(image).name[:8]},{row % 2}" for row, image in enumerate(images)),
    )
    listed = tmp_path / "BBox_List_2017.csv"
    listed.write_text(listed.read_text() + "00000018_000.png,Mass,1,2,3,4,,,\n")
    table, labels = to_manifest(tmp_path / given)
    assert labels == ("Infiltration",) and [box.label for box in table.attrs["boxes"]] == ["Infiltration"]
    case = table.set_index("id").loc[table.attrs["boxes"][0].id]
    assert case["path"].endswith("00000017_000.png") and table.attrs["boxes"][0][2:4] == (256, 512)
    assert any("no label here (Mass)" in text for text in table.attrs["notes"])
    own = tmp_path / "findings.csv"
    head, *rows = own.read_text().splitlines()
    write(own, f"{head},xmin,ymin,xmax,ymax", *(f"{row},1,1,9,9" for row in rows))
    table, _ = to_manifest(tmp_path / given)
    assert all(box.x_px == 1 for box in table.attrs["boxes"])
    assert any("BBox_List_2017.csv beside the table was left out" in text for text in table.attrs["notes"])


def test_chestxray14_partial_downloads_are_counted(tmp_path):
    root = nih(tmp_path)
    for path in sorted(root.glob("images_00[1-3]/images/*.png")):
        path.unlink()
    table, labels = to_manifest(root)
    assert len(table) == 30
    assert "10 listed files are not there and were left out; the first is 00000001_000.png." in table.attrs["notes"]
    assert_sound(table, labels, root)
    kept, _ = to_manifest(root, keep_missing=True)
    assert len(kept) == 40 and (kept["path"] != "").all()
    for path in sorted(root.glob("images_00[4-9]/images/*.png")):
        path.unlink()
    with pytest.raises(DataError, match=r"34 of 40 listed files are not there"):
        to_manifest(root)


def test_chestxray14_smaller_jpeg_copies_are_found(tmp_path):
    root = nih(tmp_path)
    for path in list(root.glob("images_*/images/*.png")):
        path.rename(path.with_suffix(".jpg"))
    table, _ = to_manifest(root)
    assert len(table) == 40 and table["path"].str.endswith(".jpg").all()


def test_chestxray14_with_the_lists_of_the_paper(tmp_path, shared_data):
    lists = shared_data / "chestxray14_splits"
    rows = []
    for split, count in (("train", 30), ("val", 10), ("test", 20)):
        with gzip.open(lists / f"{split}_official.txt.gz", "rt") as file:
            rows += [next(file).split() for _ in range(count)]
    lines = []
    for file, *values in rows:
        findings = "|".join(label for label, value in zip(CHESTXRAY14, values) if value == "1") or "No Finding"
        lines.append(f"{file},{findings},{int(file[9:12])},{int(file[:8])},58,F,AP,2682,2749,0.143,0.143")
        touch(tmp_path, f"images/{file}")
    write(tmp_path / "Data_Entry_2017_v2020.csv", NIH_HEADER, *lines)
    table, labels = to_manifest(tmp_path, paper_lists=lists)
    assert table["split"].value_counts().to_dict() == {"train": 30, "val": 10, "test": 20}
    assert_sound(table, labels, tmp_path)
    np.testing.assert_array_equal(table[list(labels)], np.array([row[1:] for row in rows], float))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("Data_Entry_2017.csv", "Finding Labels", "Findings Labels", "did you mean 'Findings Labels'"),
        ("Data_Entry_2017.csv", "Mass", "Masss", "row 6: unknown finding 'Masss' .did you mean 'Mass'"),
        (
            "Data_Entry_2017.csv",
            "00000002_000.png",
            "00000001_000.png",
            "image '00000001_000' stands twice",
        ),
        ("test_list.txt", "00000017_000.png", "00000001_000.png", "is listed twice in"),
        ("test_list.txt", "00000017_000.png\n", "", "1 images are in none of the lists"),
        ("BBox_List_2017.csv", "Infiltrate", "Infiltrat", "did you mean 'Infiltration'"),
    ],
)
def test_chestxray14_what_is_wrong_is_named(tmp_path, file, old, new, message):
    path = nih(tmp_path) / file
    path.write_text(path.read_text().replace(old, new))
    if "none of the lists" in message:
        assert any(message in sentence for sentence in to_manifest(tmp_path)[0].attrs["notes"])
        return
    with pytest.raises(DataError, match=message):
        boxes(tmp_path)
        to_manifest(tmp_path)


def test_chestxray14_lists_that_split_a_patient_are_refused(tmp_path):
    root = nih(tmp_path)
    train = (root / "train_val_list.txt").read_text()
    write(root / "train_val_list.txt", train + "00000017_000.png")
    test = (root / "test_list.txt").read_text()
    (root / "test_list.txt").write_text(test.replace("00000017_000.png\n", ""))
    with pytest.raises(DataError, match="patient '00000017' is in test and train"):
        to_manifest(root)


def test_chestxray14_without_lists_is_refused(tmp_path):
    (nih(tmp_path) / "test_list.txt").unlink()
    with pytest.raises(DataError, match=r"test_list\.txt: no such list"):
        to_manifest(tmp_path)


@pytest.mark.parametrize(("cell", "years"), [("058Y", 58), ("58", 58), ("018M", 1), ("011D", 0), ("412", pd.NA)])
def test_chestxray14_ages(tmp_path, cell, years):
    path = nih(tmp_path) / "Data_Entry_2017.csv"
    path.write_text(path.read_text().replace("058Y", cell, 1))
    table, _ = to_manifest(tmp_path)
    assert table["age"].iloc[0] is years if years is pd.NA else table["age"].iloc[0] == years


# CheXpert


def chexpert(root, folder="CheXpert-v1.0-small", prefix="CheXpert-v1.0-small"):
    base = root / folder
    cells = ["1.0", "0.0", "-1.0", ""]
    parts = {"train": [], "valid": []}
    for patient in range(1, 25):
        part = "valid" if patient > 20 else "train"
        for side, view in (("frontal", "AP"), ("lateral", "")):
            file = f"{part}/patient{patient:05d}/study1/view1_{side}.jpg"
            values = [cells[(patient + i) % (2 if part == "valid" else 4)] for i in range(14)]
            parts[part].append(f"{prefix}/{file},Female,68,{side.title()},{view}," + ",".join(values))
            touch(base, file)
    for part, rows in parts.items():
        write(base / f"{part}.csv", CHEXPERT_HEADER, *rows)
    return base


@pytest.mark.parametrize("prefix", ["CheXpert-v1.0-small", "CheXpert-v1.0", "somewhere/else/train"])
def test_chexpert_as_downloaded(tmp_path, prefix):
    base = chexpert(tmp_path / "renamed", folder="my copy", prefix=prefix)
    assert recognise(base) == "chexpert"
    table, labels = to_manifest(base)
    assert labels == CHEXPERT and len(table) == 24 and set(table["view"]) == {"AP"}
    assert_sound(table, labels, base)
    assert patients(table, "test") == {f"patient{patient:05d}" for patient in range(21, 25)} and patients(table, "val")
    assert any("24 lateral views" in sentence for sentence in table.attrs["notes"])


def test_chexpert_from_the_folder_above(tmp_path):
    chexpert(tmp_path)
    table, labels = to_manifest(tmp_path, labels=14, lateral=True)
    assert labels == CHEXPERT14 and len(table) == 48
    assert_sound(table, labels, tmp_path)


def test_chexpert_policies(tmp_path):
    base = chexpert(tmp_path)
    raw = pd.read_csv(base / "train.csv")
    raw = raw[raw["Frontal/Lateral"] == "Frontal"].set_index("Path")

    def read(**options):
        table, labels = to_manifest(base, **options)
        table = table[table["split"] != "test"].set_index("path")
        return table.loc[raw.index.str.removeprefix("CheXpert-v1.0-small/"), list(labels)].to_numpy()

    cells = raw[list(CHEXPERT)].to_numpy()
    np.testing.assert_array_equal(read(), np.where(cells == -1, np.nan, cells))
    np.testing.assert_array_equal(read(uncertain="ones"), np.where(cells == -1, 1, cells))
    np.testing.assert_array_equal(
        read(uncertain="zeros", blanks="zeros"), np.nan_to_num(np.where(cells == -1, 0, cells))
    )
    mixed = np.where(cells == -1, np.isin(CHEXPERT, ["Edema", "Atelectasis"]), cells)
    np.testing.assert_array_equal(read(uncertain="paper"), np.nan_to_num(mixed))


@pytest.mark.parametrize(
    ("old", "new", "options", "message"),
    [
        ("Edema", "Oedema", {}, "no column 'Edema'"),
        ("-1.0", "2", {}, "it is 1, 0, -1 .uncertain. or empty"),
        ("/patient00001/study1/", "/", {}, "row 2: .* is no path like"),
        ("", "", {"uncertain": "onse"}, "did you mean 'ones'"),
        ("", "", {"labels": 7}, "5 .the scored ones. or 14"),
        ("", "", {"uncertian": "ones"}, "no option 'uncertian' .did you mean 'uncertain'"),
    ],
)
def test_chexpert_what_is_wrong_is_named(tmp_path, old, new, options, message):
    path = chexpert(tmp_path) / "train.csv"
    path.write_text(path.read_text().replace(old, new) if old else path.read_text())
    with pytest.raises(DataError, match=message):
        to_manifest(path.parent, "chexpert", **options)


# MIMIC-CXR-JPG


def mimic(root):
    images, splits, labels = [], [], []
    names = sorted(CHEXPERT14)
    for number in range(12):
        subject, study = 10000032 + number * 100003, 50414267 + number
        split = "train" if number < 8 else ("validate", "test")[number % 2]
        for view in ("PA", "LATERAL"):
            image = f"{number:08x}-{view.lower()}"
            images.append(f"{image},{subject},{study},CHEST,{view},3056,2544,21800506,213014.531,,,Erect")
            splits.append(f"{image},{study},{subject},{split}")
            touch(root, f"files/p{str(subject)[:2]}/p{subject}/s{study}/{image}.jpg")
        cells = dict.fromkeys(names, "")
        if number % 3 == 0:
            cells["No Finding"] = "1.0"
        else:
            cells |= {"Edema": "1.0", "Pneumonia": "-1.0", "Fracture": "0.0"}
        if number != 7:
            labels.append(f"{subject},{study}," + ",".join(cells.values()))
    write(
        root / "mimic-cxr-2.0.0-metadata.csv.gz",
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
        "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning",
        *images,
    )
    write(root / "mimic-cxr-2.0.0-split.csv.gz", "dicom_id,study_id,subject_id,split", *splits)
    write(root / "mimic-cxr-2.0.0-chexpert.csv.gz", "subject_id,study_id," + ",".join(names), *labels)
    return root


def test_mimic_as_downloaded(tmp_path):
    root = mimic(tmp_path)
    assert recognise(root) == "mimic"
    table, labels = to_manifest(root)
    assert labels == MIMIC and len(table) == 12 and set(table["view"]) == {"PA"}
    assert_sound(table, labels, root)
    assert table["split"].value_counts().to_dict() == {"train": 8, "val": 2, "test": 2}
    assert table["path"][0] == "files/p10/p10000032/s50414267/00000000-pa.jpg"
    healthy, ill, unreported = (table.iloc[row] for row in (0, 1, 7))
    assert healthy["Edema"] == 0 and np.isnan(healthy["Support Devices"])
    assert ill["Edema"] == 1 and np.isnan(ill["Pneumonia"]) and ill["Fracture"] == 0 and np.isnan(ill["Atelectasis"])
    assert unreported[list(labels)].isna().all()
    assert len(table.attrs["notes"]) == 2


def test_mimic_options(tmp_path):
    root = mimic(tmp_path)
    assert len(to_manifest(root, views=())[0]) == 24
    assert to_manifest(root, no_finding_is_zero=False)[0].loc[0, list(MIMIC)].isna().all()
    assert to_manifest(root, uncertain="zeros")[0].loc[1, "Pneumonia"] == 0
    with pytest.raises(DataError, match="negbio"):
        to_manifest(root, labeller="negbio")
    with pytest.raises(DataError, match="no image with the views XX"):
        to_manifest(root, views=("XX",))


def test_mimic_files_not_downloaded(tmp_path):
    root = mimic(tmp_path)
    for path in sorted(root.glob("files/p10/*/*/*-pa.jpg"))[:3]:
        path.unlink()
    assert len(to_manifest(root)[0]) == 9
    assert len(to_manifest(root, keep_missing=True)[0]) == 12
    write(root / "mimic-cxr-2.0.0-split.csv.gz", "dicom_id,study_id,subject_id,split", "x,1,2,train")
    with pytest.raises(DataError, match="has no split"):
        to_manifest(root)


# COVIDx


def covidx(root, version="9A", classes=("normal", "pneumonia", "COVID-19")):
    for part, count in (("train", 30), ("test", 6)):
        lines = []
        for i in range(count):
            patient = f"{part}{i // 2}" if i else "shared"
            source = "rnsa" if i == 3 else "rsna"
            lines.append(f"{patient} {i}.jpg {classes[i % len(classes)]} {source}")
            touch(root, f"{part}/{i}.jpg")
        write(root / f"{part}_COVIDx{version}.txt", *lines)
    return root


@pytest.mark.parametrize("version", ["9A", "_CXR-3A"])
def test_covidx_as_downloaded(tmp_path, version):
    root = covidx(tmp_path, version)
    assert recognise(root) == "covidx"
    table, labels = to_manifest(root)
    assert labels == ("normal", "pneumonia", "COVID-19") and table.attrs["exclusive"]
    assert (table[list(labels)].sum(axis=1) == 1).all() and set(table["source"]) == {"rsna"}
    assert len(table) == 35 and "shared" in patients(table, "test") and patients(table, "val")
    assert any("1 train images of patients who are in test" in sentence for sentence in table.attrs["notes"])
    assert_sound(table, labels, root)


def test_covidx_binary(tmp_path):
    table, labels = to_manifest(covidx(tmp_path, "9B", ("negative", "positive")))
    assert labels == ("COVID-19",) and set(table["COVID-19"]) == {0, 1} and "exclusive" not in table.attrs


def test_covidx_several_lists_need_a_version(tmp_path):
    covidx(tmp_path, "9B", ("negative", "positive"))
    covidx(tmp_path)
    with pytest.raises(DataError, match="Name one by version: 9A, 9B"):
        to_manifest(tmp_path)
    assert to_manifest(tmp_path, version="9B")[1] == ("COVID-19",)
    with pytest.raises(DataError, match="found train_COVIDx9A"):
        to_manifest(tmp_path, version="8")
    covidx(tmp_path, "")
    assert to_manifest(tmp_path, version=1)[1] == ("normal", "pneumonia", "COVID-19")
    with pytest.raises(DataError, match="Name one by version: 1, 9A, 9B"):
        to_manifest(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("p 1.jpg", "line 37 has not the fields patient, file, class"),
        ("p 1.jpg pneumonias rsna", "did you mean 'pneumonia'"),
        ("q 1.jpg normal rsna", "'train/1' stands twice"),
    ],
)
def test_covidx_what_is_wrong_is_named(tmp_path, line, message):
    path = covidx(tmp_path) / "train_COVIDx9A.txt"
    line = line if "fields" not in message else "\n" * 6 + line
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=message):
        to_manifest(tmp_path)


# Any


def test_own_layouts_are_recognised(tmp_path):
    touch(tmp_path / "tree", *(f"{name}/{i}.png" for name in ("ill", "normal") for i in range(6)))
    assert recognise(tmp_path / "tree") == "folders"
    assert to_manifest(tmp_path / "tree", each_file_own_patient=True)[1] == ("ill",)
    rows = [f"../tree/ill/{i}.png,p{i},{i % 2}" for i in range(6)]
    write(tmp_path / "table" / "x.csv", "path,patient,mass", *rows)
    assert recognise(tmp_path / "table") == recognise(tmp_path / "table" / "x.csv") == "csv"
    assert to_manifest(tmp_path / "table")[1] == ("mass",)


def test_an_unknown_layout_names_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"no known layout.*Data_Entry_2017\.csv.*folder per class"):
        recognise(tmp_path)
    with pytest.raises(DataError, match="did you mean 'chexpert'"):
        to_manifest(tmp_path, "chexprt")
    with pytest.raises(DataError, match="no such folder"):
        to_manifest(tmp_path / "nowhere")
    for name in LAYOUTS:
        with pytest.raises(DataError, match=str(Path(tmp_path).name)):
            to_manifest(tmp_path, name)


# COVIDx, as each version writes its lists


@pytest.mark.parametrize(
    ("names", "lines", "labels", "patient"),
    [
        (("train_split_v1.txt", "test_split_v1.txt"), "{0} a{0}.jpeg {1}",
         ("normal", "bacteria", "viral", "COVID-19"), "1"),
        (("train_COVIDx.txt", "test_COVIDx.txt"), "{0} a{0}.jpeg {1}", ("normal", "pneumonia", "COVID-19"), "1"),
        (("train_COVIDx2.txt", "test_COVIDx2.txt"), "{0} a{0}.PNG {1}", ("normal", "pneumonia", "COVID-19"), "1"),
        (("train_COVIDx7A.txt", "test_COVIDx7A.txt"), "COVID {0} COVID({0}).png {1} sirm",
         ("normal", "pneumonia", "COVID-19"), "COVID 1"),
        (("train_COVIDx8B.txt", "test_COVIDx8B.txt"), "COVID {0} COVID({0}).png {1} sirm", ("negative", "positive"),
         "COVID 1"),
        (("train_COVIDxSev.txt", "test_COVIDxSev.txt"), "p{0} a-{0}-0.png {1} ricord", ("level1", "level2"), "p1"),
        (("labels/train_COVIDx5.txt", "labels/test_COVIDx5.txt"), "{0} a{0}.png {1} cohen",
         ("normal", "pneumonia", "COVID-19"), "1"),
        (("train.txt", "test.txt"), "{0} a{0}.png {1} cohen", ("negative", "positive"), "1"),
    ],
)  # fmt: skip
def test_covidx_of_every_version(tmp_path, names, lines, labels, patient):
    data = tmp_path / "data" if names[0].startswith("labels/") else tmp_path
    for part, name, numbers in (("train", names[0], range(1, 41)), ("test", names[1], range(41, 61))):
        listed = [lines.format(number, labels[number % len(labels)]) for number in numbers]
        write(tmp_path / name, *listed)
        touch(data, *(f"{part}/{word}" for line in listed for word in line.split() if "." in word))
    assert recognise(tmp_path) == "covidx"
    table, found = to_manifest(tmp_path)
    assert len(table) == 60 and table["patient"].iloc[0] == patient
    assert found == (("COVID-19",) if labels[0] == "negative" else labels if len(labels) > 2 else ("level2",))
    if len(labels) > 2:
        assert (table[list(found)].sum(axis=1) == 1).all() and table.attrs["exclusive"]
        assert table.loc[0, labels[1]] == 1
    else:
        assert table[found[0]].iloc[:4].tolist() == [1, 0, 1, 0]
    assert_sound(table, found, tmp_path)


def test_covidx_lines_with_and_without_source_in_one_list(tmp_path):
    """Versions 3 to 7 have the source for some lines of the test list only; 1 and 4 repeat lines."""
    root = covidx(tmp_path, "7A")
    text = (root / "test_COVIDx7A.txt").read_text()
    write(root / "test_COVIDx7A.txt", text.replace(" rsna", "", 3).strip())
    train = (root / "train_COVIDx7A.txt").read_text().strip()
    write(root / "train_COVIDx7A.txt", train, train.splitlines()[5], "another 7.jpg pneumonia rsna")
    table, labels = to_manifest(root)
    assert len(table) == 35 and list(table.loc[table["split"] == "test", "source"]).count("") == 3
    assert any("2 lines repeat an image and its class" in sentence for sentence in table.attrs["notes"])
    assert_sound(table, labels, root)


def test_covidx_images_that_differ_in_their_suffix_alone(tmp_path):
    root = covidx(tmp_path, "6")
    train = (root / "train_COVIDx6.txt").read_text().strip()
    write(root / "train_COVIDx6.txt", train, "another 7.png normal cohen")
    touch(root, "train/7.png")
    table, labels = to_manifest(root)
    assert {"train/7.jpg", "train/7.png", "train/8"} <= set(table["id"]) and len(table) == 36
    assert_sound(table, labels, root)


def test_covidx_with_a_list_of_val(tmp_path):
    for part, numbers in (("train", range(20)), ("val", range(20, 28)), ("test", range(28, 36))):
        write(tmp_path / f"{part}.txt", *(f"p{n} {n}.png {('negative', 'positive')[n % 2]} x" for n in numbers))
        touch(tmp_path, *(f"{part}/{n}.png" for n in numbers))
    table, labels = to_manifest(tmp_path)
    assert table["split"].value_counts().to_dict() == {"train": 20, "val": 8, "test": 8}
    assert_sound(table, labels, tmp_path)


# ChestX-ray14, parts without lists

SAMPLE_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImageWidth,"
    "OriginalImageHeight,OriginalImagePixelSpacing_x,OriginalImagePixelSpacing_y"
)


def test_the_sample_of_chestxray14_is_dealt_out_with_a_warning(tmp_path):
    rows = []
    for patient in range(1, 31):
        file = f"{patient:08d}_013.png"
        finding = ("No Finding", "Emphysema|Infiltration|Pleural_Thickening|Pneumothorax")[patient % 2]
        rows.append(f"{file},{finding},13,{patient},060Y,M,AP,3056,2544,0.139,0.139")
        touch(tmp_path, f"sample/images/{file}", f"sample/sample/images/{file}")
    write(tmp_path / "sample_labels.csv", SAMPLE_HEADER, *rows)
    assert recognise(tmp_path) == "chestxray14"
    table, labels = to_manifest(tmp_path)
    assert set(table["split"]) == {"train", "val", "test"} and len(table) == 30 and labels == CHESTXRAY14
    assert table["path"].str.startswith("sample/images/").all() and set(table["age"]) == {60}
    assert any("cannot be compared" in sentence for sentence in table.attrs["warnings"])
    assert_sound(table, labels, tmp_path)


def test_a_part_of_chestxray14_without_lists_is_dealt_out(tmp_path):
    root = nih(tmp_path)
    for part in ("train_val", "test"):
        (root / f"{part}_list.txt").unlink()
    table, labels = to_manifest(root)
    assert set(table["split"]) == {"train", "val", "test"} and len(table) == 40
    assert any("no train_val_list.txt and no test_list.txt" in sentence for sentence in table.attrs["warnings"])
    assert_sound(table, labels, root)


# CheXpert Plus


def chexpert_plus(root, images="PNG", suffix=".png"):
    columns = (
        "path_to_image,path_to_dcm,frontal_lateral,ap_pa,deid_patient_id,patient_report_date_order,report,age,sex,race,"
        "ethnicity,interpreter_needed,insurance_type,recent_bmi,deceased,split"
    )
    rows, labels = [], []
    for patient in range(1, 25):
        split = "valid" if patient > 20 else "train"
        for view, side in (("frontal", "AP"), ("lateral", "")):
            name = f"{split}/patient{patient:05d}/study1/view1_{view}"
            rows.append(
                f'{name}.jpg,{name}.dcm,{view.title()},{side},patient{patient:05d},1,"Clear.\nNo, ""edema"".",63,Male,'
                f"White,Unknown,No,,21.4,No,{split}"
            )
            touch(root, f"{images}/{name}{suffix}")
            cells = dict.fromkeys(CHEXPERT14, None) | {"Edema": [1.0, 0.0, -1.0, None][patient % 4]}
            if patient != 7:
                labels.append(json.dumps({"path_to_image": f"{name}.jpg", **cells}))
    write(root / "df_chexpert_plus_240401.csv", columns, *rows)
    write(root / "chexbert_labels" / "impression_fixed.json", *labels)
    return root


@pytest.mark.parametrize(("images", "suffix"), [("PNG", ".png"), ("PNG/PNG", ".png"), ("DICOM", ".dcm")])
def test_chexpert_plus_as_downloaded(tmp_path, images, suffix):
    root = chexpert_plus(tmp_path, images, suffix)
    assert recognise(root) == "chexpert_plus"
    table, labels = to_manifest(root)
    assert labels == CHEXPERT and len(table) == 24 and set(table["view"]) == {"AP"}
    assert patients(table, "test") == {f"patient{patient:05d}" for patient in range(21, 25)} and patients(table, "val")
    rows = table.set_index("patient")["Edema"]
    assert rows["patient00004"] == 1 and rows["patient00001"] == 0 and np.isnan(rows["patient00002"])
    assert any("1 images have no labels of their impression" in text for text in table.attrs["notes"]) is False
    assert any("2 images have no labels of their impression" in text for text in table.attrs["notes"])
    assert to_manifest(root, uncertain="ones", blanks="zero")[0].set_index("patient")["Edema"]["patient00002"] == 1
    assert_sound(table, labels, root)
    with pytest.raises(DataError, match=r"no findings_fixed\.json"):
        to_manifest(root, section="findings")
    write(root / "chexbert_labels" / "report_fixed.json", '{"path_to_image": "x"}', "{")
    with pytest.raises(DataError, match=r"report_fixed\.json: line 2 is not readable JSON"):
        to_manifest(root, section="report")


# PadChest

PADCHEST_HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,"
    "PixelRepresentation_DICOM,PixelAspectRatio_DICOM,SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,"
    "WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,ExposureInuAs_DICOM,ExposureTime,"
    "RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,Localizations,LabelsLocalizationsBySentence,labelCUIS,"
    "LocalizationsCUIS"
)


def padchest(root, flat=False):
    findings = [
        "['normal']", "['cardiomegaly', ' pleural effusion']", "['pleural effusion ', 'unchanged']", "['COPD signs']",
        "['unchanged']", "", "['exclude']",
    ]  # fmt: skip
    rows = []
    for number in range(42):
        image = f"{216840111366964012 + number}_04-014-{number:03d}.png"
        view = "L" if number % 6 == 5 else ("PA", "AP_horizontal")[number % 2]
        method = ("Physician", "RNN_model")[number % 2]
        cells = [
            number, image, number % 3, 20140915, f"s{number}", f"p{number // 2}", "1930.0", "F", "POSTEROANTERIOR",
            view, "Manual review of DICOM fields", "No", "DX", "X", "MONOCHROME2", 0, "", 0.1, 12, 2048, 4096, 2000,
            2000, "", "", "", "", "", f"r{number}", "sin hallazgos", method, f'"{findings[number % 7]}"', "['loc']",
            "\"[['normal'], ['normal', 'loc']]\"", "[]", "[]",
        ]  # fmt: skip
        rows.append(",".join(map(str, cells)))
        touch(root, image if flat else f"{number % 3}/{image}")
    write(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", PADCHEST_HEADER, *rows)
    return root


@pytest.mark.parametrize("flat", [False, True])
def test_padchest_as_downloaded(tmp_path, flat):
    root = padchest(tmp_path, flat)
    assert recognise(root) == "padchest"
    table, labels = to_manifest(root)
    assert labels == ("pleural effusion", "cardiomegaly", "copd signs") and set(table["view"]) == {
        "PA",
        "AP_horizontal",
    }
    notes = " ".join(table.attrs["notes"])
    assert "18 images have no label that says what they show" in notes and "projections other than PA, AP" in notes
    row = table.set_index("id").loc["216840111366964013_04-014-001"]
    assert row[list(labels)].tolist() == [1, 1, 0] and row["age"] == 84 and row["sex"] == "F" and row["study"] == "s1"
    assert not table.set_index("id").loc["216840111366964012_04-014-000", list(labels)].any()
    assert row["source"] == "RNN_model" and set(table["split"]) == {"train", "val", "test"}
    assert_sound(table, labels, root)


def test_padchest_options(tmp_path):
    root = padchest(tmp_path)
    assert to_manifest(root, labels="COPD signs")[1] == ("copd signs",)
    assert set(to_manifest(root, labelled_by="physicians")[0]["source"]) == {"Physician"}
    table, labels = to_manifest(root, least=6, views=[])
    assert labels == ("pleural effusion", "cardiomegaly", "copd signs") and "L" in set(table["view"])
    with pytest.raises(DataError, match="no finding has 100 images"):
        to_manifest(root, least=100)
    with pytest.raises(DataError, match="did you mean 'cardiomegaly'"):
        to_manifest(root, labels=["cardiomegali"])


# VinDr-CXR


def vindr(root, suffix=".dicom"):
    columns = [name for name in VINDR if name != "Other diseases"]
    for part, count in (("train", 20), ("test", 5)):
        rows, boxes = [], []
        for number in range(count):
            image = f"{part}{number:028x}"
            for reader in range(3 if part == "train" else 1):
                cells = ["0"] * len(columns)
                cells[3] = str(int(number % 2 == 0 and reader != 2))
                cells[1] = str(int(number % 4 == 0 and reader == 0))
                who = [f"R{reader + 8}"] if part == "train" else []
                rows.append(",".join([image, *who, *cells, "0", str(int(cells[3] == "0"))]))
                if cells[3] == "1":
                    boxes.append(",".join([image, *who, "Cardiomegaly", "10.5", "20", f"{30 + reader}", "64.2"]))
                    boxes.append(",".join([image, *who, "Edema", "1", "2", "3", "4"]))
                else:
                    boxes.append(",".join([image, *who, "No finding", "", "", "", ""]))
            touch(root, f"{part}/{image}{suffix}")
            if suffix == ".dicom":
                (root / part / f"{image}{suffix}").write_bytes(dicom_of(64, 48))
        who = ["rad_id"] if part == "train" else []
        other = "Other diseases" if part == "train" else "Other disease"
        write(
            root / f"annotations/image_labels_{part}.csv",
            ",".join(["image_id", *who, *columns, other, "No finding"]),
            *rows,
        )
        write(
            root / f"annotations/annotations_{part}.csv",
            ",".join(["image_id", *who, "class_name,x_min,y_min,x_max,y_max"]),
            *boxes,
        )
    return root


def dicom_of(rows, columns):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.Rows, dataset.Columns = "DX", rows, columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = bytes(rows * columns)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_vindr_as_downloaded(tmp_path):
    root = vindr(tmp_path)
    assert recognise(root) == "vindr"
    table, labels = to_manifest(root)
    assert labels == VINDR and table["split"].value_counts().to_dict()["test"] == 5 and len(table) == 25
    rows = table.set_index("id")
    assert rows.loc[f"train{0:028x}", "Cardiomegaly"] == 1 and rows.loc[f"train{0:028x}", "Atelectasis"] == 0
    assert to_manifest(root, readers="any")[0].set_index("id").loc[f"train{0:028x}", "Atelectasis"] == 1
    assert to_manifest(root, readers="all")[0].set_index("id").loc[f"train{0:028x}", "Cardiomegaly"] == 0
    boxes = table.attrs["boxes"]
    assert {box.label for box in boxes} == {"Cardiomegaly"} and len(boxes) == 10 * 2 + 3
    assert boxes[0].frame_width_px == 48 and boxes[0].y_px + boxes[0].height_px == 64  # cut off at the edge
    assert any("who the patients are" in text for text in table.attrs["warnings"])
    assert_sound(table, labels, root)


def test_vindr_copies_of_another_size_have_no_boxes(tmp_path):
    table, labels = to_manifest(vindr(tmp_path, ".png"))
    assert "boxes" not in table.attrs and any(
        "boxes of 13 images were left out" in text for text in table.attrs["notes"]
    )
    assert_sound(table, labels, tmp_path)


def test_vinbigdata_of_the_competition(tmp_path):
    rows = []
    for number in range(24):
        touch(tmp_path, f"train/{number:032x}.dicom")
        for reader in range(3):
            seen = number % 2 and reader
            cells = "Pleural effusion,10,{},1,2,30,40" if seen else "No finding,14,{},,,,"
            rows.append(f"{number:032x}," + cells.format(f"R{reader}"))
    write(tmp_path / "train.csv", "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", *rows)
    touch(tmp_path, "test/abc.dicom")
    assert recognise(tmp_path) == "vindr"
    table, labels = to_manifest(tmp_path)
    assert len(labels) == 14 and len(table) == 24 and set(table["split"]) == {"train", "val", "test"}
    assert table.sort_values("id")["Pleural effusion"].tolist() == [0, 1] * 12
    assert any("no table of the test set" in text for text in table.attrs["notes"])
    assert_sound(table, labels, tmp_path)


# RSNA's pneumonia challenge


def rsna(root, mapping=True):
    labels, classes, listed = [], [], []
    for number in range(30):
        image = f"{number:08x}-3a6b-4f4c-9a4c-000000000000"
        touch(root, f"stage_2_train_images/{image}.dcm")
        kind = ("Normal", "Lung Opacity", "No Lung Opacity / Not Normal")[number % 3]
        for box in range(2 if kind == "Lung Opacity" else 1):
            corners = f"{264 + box}.0,152.0,213.0,979.0" if kind == "Lung Opacity" else ",,,"
            labels.append(f"{image},{corners},{int(kind == 'Lung Opacity')}")
            classes.append(f"{image},{kind}")
        listed.append({"subset_img_id": image, "img_id": f"{number // 2:08d}_{number % 2:03d}.png", "orig_labels": []})
    touch(root, "stage_2_test_images/0000a175-0e68-4ca4-b1af-167204a7e0bc.dcm")
    write(root / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", *labels)
    write(root / "stage_2_detailed_class_info.csv", "patientId,class", *classes)
    write(root / "stage_2_sample_submission.csv", "patientId,PredictionString", "0000a175,0.5 0 0 100 100")
    if mapping:
        write(root / "pneumonia-challenge-dataset-mappings_2018.json", json.dumps(listed))
    return root


def test_rsna_as_downloaded(tmp_path):
    root = rsna(tmp_path)
    assert recognise(root) == "rsna"
    table, labels = to_manifest(root)
    assert labels == ("Lung Opacity",) and len(table) == 30 and table["Lung Opacity"].sum() == 10
    assert table["patient"].nunique() == 15 and table["source"].iloc[3] == "00000001_001.png"
    assert len(table.attrs["boxes"]) == 20 and table.attrs["boxes"][0][1:] == (
        "Lung Opacity",
        264,
        152,
        213,
        872,
        1024,
        1024,
    )
    assert any("1 images of the challenge's test set" in text for text in table.attrs["notes"])
    assert_sound(table, labels, root)
    table, labels = to_manifest(root, classes=3)
    assert labels == ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal") and table.attrs["exclusive"]
    assert (table[list(labels)].sum(axis=1) == 1).all() and table["Normal"].sum() == 10


def test_rsna_without_the_mapping_says_that_patients_are_not_known(tmp_path):
    table, _ = to_manifest(rsna(tmp_path, mapping=False))
    assert (table["patient"] == table["id"]).all()
    assert any("who the patients are" in text for text in table.attrs["warnings"])


@pytest.mark.parametrize(
    ("file", "old", "new", "options", "message"),
    [
        ("stage_2_train_labels.csv", ",1", ",2", {}, "row 3: Target is '2'"),
        ("stage_2_train_labels.csv", "Target", "target", {}, "no column 'Target'"),
        ("stage_2_detailed_class_info.csv", "Normal", "normal", {"classes": 3}, "did you mean 'Normal'"),
        ("pneumonia-challenge-dataset-mappings_2018.json", "img_id", "image", {}, "no list of images"),
    ],
)
def test_rsna_what_is_wrong_is_named(tmp_path, file, old, new, options, message):
    path = rsna(tmp_path) / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        to_manifest(tmp_path, **options)
