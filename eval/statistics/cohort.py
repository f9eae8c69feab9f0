"""Who the cases are: the manifest's columns by split, the first table of a paper."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.errors import DataError
from ...datasets.manifest.tables import KEYS, SPLITS, Manifest
from .groups import MOST, groups, numbers, texts, why_no_groups

IDENTIFIERS = frozenset(["study", "series", "duplicate_of"])  # known columns that name something, number or not


class Count(NamedTuple):
    """Cases with a value, and the patients that they are of."""

    cases: int
    patients: int


class Quartiles(NamedTuple):
    """Median, quartiles and range of a numeric column in one split; NaN where nothing is recorded."""

    median: float
    lower_quartile: float
    upper_quartile: float
    smallest: float
    largest: float


@dataclass(frozen=True)
class Column:
    """One column in S splits.

    Attributes:
        name: As in the manifest.
        recorded: (S,) cases with an entry.
        missing: (S,) cases without.
        quartiles: S of a numeric column; empty for categories.
        categories: Name to S counts; empty for a numeric column.
    """

    name: str
    recorded: tuple[int, ...]
    missing: tuple[int, ...]
    quartiles: tuple[Quartiles, ...]
    categories: dict[str, tuple[Count, ...]]


@dataclass(frozen=True)
class Cohort:
    """The cases of a manifest.

    Attributes:
        splits: The S splits that have cases.
        sizes: S cases and patients.
        columns: What is recorded of them, in the manifest's order.
        left_out: Column to the reason why it is not among these.
    """

    splits: tuple[str, ...]
    sizes: tuple[Count, ...]
    columns: list[Column]
    left_out: dict[str, str]


def cohort(manifest: Manifest) -> Cohort:
    """Describe every column that is no key (`id, path, patient, split`) and no label.

    Numbers with more than 8 values, and the age, get median, quartiles and range; anything else is counted, at most
    8 categories.

    Raises:
        DataError: Two columns have the same name.
    """
    table = manifest.table
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise DataError(f"{manifest.path}: the column {repeated[0]!r} stands twice. Rename or remove one.")
    splits = tuple(split for split in SPLITS if (table["split"] == split).any())
    parts = [(table["split"] == split).to_numpy() for split in splits]
    columns, left_out = [], {}
    for name in table.columns:
        if name in KEYS or name in manifest.labels:
            continue
        cells = texts(table[name])
        why = "an identifier" if name.lower() in IDENTIFIERS else why_no_groups(cells)
        if not why and not (cells != "").any():
            why = "recorded in no case"
        if why:
            left_out[name] = why
        else:
            columns.append(_column(name, cells, table["patient"], parts))
    return Cohort(splits, tuple(_count(part, table["patient"]) for part in parts), columns, left_out)


def _column(name: str, cells: pd.Series, patients: pd.Series, parts: list[np.ndarray]) -> Column:
    values, known = numbers(cells), (cells != "").to_numpy()
    if values is not None and name.lower() != "age" and len(np.unique(values[known])) <= MOST:
        values = None  # so few numbers are categories
    found = groups(name, cells[known]) if values is None else []
    categories = {}
    for group in found:
        rows = known.copy()
        rows[known] = group.rows
        categories[group.name] = tuple(_count(rows & part, patients) for part in parts)
    return Column(
        name=name,
        recorded=tuple(int((known & part).sum()) for part in parts),
        missing=tuple(int((~known & part).sum()) for part in parts),
        quartiles=() if values is None else tuple(_quartiles(values[known & part]) for part in parts),
        categories=categories,
    )


def _quartiles(values: np.ndarray) -> Quartiles:
    if not len(values):
        return Quartiles(*[float("nan")] * 5)
    return Quartiles(*(float(value) for value in np.quantile(values, [0.5, 0.25, 0.75, 0, 1])))


def _count(rows: np.ndarray, patients: pd.Series) -> Count:
    return Count(int(rows.sum()), patients[rows].nunique())
