"""Invented chest X-rays in the layouts of ChestX-ray14, CheXpert and COVIDx, as manifests for the small tables."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ...core.files import write_text, written_aside
from .labels import CHEXPERT, CHEXPERT14, COVIDX

SIZE_PX = 128
COMMON = {"Cardiomegaly": 0.35, "Infiltration": 0.3, "Edema": 0.3, "Consolidation": 0.3, "Fibrosis": 0.3}
FINDING_OF = {"Pleural Effusion": "Effusion"}  # CheXpert's names that ChestX-ray14 has otherwise
OF_CLASS = {"normal": (), "pneumonia": ("Pneumonia",), "COVID-19": ("Infiltration", "Consolidation", "Edema")}
PER_PATIENT = 2
TEST_SHARE = 0.25


def chestxray14(folder: Path, patients: int = 240) -> Path:
    """Write ChestX-ray14 with five common findings that are visible at 48 px; return the manifest."""
    from ...datasets.manifest.tables import write_manifest
    from ...phantoms.radiographs import write_chestxray14
    from ...stages.data import open_manifest

    def write(root: Path) -> None:
        write_chestxray14(root, patients=patients, size=SIZE_PX, prevalence=COMMON)

    path = _prepared(folder, write, "chestxray14", {})
    manifest = open_manifest(path)
    if set(manifest.labels) != set(COMMON):
        others = [label for label in manifest.labels if label not in COMMON]
        write_manifest(path, manifest.table.drop(columns=others), tuple(COMMON), manifest.meaning)
    return path


def chexpert(folder: Path, patients: int = 240) -> Path:
    """Write CheXpert: train.csv and valid.csv, the five scored labels; return the manifest."""

    def write(root: Path) -> None:
        for part, numbers in _parts(patients):
            rows = []
            for patient in numbers:
                rng = np.random.default_rng((1, patient))
                own = [label for label in CHEXPERT if rng.random() < 0.3]
                findings = [FINDING_OF.get(label, label) for label in own]
                for study in range(1, PER_PATIENT + 1):
                    name = f"{part}/patient{patient:05d}/study{study}/view1_frontal.jpg"
                    _write_image(root / name, findings, rng)
                    cells = [1.0 if label in own else 0.0 if label in CHEXPERT else "" for label in CHEXPERT14]
                    rows.append([f"CheXpert-v1.0-small/{name}", "Female", 50, "Frontal", "AP", *cells])
            head = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT14]
            write_text(root / ("train.csv" if part == "train" else "valid.csv"), _csv(rows, head))

    return _prepared(folder, write, "chexpert", {"uncertain": "paper", "blanks": "zeros"})


def covidx(folder: Path, patients: int = 240) -> Path:
    """Write COVIDx V9A: two lists and two folders, one class a patient; return the manifest."""

    def write(root: Path) -> None:
        for part, numbers in _parts(patients):
            folder, lines = "train" if part == "train" else "test", []
            for patient in numbers:
                rng = np.random.default_rng((2, patient))
                name = COVIDX[patient % len(COVIDX)]
                for image in range(PER_PATIENT):
                    file = f"{patient:04d}-{image}.png"
                    _write_image(root / folder / file, OF_CLASS[name], rng)
                    lines.append(f"{patient} {file} {name} phantom")
            write_text(root / f"{folder}_COVIDx9A.txt", "\n".join(lines) + "\n")

    return _prepared(folder, write, "covidx", {})


def _prepared(folder: Path, write: Callable[[Path], None], layout: str, options: Mapping) -> Path:
    from ...stages.data import MANIFEST
    from ...stages.prepare import prepare_phantoms
    from .layouts import LAYOUTS

    return prepare_phantoms(write, LAYOUTS, folder / "raw", folder / MANIFEST, layout=layout, options=options)


def _parts(patients: int) -> list[tuple[str, range]]:
    """Return the numbers of the training patients and, under CheXpert's name, of the test patients."""
    test = max(1, round(TEST_SHARE * patients))
    return [("train", range(1, patients - test + 1)), ("valid", range(patients - test + 1, patients + 1))]


def _write_image(path: Path, findings: Iterable[str], rng: np.random.Generator) -> None:
    from PIL import Image

    from ...phantoms.radiographs import chest_phantom

    image, _ = chest_phantom(findings, size=SIZE_PX, rng=rng)
    with written_aside(path) as aside:
        Image.fromarray(image).save(aside)


def _csv(rows: list[list], head: list[str]) -> str:
    import pandas as pd

    return pd.DataFrame(rows, columns=head).to_csv(index=False, lineterminator="\n")
