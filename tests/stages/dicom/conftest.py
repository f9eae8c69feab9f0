"""DICOM files as scanners write them, with planted names, and cases of results about them."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from clinvit.stages.dicom.case import Algorithm, Code, Finding, HeatMap, ResultCase
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
)

NAME, NUMBER, BORN, ACCESSION = "Plantedname^Zebulon", "MRN-PLANTED-77", "19511231", "ACC-PLANTED-9"
PLANTED = ("Plantedname", "Zebulon", NUMBER, BORN, ACCESSION)
CLASSES = {
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "US": UltrasoundMultiFrameImageStorage,
}
SIZE = (96, 80)


def source(modality: str = "CR", number: int = 1, frames: int = 6, **elements) -> Dataset:
    """A file of one patient's study; `elements` are added, replaced, or left out where they are None."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID, made.SOPInstanceUID = CLASSES[modality], f"1.2.826.0.1.3680043.99.1.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.826.0.1.3680043.99.2", "1.2.826.0.1.3680043.99.3"
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = NAME, NUMBER, BORN, "F"
    made.StudyDate, made.StudyTime, made.AccessionNumber, made.StudyID = "20240229", "101530", ACCESSION, "S1"
    made.ReferringPhysicianName, made.Modality, made.SeriesNumber, made.InstanceNumber = "", modality, 1, number
    made.Rows, made.Columns = SIZE
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
    shape = SIZE
    if modality == "US":
        made.NumberOfFrames, made.FrameTime = frames, 40
        shape = (frames, *SIZE)
    pixels = np.random.default_rng(number).integers(0, 255, shape, np.uint8)
    made.add_new("PixelData", "OB", pixels.tobytes())
    for name, value in elements.items():
        if value is None:
            made.pop(name, None)
        else:
            setattr(made, name, value)
    return made


@pytest.fixture
def saved(tmp_path) -> Callable[..., Path]:
    """`saved(modality, number, **elements)` writes such a file and gives its path."""

    def save(modality: str = "CR", number: int = 1, folder: Path | None = None, **elements) -> Path:
        made = source(modality, number, **elements)
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        path = (folder or tmp_path) / f"{modality}-{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(path, enforce_file_format=True)
        return path

    return save


FINDINGS = (
    Finding("Pneumothorax", 0.8321, True, 0.5, "1 = the report names it", Code("36118008", "SCT", "Pneumothorax")),
    Finding("Pleural_Thickening of an unusually long name", 0.125, False, 0.3),
    Finding("Hernia", 0.25, None),
)
MODEL = Algorithm("a model", "a" * 64, "b" * 64, "ViT, width 32")


def result_case(*sources: Path, **fields) -> ResultCase:
    """A case with three findings; `fields` replace others."""
    return ResultCase(**{"id": "case", "sources": sources, "algorithm": MODEL, "findings": FINDINGS} | fields)


def heat_maps(frames: tuple[int, ...] = ()) -> tuple[HeatMap, ...]:
    """Maps of two findings: one hot corner each, on a grid of 4 x 4 over the whole image."""
    made = []
    for label, (row, column) in (("Pneumothorax", (0, 0)), ("Hernia", (3, 3))):
        grid = np.zeros((4, 4))
        grid[row, column] = 2.0
        values = np.stack([grid * (1 + place) for place in range(len(frames))]) if frames else grid
        made.append(HeatMap(label, values, (0, 0, SIZE[1], SIZE[0]), SIZE[1], SIZE[0], frames))
    return tuple(made)


def validated(path: Path) -> list[str]:
    """The errors that `dciodvfy` prints of a file; the test is skipped where it is not installed."""
    if which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian: dicom3tools) is not installed")
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert said, "dciodvfy said nothing at all"
    return [line for line in said if "Error" in line]
