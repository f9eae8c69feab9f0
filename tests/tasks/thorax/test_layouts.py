import gzip
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest import layouts
from clinvit.datasets.manifest.tables import read_manifest, write_manifest
from clinvit.phantoms.radiographs import write_chestxray14
from clinvit.tasks.thorax.labels import CHESTXRAY14, CHEXPERT, CHEXPERT14, MIMIC
from clinvit.tasks.thorax.layouts import LAYOUTS
from clinvit.tasks.thorax.layouts.chestxray14 import boxes

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
        ("", "", {"uncertain": "one"}, "did you mean 'ones'"),
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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("p 1.jpg normal", "line 37 has not the four fields"),
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
