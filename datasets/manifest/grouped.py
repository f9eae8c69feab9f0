"""Columns of class names, or of 0 and 1, as labels of a group of classes that stands beside findings."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...core.errors import DataError
from ...core.label_groups import SIGN
from .cells import UNKNOWN_CELLS, nearest

MOST = 50  # classes of a column; of more it holds something else


def with_groups(path: Path, table: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Return a table of text cells with the columns `group=class` in the place of those that a group is made of.

    Args:
        path: What messages call the table.
        table: Of texts.
        groups: `view`, a column of class names, or `view:AP+PA`, columns of 0 and 1.

    Raises:
        DataError: A column is missing, or holds no classes.
    """
    for text in groups:
        group, sign, columns = text.partition(":")
        table = _renamed(path, table, group, columns.split("+")) if sign else _spread(path, table, group)
    return table


def _renamed(path: Path, table: pd.DataFrame, group: str, columns: Sequence[str]) -> pd.DataFrame:
    for column in columns:
        _refuse_missing(path, table, column)
    if len(set(columns)) < 2:
        raise DataError(f"{path}: groups={group}: a group has two classes or more: {group}:AP+PA.")
    made = table.rename(columns={column: f"{group}{SIGN}{column}" for column in columns})
    made.attrs = dict(table.attrs)
    return made


def _spread(path: Path, table: pd.DataFrame, group: str) -> pd.DataFrame:
    """Return the table with a column of 0, 1 and '' (unknown) for each class that a column names."""
    _refuse_missing(path, table, group)
    cells = table[group].str.strip()
    unknown = cells.str.lower().isin(UNKNOWN_CELLS)
    classes = sorted(set(cells[~unknown]), key=_as_numbers)
    if not 2 <= len(classes) <= MOST:
        raise DataError(
            f"{path}: column {group!r} holds {len(classes)} different cells; a group has 2 to {MOST} classes."
        )
    own = {f"{group}{SIGN}{name}": (cells == name).map({True: "1", False: "0"}).mask(unknown, "") for name in classes}
    made = table.drop(columns=group).assign(**own)
    made.attrs = dict(table.attrs)
    return made


def _as_numbers(name: str) -> tuple[bool, float, str]:
    """Return a key that puts numbers before words, by their size."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name


def _refuse_missing(path: Path, table: pd.DataFrame, column: str) -> None:
    if column not in table.columns:
        raise DataError(f"{path}: groups: no column {column!r}{nearest(column, table.columns)}.")
