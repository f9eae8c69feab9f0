"""A label that can be told without looking at the patient is said; on data where it cannot, nothing is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.images.radiographs import read_radiograph
from clinvit.datasets.manifest.tables import Manifest, read_manifest
from clinvit.datasets.quality.duplicates import duplicates
from clinvit.datasets.quality.looks import Looks, look_at
from clinvit.datasets.quality.shortcuts import shortcuts, unseen_codes
from clinvit.phantoms.ocular import write_erdes
from clinvit.phantoms.radiographs import write_chestxray14
from clinvit.stages.prepare import prepare_stage
from clinvit.tasks import load
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

LABELS = ("ill", "other")


def case(rng, ill: int, way: str) -> np.ndarray:
    """(h, w) uint8 noise; `way` is how the label shows, `none` if it does not."""
    height, width = rng.choice([[90, 100], [120, 100], [100, 100]])
    if way == "size" and ill:
        width += 40
    pixels = rng.normal(rng.uniform(80, 160), 30, (height, width)).clip(1, 255)
    if way == "border" and ill:
        pixels[:8] = 0
    if way == "corner" and ill:
        pixels[:10, :12] = 255
    if way == "some" and ill and rng.random() < 0.5:
        pixels[:10, :12] = 255
    return pixels.astype(np.uint8)


def data(way: str, patients: int = 60, seed: int = 0, **columns) -> tuple[Manifest, Looks]:
    """Two images of each patient; the label is the patient's."""
    rng = np.random.default_rng(seed)
    ill = rng.permutation(np.arange(patients) % 2).repeat(2)
    looks = Looks()
    for row, truth in enumerate(ill):
        looks.add(row, look_at(case(rng, truth, way)))
    patient = [f"p{row // 2}" for row in range(len(ill))]
    table = pd.DataFrame({"id": range(len(ill)), "path": [f"{row}.png" for row in range(len(ill))], "patient": patient})
    table = table.assign(ill=ill.astype(float), other=rng.integers(0, 2, len(ill)).astype(float))
    for name, make in columns.items():
        table[name] = [make(truth, rng) for truth in ill]
    return Manifest(Path("manifest.csv"), table.astype({"id": str}), LABELS), looks


@pytest.mark.parametrize("way, words", [("size", "size in pixels"), ("border", "flat borders"), ("corner", "corners")])
def test_what_a_network_could_see_is_said(way, words):
    said = shortcuts(*data(way))
    assert any(text.startswith("ill can be told from") and words in text for text in said), said
    assert not any("other" in text.split(" can be told")[0] for text in said)


@pytest.mark.parametrize(
    "column, make, words",
    [
        ("scanner", lambda ill, rng: ["A", "B"][ill], "the column scanner"),
        ("view", lambda ill, rng: ["PA", rng.choice(["AP", "AP supine"])][ill], "the column view"),
        ("path", lambda ill, rng: f"{rng.integers(10**9)}{['.png', '.jpg'][ill]}", "the kind of file"),
    ],
)
def test_what_leaves_traces_is_said(column, make, words):
    said = shortcuts(*data("none", **{column: make}))
    assert len(said) == 1 and said[0].startswith("ill can be told from") and words in said[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way, patients", [("none", 60), ("none", 24), ("some", 60), ("corner", 12)])
def test_no_false_alarm(way, patients, seed):
    """Noise, a corner that half of the ill have, or too few patients to say."""
    column = {"scanner": lambda ill, rng: rng.choice(["A", "B", "C"]), "site": lambda ill, rng: str(rng.integers(9))}
    assert shortcuts(*data(way, patients, seed, **column)) == []


def test_folders_and_names_are_said_but_no_warning():
    manifest, looks = data("none", path=lambda ill, rng: f"{['well', 'ill'][ill]}/{rng.integers(10**6)}.png")
    assert shortcuts(manifest, looks) == []
    assert unseen_codes(manifest) == ["the folders tell ill: of no use to a network, which sees pixels only."]
    manifest, _ = data("none", path=lambda ill, rng: f"{[163, 164][ill]}_{rng.integers(10**6)}.png")
    (said,) = unseen_codes(manifest)
    assert said.startswith("ill: the file names give the class away") and "pixels only" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["thorax", "erdes"])
def test_phantoms_have_none(name, tmp_path):
    if name == "thorax":
        write_chestxray14(tmp_path / "raw", patients=80, seed=0, size=128)
    else:
        write_erdes(tmp_path / "raw", clips=24, seed=0, size_px=64, seconds=(0.3, 0.6))
    task = load(name)
    manifest = prepare_stage(task.layouts(), tmp_path / "raw", tmp_path / "manifest.csv").manifest
    found = task.check(manifest, 0, 64)
    assert shortcuts(manifest, found.looks) == []
    assert duplicates(found.looks, manifest.table["patient"]).empty


@pytest.mark.slow
def test_real_radiographs_have_none_that_we_find(shared_data):
    manifest = read_manifest(shared_data / "cxr14/labels.csv")
    looks = Looks()
    for row in range(0, len(manifest), 3):
        looks.add(row, look_at(read_radiograph(manifest.files()[row])))
    assert shortcuts(manifest, looks) == [] and unseen_codes(manifest) == []


def test_a_tag_of_dicom_files(tmp_path):
    """Both labels come from both devices' formats alike, but one of the devices made all the ill."""
    rng = np.random.default_rng(0)
    rows, looks = [], Looks()
    for row in range(48):
        ill = row % 2
        path = tmp_path / f"{row}.dcm"
        write_dicom(path, rng.integers(0, 255, (32, 32)).astype(np.uint8), ["Acme", "Zenith"][ill])
        looks.add(row, look_at(read_radiograph(path)))
        rows.append((str(row), path.name, f"p{row}", "train", float(ill), float(row // 2 % 2)))
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", *LABELS])
    (said,) = shortcuts(Manifest(tmp_path / "manifest.csv", table, LABELS), looks)
    assert said.startswith("ill can be told from the DICOM tag Manufacturer alone")


def write_dicom(path: Path, pixels: np.ndarray, maker: str) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Manufacturer, file.Rows, file.Columns = maker, *pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelData = 7, pixels.tobytes()
    file.save_as(path)
