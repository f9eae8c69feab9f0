"""What an evaluation reads: predictions as tables in memory, files or run folders, and the manifest."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from ..datasets.manifest.tables import Manifest, Predictions, checked_predictions, read_manifest, read_predictions

PREDICTIONS, MANIFEST = "predictions.csv", "manifest.csv"
_NAMED = 3  # findings named in a note
Table: TypeAlias = pd.DataFrame | Predictions | str | os.PathLike
Cases: TypeAlias = Manifest | str | os.PathLike


def open_predictions(source: Table, name: str, targets: bool = False) -> Predictions:
    """Return a checked predictions table.

    Args:
        source: A table as `predict` returns it, a `predictions.csv`, or the run folder that holds one.
        name: Of the model, for messages on a table in memory.
        targets: Whether one of numbers, grades or times is taken too.

    Raises:
        DataError: It is no predictions table; see `read_predictions`.
    """
    if isinstance(source, Predictions):
        return source
    if isinstance(source, pd.DataFrame):
        cells = source.astype(str).mask(source.isna(), "").reset_index(drop=True)  # as a file has them: checked alike
        return checked_predictions(
            Path(name), cells.set_axis([str(column).strip() for column in cells], axis=1), targets
        )
    path = Path(source)
    return read_predictions(path / PREDICTIONS if path.is_dir() else path, targets)


def open_cases(data: Cases) -> Manifest:
    """Return the manifest: itself, read from its file, or from the folder that holds it.

    Raises:
        DataError: It is no manifest; see `read_manifest`.
    """
    if isinstance(data, Manifest):
        return data
    path = Path(data)
    return read_manifest(path / MANIFEST if path.is_dir() else path)


def held_against(table: Predictions, manifest: Manifest, split: str) -> Predictions:
    """Return predictions with notes on what the manifest says otherwise: missing cases, other patients, other splits.

    Args:
        table: Of one model.
        manifest: Of the cases.
        split: That is evaluated.
    """
    rows, cases = table.table[table.table["split"] == split], manifest.table
    both = rows[["id", "patient"]].merge(cases[["id", "patient", "split"]], on="id", suffixes=("", "_manifest"))
    lost = cases[(cases["split"] == split) & ~cases["id"].isin(table.table["id"])]
    found = [_missing(lost, int((cases["split"] == split).sum()), split, manifest), _parted(both), _moved(both, split)]
    return replace(table, notes=(*table.notes, *filter(None, found)))


def _missing(lost: pd.DataFrame, whole: int, split: str, manifest: Manifest) -> str:
    """Say how many cases of the manifest were never predicted, and how many of these are positive."""
    if not len(lost):
        return ""
    positive = {label: int((lost[label] == 1).sum()) for label in manifest.labels}
    most = sorted((label for label in positive if positive[label]), key=lambda label: -positive[label])[:_NAMED]
    words = "".join(f", {positive[label]:,} positive for {label}" for label in most)
    return (
        f"{len(lost):,} of {whole:,} {split} cases of the manifest are not in the table{words}: they count nowhere, "
        "not even as failed. Predict the whole split."
    )


def _parted(both: pd.DataFrame) -> str:
    """Say whose cases count as those of several patients; other names for the same patients are none."""
    pairs = both[["patient", "patient_manifest"]].drop_duplicates()
    parted = pairs.loc[pairs["patient_manifest"].duplicated(keep=False), "patient_manifest"].unique()
    if not len(parted):
        return ""
    return (
        f"{len(parted):,} patients of the manifest are several patients in the table, first {parted[0]!r}: their cases "
        "count as independent, so that intervals are too narrow. Name the patients as the manifest does."
    )


def _moved(both: pd.DataFrame, split: str) -> str:
    """Say which cases belong to another split by the manifest."""
    other = both.loc[both["split"] != split, "split"].value_counts()
    if not len(other):
        return ""
    where = ", ".join(f"{count:,} in {name}" for name, count in other.items())
    return f"{int(other.sum()):,} {split} cases of the table are in another split of the manifest ({where})."
