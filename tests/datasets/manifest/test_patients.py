"""A patient in two splits is refused however the manifest comes in; other spellings of one are said."""

import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.patients import alike_patients
from clinvit.datasets.manifest.tables import read_manifest
from PIL import Image


@pytest.mark.parametrize(
    "first, second",
    [
        ("P1", "p1"),
        ("001", "1"),
        ("P001", "p1"),
        ("12.0", "12"),
        ("a-7", "A 7"),
        ("Ｐ1", "P1"),
        ("0", "000"),
        ("-", "- "),
    ],
)
def test_two_spellings_of_a_patient(first, second):
    table = pd.DataFrame({"patient": [first, "other", second], "split": ["train", "val", "test"]})
    said = alike_patients(table)
    assert said.startswith("1 patients may") and repr(first) in said and repr(second) in said and "--resplit" in said
    assert alike_patients(table.assign(split="train")) is None


def test_other_patients_are_others():
    names = ["P1", "P10", "P-1-0", "1_2", "12", "0.5", "5", "a", "b", "A1B", "", "."]
    table = pd.DataFrame({"patient": names, "split": ["train", "test"] * 6})
    assert alike_patients(table) is None


def files(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20), 90).save(root / name)


def own_csv(root, patient):
    files(root, ["a.png", "b.png", "c.png"])
    rows = f"path,patient,split,Mass\na.png,p1,train,1\nb.png,p2,val,0\nc.png,{patient},test,1\n"
    (root / "labels.csv").write_text(rows)
    return root


def class_folders(root, patient):
    files(root, ["train/ill/p1_0.png", "val/well/p2_0.png", f"test/ill/{patient}_0.png"])
    return root


def by_hand(root, patient):
    files(root, ["a.png", "b.png", "c.png"])
    rows = f"id,path,patient,split,Mass\na,a.png,p1,train,1\nb,b.png,p2,val,0\nc,c.png,{patient},test,1\n"
    (root / "manifest.csv").write_text(rows)
    return root


def chexpert(root, patient):
    sides = "Sex,Age,Frontal/Lateral,AP/PA"
    names = ["No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"]
    names += ["Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other"]
    names += ["Fracture", "Support Devices"]
    for part, who in (("train", "00001"), ("train", "00002"), ("valid", patient)):
        path = f"{part}/patient{who}/study{1 + (part == 'valid')}/view1_frontal.jpg"
        files(root, [path])
        table = root / f"{part}.csv"
        head = "" if table.is_file() else f"Path,{sides},{','.join(names)}\n"
        with table.open("a") as file:
            file.write(f"{head}CheXpert-v1.0/{path},Male,50,Frontal,AP{',0' * 14}\n")
    return root


WAYS = {
    "csv": (own_csv, [], "p1"),
    "folders": (class_folders, ["--layout", "folders", "--option", "patient_pattern=(p[0-9]+)_"], "p1"),
    "chexpert": (chexpert, [], "00001"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_patient_in_two_splits_is_refused(way, tmp_path, capsys):
    make, options, patient = WAYS[way]
    root = make(tmp_path / "data", patient)
    code = main(["prepare", "thorax", str(root), "--out", str(tmp_path / "manifest.csv"), *options])
    words = capsys.readouterr().err
    assert code == 2 and "in more than one split" in words and "--resplit" in words and words.count("\n") == 1
    assert not (tmp_path / "manifest.csv").exists()


@pytest.mark.parametrize("way", ["csv", "folders"])
def test_prepare_warns_of_two_spellings(way, tmp_path, capsys):
    make, options, _ = WAYS[way]
    pattern = [option.replace("(p[0-9]+)_", "([pP][0-9]+)_") for option in options]
    root = make(tmp_path / "data", "P01")
    assert main(["prepare", "thorax", str(root), "--out", str(tmp_path / "manifest.csv"), *pattern]) == 0
    assert "warning: 1 patients may stand in two splits under two spellings" in capsys.readouterr().out


@pytest.mark.parametrize("patient", ["p1", " p1", "p1 "])
def test_a_manifest_by_hand_is_refused(patient, tmp_path):
    with pytest.raises(DataError, match="patient 'p1' is in test and train"):
        read_manifest(by_hand(tmp_path / "data", patient) / "manifest.csv")


def test_check_warns_of_a_manifest_by_hand(tmp_path, capsys):
    assert main(["check", "thorax", str(by_hand(tmp_path / "data", "P001"))]) in (0, 2)
    assert capsys.readouterr().out.count("may stand in two splits under two spellings, first 'p1' (train)") == 1


@pytest.mark.parametrize("cell", ["", "  ", "\u00a0", "\u200b", "nan", "NaN", "None", "N/A", "<NA>", "unknown", "?"])
def test_a_cell_that_names_nobody_is_refused(cell, tmp_path):
    with pytest.raises(DataError, match=r"row 4: the cell 'patient' is .*1 (such cells )?in all"):
        read_manifest(by_hand(tmp_path / "data", cell) / "manifest.csv")


def test_blanks_within_a_split_are_no_other_patient(tmp_path, capsys):
    table = by_hand(tmp_path / "data", "p3") / "manifest.csv"
    table.write_text(table.read_text() + "d,a.png, p3\u200b,test,0\n")
    manifest = read_manifest(table)
    assert manifest.table["patient"].tolist() == ["p1", "p2", "p3", "p3"]
    assert "first ' p3\\u200b', read as 'p3'" in manifest.notes[0] and "1 names became" in manifest.notes[0]
    main(["check", "thorax", str(table.parent)])
    assert capsys.readouterr().out.count("1 names became those of other patients") == 1
