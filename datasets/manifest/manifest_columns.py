"""A manifest as columns, by NumPy alone: for `clinvit-runtime`, which has no pandas.

`tables.read_manifest` has the same as a DataFrame, and says more of what is wrong. What it refuses for a prediction is
refused here too; of its labels those that are asked for alone are looked at.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.documents import read_json
from ...core.errors import DataError
from ...core.label_groups import groups_of, settled
from .covariates import is_covariate
from .plain_cells import DECIMAL_COMMA, NOBODY, UNKNOWN_CELLS, nearest, visible
from .plain_table import plain_table
from .rois import ROIS, rois_beside
from .roots import refuse_outside
from .unit_names import UNITS

KEYS = ("id", "path", "patient", "split")
SPLITS = ("train", "val", "test")
_OTHER = "`clinvit prepare` of the whole of ClinViT (pip install clinvit) makes a manifest from other tables."


def manifest_columns(path: Path, labels: Sequence[str]) -> tuple[dict[str, Any], np.ndarray]:
    """Return the cases of a manifest, and (N, L) float64 truth of 0, 1 and NaN (unknown).

    The cases have `id, path` (of the file), `patient, split`, and `shown`, what stands for the path in a reason: the
    id, for names of files stay in the manifest; `study` and `case`, where there are such columns; and `ROIS`, where
    boxes of regions of interest lie beside it.

    Args:
        path: The CSV file.
        labels: L labels of the model; those that the manifest does not have are unknown.

    Raises:
        DataError: As of `tables.read_manifest`.
    """
    table = plain_table(path)
    for key in KEYS:
        if key not in table:
            raise DataError(f"{path}: no column {key!r}{nearest(key, table)}. {_OTHER}")
        if not all(map(str.strip, table[key])):
            row = [cell.strip() for cell in table[key]].index("")
            raise DataError(f"{path}: row {row + 2}: the cell {key!r} is empty. Fill it in.")
    ids, splits = table["id"], table["split"]
    seen: set[str] = set()
    twice = [cell in seen or seen.add(cell) is not None for cell in ids]
    _refuse_first(path, twice, ids, "id {!r} stands twice. Ids are unique.")
    words = f"split {{!r}}; a split is one of {', '.join(SPLITS)}."
    _refuse_first(path, [cell not in SPLITS for cell in splits], splits, words)
    patients = _patients(path, table["patient"], ids, splits)
    roots, signature, named, targets = _beside(path.with_suffix(".json"))
    refuse_outside(path, "path", [cell.strip() for cell in table["path"]], roots, signature)
    cases = {"id": ids, "path": [str(path.parent / cell) for cell in table["path"]], "patient": patients}
    truth = np.full((len(ids), len(labels)), np.nan)
    for place, label in enumerate(labels):
        if label in table and label not in targets and (label in named or not is_covariate(label)):
            truth[:, place] = _truth(path, label, table[label])
    if groups_of(labels):
        truth = settled(str(path), labels, truth)
    units = {unit: table[unit] for unit in UNITS if unit in table and unit not in (*cases, *labels)}
    boxes = rois_beside(path)
    return cases | {"split": splits, "shown": ids} | units | ({ROIS: [boxes] * len(ids)} if boxes else {}), truth


def _refuse_first(path: Path, wrong: Sequence[bool], cells: Sequence[str], words: str) -> None:
    """Raise on the first cell that is wrong."""
    if any(wrong):
        row = list(wrong).index(True)
        raise DataError(f"{path}: row {row + 2}: {words.format(cells[row])}")


def _patients(path: Path, cells: Sequence[str], ids: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Return tidy names; one that names nobody, or stands in two splits, is refused."""
    tidy = {cell: visible(cell) for cell in set(cells)}
    nobody = [tidy[cell].casefold() in NOBODY and cell != own for cell, own in zip(cells, ids)]
    _refuse_first(path, nobody, cells, "the cell 'patient' is {!r}, which names nobody. Fill it in, or repeat the id.")
    first: dict[str, str] = {}
    for cell, split in zip(cells, splits):
        if first.setdefault(tidy[cell], split) != split:
            where = " and ".join(sorted((first[tidy[cell]], split)))
            raise DataError(f"{path}: patient {tidy[cell]!r} is in {where}. Split by patient.")
    return [tidy[cell] for cell in cells]


def _beside(path: Path) -> tuple[list[str], str, list[str], dict]:
    """Return what stands beside a manifest: roots, their signature, labels named like covariates, and targets."""
    if not path.exists():
        return [], "", [], {}
    facts = read_json(path, DataError)
    try:
        roots, named = [os.fspath(root) for root in facts.get("roots", [])], [str(n) for n in facts.get("labels", [])]
        return roots, str(facts.get("signature", "")), named, dict(facts.get("targets", {}))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: not readable ({error}). Mend or remove it.") from None


def _truth(path: Path, label: str, cells: Sequence[str]) -> np.ndarray | float:
    """Return (N,) of 0, 1 and NaN; NaN for a column that holds other texts, which is no label."""
    known = [(row, cell.strip()) for row, cell in enumerate(cells) if cell.strip().lower() not in UNKNOWN_CELLS]
    truth = np.full(len(cells), np.nan)
    try:
        for row, cell in known:
            truth[row] = float(re.sub(DECIMAL_COMMA, r"\1.\2", cell))
    except ValueError:
        return np.nan
    wrong = ~(np.isnan(truth) | (truth == 0) | (truth == 1))
    _refuse_first(
        path, wrong.tolist(), cells, f"{label} is {{}}; a label is 1 (present), 0 (absent) or empty (unknown)."
    )
    return truth
