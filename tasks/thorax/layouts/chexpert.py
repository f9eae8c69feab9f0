"""CheXpert-v1.0 and CheXpert-v1.0-small: train.csv and valid.csv beside the folders train/ and valid/."""

from pathlib import Path

import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.inventory import (
    complete_splits,
    files_below,
    keep_present,
    note,
    refuse_repeated,
    require_columns,
)
from ....datasets.manifest.tables import read_csv, refuse_patient_overlap
from ..labels import CHEXPERT, CHEXPERT14
from .report_labels import report_labels

FACTS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")


def recognise(root: Path) -> bool:
    """Return whether there are train.csv and valid.csv with CheXpert's columns, here or in a folder CheXpert* below."""
    base = _base(root)
    if base is None:
        return False
    with (base / "train.csv").open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().startswith("Path,Sex,Age,Frontal/Lateral")


def read(
    root: str | Path,
    *,
    labels: int = 5,
    uncertain: str = "unknown",
    blanks: str = "unknown",
    lateral: bool = False,
    keep_missing: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read CheXpert.

    The official valid set is the test set here, as in the papers that score on it; val is cut from train by
    patient.

    Args:
        root: The folder with train.csv and valid.csv, or the one above it.
        labels: 5 (those that are scored) or 14.
        uncertain: What -1 becomes: unknown, ones, zeros, or paper (see `report_labels`).
        blanks: What an empty cell becomes: unknown or zeros.
        lateral: Keep lateral views too.
        keep_missing: Keep the rows of images that are not there.
        seed: Seed of the random choice of validation patients.

    Raises:
        DataError: A file, column or cell is wrong, or more than half of the images are not there.
    """
    root = Path(root)
    base = _base(root)
    if base is None:
        raise DataError(f"{root}: no train.csv and valid.csv, here or in a folder CheXpert* below.")
    if labels not in (5, 14):
        raise DataError(f"labels {labels!r}: CheXpert has 5 (the scored ones) or 14.")
    names = CHEXPERT if labels == 5 else CHEXPERT14
    prefix = "" if base == root else base.relative_to(root).as_posix() + "/"
    parts = [_read(base / f"{part}.csv", prefix, split, names, uncertain, blanks) for part, split in SPLIT_OF.items()]
    table = pd.concat(parts, ignore_index=True)
    refuse_repeated(base, table["id"], "image")
    if not lateral:
        side = table["view"] == "lateral"
        table = table[~side].reset_index(drop=True)
        if side.any():
            note(table, f"{int(side.sum()):,} lateral views were left out.")
    refuse_patient_overlap(base, table)
    present = [prefix + file for file in files_below(base, (".jpg", ".jpeg", ".png"))]
    table = keep_present(table, root, present, keep_missing)
    return complete_splits(base, table, names, seed), names


SPLIT_OF = {"train": "train", "valid": "test"}


def _base(root: Path) -> Path | None:
    folders = [root, *sorted(root.glob("CheXpert*"))] if root.is_dir() else []
    return next((f for f in folders if all((f / f"{part}.csv").is_file() for part in SPLIT_OF)), None)


def _read(path: Path, prefix: str, split: str, names: tuple[str, ...], uncertain: str, blanks: str) -> pd.DataFrame:
    raw = read_csv(path)
    require_columns(path, raw, (*FACTS, *names), "the table of CheXpert")
    # `Path` repeats the name of the release's folder, which may have been renamed.
    below = raw["Path"].str.extract(r"(?:^|/)((?:train|valid)/patient(\d+)/(study\d+)/([^/]+))$")
    wrong = below[0].isna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise DataError(
            f"{path}: row {row + 2}: {raw['Path'].iloc[row]!r} is no path like "
            "train/patient00001/study1/view1_frontal.jpg."
        )
    view = raw["AP/PA"].str.strip().where(raw["Frontal/Lateral"].str.strip() == "Frontal", "lateral")
    table = pd.DataFrame(
        {
            "id": "patient" + below[1] + "_" + below[2] + "_" + below[3].str.rpartition(".")[0],
            "path": prefix + below[0],
            "patient": "patient" + below[1],
            "split": split,
        }
    )
    values = report_labels(path, raw, names, uncertain, blanks)
    age = pd.to_numeric(raw["Age"], errors="coerce").astype("Int64")
    facts = pd.DataFrame({"view": view, "sex": raw["Sex"].str.strip(), "age": age, "study": below[2]})
    return pd.concat([table, values, facts], axis=1)
