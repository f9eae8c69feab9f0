"""A manifest's columns as groups of cases: categories, bands of age, quarters of other numbers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.errors import DataError, UserError
from ...datasets.manifest.tables import UNKNOWN_CELLS, Manifest, nearest

USUAL = ("sex", "age", "view", "scanner", "site")  # columns that are looked at unasked
NOT_RECORDED = "not recorded"
MOST = 8  # categories named; the less frequent ones are put together
AGE_BANDS = ((0, "0–17"), (18, "18–39"), (40, "40–59"), (60, "60–79"), (80, "80+"))  # years from, name
OLDEST = 120  # years; a higher age is an error of the register
_SHARE = 0.1  # of the recorded cases: where the most frequent values hold less, they are no categories


class Group(NamedTuple):
    """Cases with the same value of a column.

    Attributes:
        name: The value or the band.
        rows: (N,) boolean.
    """

    name: str
    rows: np.ndarray


def manifest_columns(manifest: Manifest) -> pd.DataFrame:
    """Return what a manifest says of each case: all columns but the path, by id."""
    return manifest.table.set_index("id").drop(columns="path")


def usual_columns(columns: pd.DataFrame) -> list[str]:
    """Return those named sex, age, view, scanner or site, in any case of letters, with two values or more."""
    named = {name.lower(): name for name in columns.columns}
    found = [named[name] for name in USUAL if name in named]
    return [name for name in found if texts(columns[name]).nunique() > 1 and not why_no_groups(texts(columns[name]))]


def refuse_columns(columns: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise unless the named columns make groups.

    Raises:
        UserError: A column is not there, is named twice, or has neither categories nor numbers.
        DataError: A named column stands twice.
    """
    for place, name in enumerate(names):
        if name not in columns.columns:
            have = ", ".join(map(str, columns.columns))
            raise UserError(f"subgroups: the manifest has no column {name!r}{nearest(name, columns.columns)}: {have}.")
        if name in names[:place]:
            raise UserError(f"subgroups: the column {name!r} is named twice.")
        if list(columns.columns).count(name) > 1:
            raise DataError(f"subgroups: the column {name!r} stands twice in the manifest. Rename or remove one.")
        why = why_no_groups(texts(columns[name]))
        if why:
            raise UserError(f"subgroups: the column {name!r} makes no groups ({why}). Name one with categories.")


def texts(cells: pd.Series) -> pd.Series:
    """Return the cells as stripped texts, '' where nothing is recorded."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells.map(lambda cell: "" if pd.isna(cell) else f"{cell:.10g}").astype(object)
    found = cells.fillna("").astype(str).str.strip().astype(object)
    return found.mask(found.str.lower().isin(UNKNOWN_CELLS), "")


def numbers(cells: pd.Series) -> np.ndarray | None:
    """Return texts as (N,) float64, NaN where nothing is recorded; None where one is no finite number.

    None also where all are ''.
    """
    found = pd.to_numeric(cells.where(cells != ""), errors="coerce").to_numpy(np.float64)
    numeric = np.isfinite(found) | (cells == "").to_numpy()
    return found if numeric.all() and np.isfinite(found).any() else None


def why_no_groups(cells: pd.Series) -> str:
    """Say why texts are neither categories nor numbers; empty where they are."""
    known = cells[cells != ""]
    counts = known.value_counts()
    if len(known) and known.str.contains(r"\.[A-Za-z]\w{1,5}$").mean() > 0.5:
        return "names of files"
    if len(counts) <= MOST or numbers(cells) is not None:
        return ""
    if len(counts) > len(known) / 2 or counts.iloc[:MOST].sum() < _SHARE * len(known):
        return f"{len(counts):,} different values in {len(known):,} cases"
    return ""


def groups(column: str, cells: pd.Series) -> list[Group]:
    """Return the groups of a column, which part the N cases; the last holds those without an entry, if any.

    A numeric column named `age` is cut into 0-17, 18-39, 40-59, 60-79 and 80+ years; any other numeric column with
    more than 8 values into quarters, whose edges are in their names. Else each value is a group, numbers in rising
    order, texts by falling frequency; of more than 8 texts the less frequent ones are one group.

    Args:
        column: Its name.
        cells: (N,) of `texts`.
    """
    values = numbers(cells)
    if values is not None and column.lower() == "age":
        found = _ages(values)
    elif values is not None and len(np.unique(values[~np.isnan(values)])) > MOST:
        found = _quarters(values)
    else:
        found = _categories(cells, values)
    found.append(Group(NOT_RECORDED, (cells == "").to_numpy()))
    return [group for group in found if group.rows.any()]


def _ages(years: np.ndarray) -> list[Group]:
    plausible = (years >= 0) & (years <= OLDEST)
    band = np.searchsorted([start for start, _ in AGE_BANDS], years, side="right") - 1
    found = [Group(name, plausible & (band == i)) for i, (_, name) in enumerate(AGE_BANDS)]
    return [*found, Group(f"below 0 or over {OLDEST}", ~plausible & ~np.isnan(years))]


def _quarters(values: np.ndarray) -> list[Group]:
    # Edges are values of the data, so that their names are as short as these; equal values are never parted.
    edges = np.unique(np.nanquantile(values, [0.25, 0.5, 0.75], method="inverted_cdf"))
    edges = edges[edges < np.nanmax(values)]
    if not len(edges):  # nearly all values are the largest
        edges = np.unique(values[~np.isnan(values)])[-2:-1]
    shown = [f"{edge:.10g}" for edge in edges]
    names = [f"up to {shown[0]}", *(f"over {low} to {high}" for low, high in pairwise(shown)), f"over {shown[-1]}"]
    band = np.searchsorted(edges, values, side="left")
    return [Group(name, (band == i) & ~np.isnan(values)) for i, name in enumerate(names)]


def _categories(cells: pd.Series, values: np.ndarray | None) -> list[Group]:
    counts = cells[cells != ""].value_counts()
    key = float if values is not None else lambda name: (-counts[name], name)
    names = sorted(counts.index, key=key)
    kept = names if len(names) <= MOST else names[: MOST - 1]
    found = [Group(name, (cells == name).to_numpy()) for name in kept]
    rest = names[len(kept) :]
    return [*found, Group(f"{len(rest)} other values", cells.isin(rest).to_numpy())]
