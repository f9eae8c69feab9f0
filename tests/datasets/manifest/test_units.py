"""Which rows of a table belong together: studies and cases of a person's table, and of DICOM headers."""

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.manifest.units import unit_ids, unit_note
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def prepared(folder, rows, *options, task="images"):
    rows.to_csv(folder / "own.csv", index=False)
    assert main(["prepare", task, str(folder / "own.csv"), "--out", str(folder / "manifest.csv"), *options]) == 0
    return read_manifest(folder / "manifest.csv")


def images(folder, n=8):
    for number in range(n):
        Image.fromarray(np.full((32, 32), number, np.uint8)).save(folder / f"{number}.png")
    return pd.DataFrame(
        {"path": [f"{i}.png" for i in range(n)], "patient": [f"p{i // 4}" for i in range(n)], "Mass": [0, 1] * (n // 2)}
    ).assign(split="train")


@pytest.mark.parametrize("name", ["study", "StudyInstanceUID", "study_id", "Study UID"])
def test_the_study_of_a_table_is_kept_and_said(tmp_path, capsys, name):
    rows = images(tmp_path).assign(**{name: [f"1.2.{i // 2}" for i in range(8)]})
    found = prepared(tmp_path, rows)
    assert found.table["study"].tolist() == rows[name].tolist()
    out = capsys.readouterr().out
    assert f"column {name!r}: fact" in out
    assert "column 'study': 8 rows are 4 studies; --unit study scores these." in out


def test_a_column_of_case_numbers_is_no_label_and_one_of_0_and_1_is(tmp_path, capsys):
    found = prepared(tmp_path, images(tmp_path).assign(case=[11, 11, 12, 12, 13, 13, 14, ""]))
    assert found.labels == ("Mass",)
    assert found.table["case"].tolist() == ["11", "11", "12", "12", "13", "13", "14", ""]
    assert "column 'case': 8 rows are 5 cases (1 rows without one are one each)" in capsys.readouterr().out
    found = prepared(tmp_path, images(tmp_path).assign(case=[0, 1] * 4))
    assert found.labels == ("Mass", "case")


def test_dicom_files_of_a_table_get_the_hashed_study_of_their_headers(tmp_path, capsys):
    for number in range(4):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.PatientID, data.StudyInstanceUID, data.Modality = "Muster", f"1.2.3.{number // 2}", "DX"
        data.Rows = data.Columns = 32
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 7, 0, 1
        data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", bytes(1024)
        data.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    rows = pd.DataFrame({"path": [f"{i}.dcm" for i in range(4)], "patient": list("aabb"), "Mass": [0, 1, 0, 1]})
    rows["split"] = "train"
    found = prepared(tmp_path, rows)
    study = found.table["study"]
    assert study.nunique() == 2 and study.iloc[0] == study.iloc[1]
    assert not study.str.contains("1.2.3", regex=False).any()
    assert "studies of DICOM files are hashed" in capsys.readouterr().out


def test_names_of_units_are_those_of_the_whole_table_in_every_part_of_it():
    table = pd.DataFrame({"id": list("wxyz"), "patient": list("aabb"), "study": ["1", "1", "1", ""]})
    whole = unit_ids("t", table, "study")
    assert whole.tolist() == ["a/1", "a/1", "b/1", "z"]
    assert unit_ids("t", table.iloc[2:], "study").tolist() == whole.tolist()[2:]
    assert unit_note(table.iloc[1:], "study") == ""
