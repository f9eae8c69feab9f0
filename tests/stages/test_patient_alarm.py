"""The patient alarm asked about DICOM files: a claim is the header's patient number; no word of a header stays."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.cli import main
from clinvit.finetune.model import ModelCard, build_model, save_model
from clinvit.finetune.recipe import View
from clinvit.stages.case_features import ModelFeatures, features_of
from clinvit.stages.data import open_manifest
from clinvit.stages.patient_alarm import make_alarm
from clinvit.tests.stages.pacs.servers import PLANTED, radiograph, write

ARCH = Architecture(32, 2, 2, image_size=(32, 32), patch_size=8)
PATIENTS, SEVERAL = 40, 3
NUMBER = "MRN-93817{:02d}"
WORDS = [*PLANTED.values(), "MRN-93817", "Erika"]


def scan(patient: int, image: int, claims: str | None = None):
    """A radiograph of a patient, who has a pattern; another image of the same patient has other noise."""
    own = np.random.default_rng(patient).normal(0, 40, (4, 4)).repeat(8, axis=0).repeat(8, axis=1)
    noise = np.random.default_rng(1000 + 10 * patient + image).normal(0, 8, (32, 32))
    pixels = (120 + own + noise).clip(0, 255).astype(np.uint8).tobytes()
    return radiograph(patient=NUMBER.format(patient) if claims is None else claims, side=32, PixelData=pixels)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Return a folder with an archive of DICOM files in class folders, its manifest, a model and its alarm."""
    root = tmp_path_factory.mktemp("hospital")
    for patient in range(PATIENTS):
        for image in range(SEVERAL):
            kind = ("Mass", "No")[patient // 2 % 2]
            write(scan(patient, image), root / "raw" / kind / f"Erika_{patient}_{image}.dcm")
    assert main(["prepare", "images", str(root / "raw"), "--out", str(root / "data/manifest.csv")]) == 0
    card = ModelCard(("Mass",), {}, False, "full", "vit", "mean", ARCH, (0.45,), (0.2,), View("squash", None), 32)
    torch.manual_seed(0)
    save_model(root / "model", build_model(card), card)
    table = pd.read_csv(root / "data/manifest.csv")  # enough patients of `val` for the rate
    table["split"] = table["patient"].map(
        {name: ("train", "val")[n % 2] for n, name in enumerate(sorted(table["patient"].unique()))}
    )
    table.to_csv(root / "data/manifest.csv", index=False)
    make(root)
    return root


def make(root) -> None:
    """Make the alarm, as `clinvit audit --alarm` does after all that it audits."""
    manifest, maker = open_manifest(root / "data"), ModelFeatures(root / "model")
    features, _ = features_of(maker, manifest)
    make_alarm(root / "alarm.safetensors", maker, features, manifest.table, 0.1, 0)


def alarms(root, files, out, *more) -> pd.DataFrame:
    """Predict files with the alarm; the table, by the file that the key names."""
    names = ["predict", "images", *map(str, files), "--model", str(root / "model"), "--out", str(out)]
    assert main([*names, "--alarm", str(root / "alarm.safetensors"), *more]) == 0
    return pd.read_csv(out, dtype=str, keep_default_na=False)


@pytest.mark.slow
def test_new_dicom_files_are_held_against_the_patient_of_their_header_and_nothing_names_anybody(asked, tmp_path, capfd):
    new = tmp_path / "new"
    for patient in range(PATIENTS):
        write(scan(patient, 7), new / f"{patient:02d}-Erika-right.dcm")
        write(scan(patient, 8, claims=NUMBER.format((patient + 7) % PATIENTS)), new / f"{patient:02d}-Erika-swap.dcm")
    write(scan(1, 9, claims="MRN-9381799"), new / "98-Erika-stranger.dcm")
    write(scan(1, 9, claims=""), new / "99-Erika-nobody.dcm")
    found = alarms(asked, [new], tmp_path / "out/p.csv", "--audit", str(tmp_path / "out/log.jsonl"))
    said = capfd.readouterr()
    flags = found["patient_alarm"].to_numpy()
    right, swapped = flags[:-2:2], flags[1:-2:2]
    assert set(right) | set(swapped) == {"0", "1"}, "every patient of the archive is found by the number"
    assert (swapped == "1").mean() > 0.5 and (right == "1").mean() < 0.25
    assert list(flags[-2:]) == ["", ""] and "2 not looked at" in said.out
    text = said.out + said.err
    for path in [*(tmp_path / "out").iterdir(), asked / "alarm.safetensors"]:
        if path.name != "p.key.json":  # says which id is which file, for its owner
            text += path.read_bytes().decode("latin-1")
    assert not [word for word in WORDS if word in text]


@pytest.mark.slow
def test_an_image_of_the_archive_is_not_held_against_itself(asked, tmp_path, capfd):
    """Each comes again under its own number, as a copy of another name."""
    for patient in range(PATIENTS):
        write(scan(patient, 0), tmp_path / f"new/{patient:02d}.dcm")
    again = alarms(asked, [tmp_path / "new"], tmp_path / "p.csv")
    assert 0 < (again["patient_alarm"] == "1").sum() < 10, "held against the other two, a few are unlike them"


@pytest.mark.slow
def test_patients_of_an_own_table_are_found_by_the_number_however_it_is_spaced(asked, tmp_path, capfd):
    """The archive's manifest says the numbers themselves; a header has two blanks in one."""
    root = tmp_path / "own"
    shutil.copytree(asked / "model", root / "model")
    shutil.copytree(asked / "raw", root / "data/raw")
    table = pd.read_csv(asked / "data/manifest.csv")
    table["patient"] = [f"MRN {path.split('_')[1]}" for path in table["path"]]
    table["path"] = table["path"].str.removeprefix("../")
    table.to_csv(root / "data/manifest.csv", index=False)
    make(root)
    for number, claims in enumerate(("MRN  5", "MRN 5 ", "MRN 6", "MRN 77")):
        write(scan(5, 7, claims=claims), tmp_path / f"new/{number}.dcm")
    assert list(alarms(root, [tmp_path / "new"], tmp_path / "p.csv")["patient_alarm"]) == ["0", "0", "1", ""]


@pytest.mark.slow
def test_an_alarm_that_knows_none_of_the_patients_says_so(asked, tmp_path, capfd):
    for number in range(3):
        write(scan(number, 7, claims=f"OTHER-{number}"), tmp_path / f"new/{number}.dcm")
    found = alarms(asked, [tmp_path / "new"], tmp_path / "p.csv")
    assert list(found["patient_alarm"]) == [""] * 3
    assert "knows none of the patients" in capfd.readouterr().err
