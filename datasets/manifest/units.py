"""Units larger than an image: which rows of a table belong to one study, patient or case."""

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError, UserError
from .cells import UNKNOWN_CELLS, nearest

UNITS = ("study", "patient", "case")  # each a column of a manifest


def checked_unit(unit: str) -> str:
    """Return the name of a unit.

    Raises:
        UserError: There is none of this name.
    """
    if unit not in UNITS:
        raise UserError(f"unit {unit!r}{nearest(unit, UNITS)}: one of {', '.join(UNITS)}.")
    return unit


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
    patients = table["patient"].astype(str)
    if checked_unit(unit) == "patient":
        return patients
    if unit not in table.columns:
        raise DataError(
            f"{path}: no column {unit!r}{nearest(unit, table.columns)}: what belongs to one {unit} is not known. "
            f"Give the manifest a column {unit!r} (`clinvit prepare` takes one from a table or from DICOM headers), or "
            "take --unit patient."
        )
    names, alone = table[unit].astype(str).str.strip(), without_unit(table, unit)
    found = (patients + "/" + names).mask(alone, table["id"].astype(str))
    pairs = pd.Series(list(zip(patients.mask(alone, ""), names.mask(alone, table["id"].astype(str)))), table.index)
    if (twice := _named_twice(found, pairs)) is not None:
        raise DataError(f"{path}: two {plural(unit)} would both be called {twice!r} (patient/{unit}): rename one.")
    return found


def without_unit(table: pd.DataFrame, unit: str) -> np.ndarray:
    """Return (N,) which rows name no study (case), each of which is a unit of its own."""
    if unit == "patient":
        return np.zeros(len(table), dtype=bool)
    return table[unit].astype(str).str.strip().str.lower().isin(UNKNOWN_CELLS).to_numpy()


def plural(noun: str) -> str:
    """Return `images`, `studies`."""
    return f"{noun[:-1]}ies" if noun.endswith("study") else f"{noun}s"


def many(count: int, noun: str) -> str:
    """Return `1 image`, `25,596 images`, `2 studies`."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


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


def _named_twice(names: pd.Series, keys: "pd.Series[Hashable]") -> str | None:
    """Return a name that two keys share, or None."""
    distinct = pd.DataFrame({"name": names, "key": keys}).drop_duplicates()
    twice = distinct["name"][distinct["name"].duplicated()]
    return None if twice.empty else str(twice.iloc[0])
