"""Units larger than an image: which rows of a table belong to one study, patient or case."""

from pathlib import Path

import numpy as np
import pandas as pd

from .unit_names import UNITS as UNITS
from .unit_names import checked_unit as checked_unit
from .unit_names import many as many
from .unit_names import nameless, unit_names
from .unit_names import plural as plural


def unit_ids(path: str | Path, table: pd.DataFrame, unit: str) -> pd.Series:
    """Return the unit of each of N rows, alike in every table of the same cases.

    It is the patient, or patient and study (case) with `/` between, for many archives number the studies of each
    patient from 1. A row without a study (case) is a unit of its own, named as the row.

    Args:
        path: What messages call the table.
        table: With `id`, `patient`, and the column of the unit.
        unit: `study`, `patient` or `case`.

    Raises:
        DataError: There is no such column, or two units would have one name.
    """
    return pd.Series(unit_names(path, table, unit), table.index, dtype=object)  # type: ignore[arg-type]


def without_unit(table: pd.DataFrame, unit: str) -> np.ndarray:
    """Return (N,) which rows name no study (case), each of which is a unit of its own."""
    if unit == "patient":
        return np.zeros(len(table), dtype=bool)
    return np.array(nameless(table[unit]), dtype=bool)


def unit_note(table: pd.DataFrame, unit: str) -> str:
    """Return how many studies (cases) the rows of a manifest are; empty where each is one of its own."""
    if unit not in table.columns:
        return ""
    names = unit_ids("", table.fillna({unit: ""}), unit)
    if not names.duplicated().any():
        return ""
    alone = int(without_unit(table.fillna({unit: ""}), unit).sum())
    without = f" ({alone:,} rows without one are one each)" if alone else ""
    are = f"{len(table):,} rows are {many(names.nunique(), unit)}"
    return f"column {unit!r}: {are}{without}; --unit {unit} scores these."
