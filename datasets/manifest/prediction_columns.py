"""The columns of `predictions.csv` and the file itself, by NumPy alone: for `clinvit-runtime`, which has no pandas.

`tables` has the same as a DataFrame.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import written_aside

DIGITS = "%.7g"  # of a score
Columns = dict[str, Any]  # name to N values


def prediction_columns(
    cases: Mapping[str, Any],
    labels: Sequence[str],
    truth: np.ndarray,
    scores: np.ndarray,
    reasons: Sequence[str],
    decision: Sequence[str] | None = None,
    targets: Sequence[Any] = (),
) -> Columns:
    """Return the columns of a predictions table; arguments as of `tables.predictions_table`."""
    failed = np.array([bool(reason) for reason in reasons], dtype=bool)
    columns: Columns = {key: list(cases[key]) for key in ("id", "patient", "split")}
    columns["status"] = np.where(failed, "failed", "ok").tolist()
    columns["reason"] = list(reasons)
    if decision is not None:
        columns["decision"] = np.where(failed, "", list(decision)).tolist()
    scores = np.where(failed[:, None], np.nan, scores)
    if targets:
        columns |= dict(zip((name for each in targets for name in each.truth), truth.T, strict=True))
        for each, own in zip(targets, np.split(scores, np.cumsum([len(each.columns) for each in targets])[:-1], 1)):
            columns |= each.decided(own) | dict(zip(each.columns, own.T))
        return columns
    columns |= {f"y_{label}": truth[:, place] for place, label in enumerate(labels)}
    return columns | {f"p_{label}": scores[:, place] for place, label in enumerate(labels)}


def write_columns(path: str | Path, columns: Mapping[str, Any]) -> None:
    """Write columns as `tables.write_predictions` writes the table, to the byte."""
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*map(_cells, columns.values()), strict=True))


def _cells(values: Any) -> Iterator[str]:
    """Yield values as text: numbers with seven digits, unknown ones empty."""
    for value in values:
        if isinstance(value, str):
            yield value
        else:
            yield "" if np.isnan(value) else DIGITS % value
