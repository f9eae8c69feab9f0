"""CheXpert Plus (Chambon et al. 2024): df_chexpert_plus_240401.csv, labels of the reports, PNG/ or DICOM/ folders."""

from pathlib import Path

import numpy as np
import pandas as pd

from ....core.documents import json_lines
from ....core.errors import DataError
from ....datasets.manifest.columns import policy
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
from .chexpert import SPLIT_OF
from .report_labels import report_labels

PATTERN = "df_chexpert_plus*.csv"
COLUMNS = ("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "split")
SECTIONS = ("impression", "findings", "report")
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")
_PARTS = r"(?:^|/)((train|valid)/(patient\d+)/(study\d+)/([^/]+?))(?:\.\w+)?$"


def recognise(root: Path) -> bool:
    """Return whether there is a df_chexpert_plus*.csv."""
    return root.is_dir() and any(root.glob(PATTERN))


def read(
    root: str | Path,
    *,
    section: str = "impression",
    labels: int = 5,
    uncertain: str = "unknown",
    blanks: str = "unknown",
    lateral: bool = False,
    keep_missing: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read CheXpert Plus with the labels that CheXbert read from its reports.

    The published valid set is the test set here, as for CheXpert; val is cut from train by patient.

    Args:
        root: The folder with the table, with the folder of labels (chexbert_labels or any other) and the images below.
        section: Part of the report that the labels are of: impression, findings or report.
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
    found = sorted(root.glob(PATTERN))
    if not found:
        raise DataError(f"{root}: no df_chexpert_plus_240401.csv. It comes with CheXpert Plus.")
    if labels not in (5, 14):
        raise DataError(f"labels {labels!r}: CheXpert has 5 (the scored ones) or 14.")
    names = CHEXPERT if labels == 5 else CHEXPERT14
    path, raw = found[-1], read_csv(found[-1])
    require_columns(path, raw, COLUMNS, "the table of CheXpert Plus")
    table = _table(path, raw)
    refuse_repeated(path, table["id"], "image")
    said = _said(root, policy("section", section, SECTIONS), names, uncertain, blanks)
    table[list(names)] = said.reindex(table["key"]).to_numpy(np.float64)
    unsaid = ~table.pop("key").isin(said.index)
    if unsaid.any():
        note(table, f"{int(unsaid.sum()):,} images have no labels of their {section}; theirs are unknown.")
    if not lateral:
        side = table["view"] == "lateral"
        attrs, table = table.attrs, table[~side].reset_index(drop=True)
        table.attrs = attrs
        if side.any():
            note(table, f"{int(side.sum()):,} lateral views were left out.")
    refuse_patient_overlap(path, table)
    files = files_below(root, SUFFIXES)
    by_key = {_key(file): file for file in reversed(files)}
    table["path"] = table["path"].map(_key).map(by_key).fillna(table["path"])
    table = keep_present(table, root, files, keep_missing)
    return complete_splits(path, table, names, seed), names


def _table(path: Path, raw: pd.DataFrame) -> pd.DataFrame:
    parts = raw["path_to_image"].str.strip().str.extract(_PARTS)
    wrong = np.flatnonzero(parts[0].isna())
    if len(wrong):
        cell = raw["path_to_image"].iloc[wrong[0]]
        raise DataError(
            f"{path}: row {wrong[0] + 2}: {cell!r} is no path like train/patient00001/study1/view1_frontal.jpg."
        )
    frontal = raw["frontal_lateral"].str.strip().str.lower() == "frontal"
    table = pd.DataFrame({
        "id": parts[2] + "_" + parts[3] + "_" + parts[4], "path": raw["path_to_image"].str.strip(),
        "patient": raw["deid_patient_id"].str.strip(), "split": raw["split"].str.strip().map(SPLIT_OF),
        "view": raw["ap_pa"].str.strip().where(frontal, "lateral"), "study": parts[3], "key": parts[0],
    })  # fmt: skip
    table["patient"] = table["patient"].mask(table["patient"] == "", parts[2])
    table["split"] = table["split"].fillna(parts[1].map(SPLIT_OF))
    for fact in ("sex", "age"):
        if fact in raw:
            table[fact] = raw[fact].str.strip()
    return table


def _said(root: Path, section: str, names: tuple[str, ...], uncertain: str, blanks: str) -> pd.DataFrame:
    """Return the labels by path below the folder of images, without suffix."""
    found = sorted(root.rglob(f"{section}_fixed.json"))
    if not found:
        raise DataError(
            f"{root}: no {section}_fixed.json below it, which holds the labels of the reports. Unpack chexbert_labels "
            "here, or name another section."
        )
    keys, rows = [], []
    for line in json_lines(found[0], DataError):
        keys.append(_key(str(line.get("path_to_image", ""))))
        rows.append(["" if line.get(name) is None else str(line[name]) for name in names])
    if not rows:
        raise DataError(f"{found[0]}: no line with labels.")
    values = report_labels(found[0], pd.DataFrame(rows, columns=list(names)), names, uncertain, blanks)
    values = values.set_axis(keys)
    return values[~values.index.duplicated()]


def _key(path: str) -> str:
    """Return what a path of any of the set's folders names: `train/patient00001/study1/view1_frontal`."""
    return "/".join(path.split("/")[-4:]).rpartition(".")[0] if "." in path else "/".join(path.split("/")[-4:])
