"""Errors about whose a DICOM file is call it by its hashed id: its file name is often a person's."""

import numpy as np
import pytest
from clinvit.cli import main
from clinvit.core.secret import keyed_hash, secret_key
from clinvit.tests.datasets.manifest.test_contents import radiograph
from clinvit.tests.datasets.slides.dicom_slides import write_dicom_slide

NAME = "QUIXADOTTER_YVAINE_1950"


@pytest.mark.parametrize("task", ["slides", "thorax"])
@pytest.mark.parametrize("folder", ["", "Yvaine/"])
@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_dicom_whose_header_names_no_patient(tmp_path, capfd, monkeypatch, task, folder, suffix):
    root = tmp_path / "data"
    if task == "slides":
        write_dicom_slide(root / folder, NAME, np.zeros((64, 64, 3), np.uint8), suffix=suffix)
        name = f"{folder}{NAME}_1{suffix}"
    else:
        name = f"{folder}{NAME}{suffix}"
        radiograph((root / name).parent, f"{NAME}{suffix}", PatientID="")
    monkeypatch.chdir(tmp_path)
    hashed = keyed_hash(secret_key(), name)
    assert main(["prepare", task, "data", "--out", "m/manifest.csv"]) == 2
    said = "".join(capfd.readouterr())
    assert "1 of 1 DICOM headers name no patient" in said and hashed in said
    assert main(["prepare", task, "data", "--out", "m/manifest.csv", "--option", "patient_pattern=(P[0-9]+)"]) == 2
    said += (later := "".join(capfd.readouterr()))
    shape = "/".join(["xxxxxx"] * bool(folder) + ["xxxxxxxxxxx_xxxxxx_9999"])
    assert "finds no patient in" in later and hashed in later and shape in later
    assert "quixadotter" not in said.lower() and "yvaine" not in said.lower()
    assert main(["prepare", task, "data", "--out", "m/manifest.csv", "--option", "each_file_own_patient=true"]) == 0
    assert (tmp_path / "m/manifest.csv").read_text().splitlines()[1].startswith(f"{hashed},")
    assert main(["prepare", task, "data", "--out", "p.csv", "--option", r"patient_pattern=_([0-9]{4})"]) == 0
