"""Cells of tables: as numbers and labels, written as text, and safe for spreadsheets."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from ...core.files import written_aside
from .plain_cells import DECIMAL_COMMA, UNKNOWN_CELLS
from .plain_cells import nearest as nearest
from .reading import read_csv as read_csv

# What begins a formula, also in the full-width forms that spreadsheets take for the same, and DDE's bar.
_SIGNS = "=+@|\uff1d\uff0b\uff0d\uff20-"
# Where a spreadsheet may begin a cell: at the start, after blanks that it strips, after a line's end or a separator of
# lists, by which a table that is opened with another separator falls apart.
_FORMULA = re.compile(
    f"(^|[\\t\\r\\n\\v\\f\\x85\\u2028\\u2029;,])([\\s\"'\\ufeff\\u200b-\\u200f]*)(?=[{re.escape(_SIGNS)}])(?!\\s*[+-]?[\\d.]+\\s*([\\n;,]|$))"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write_csv(path: str | Path, table: pd.DataFrame, **options) -> None:
    """Write a table as CSV, aside and then renamed."""
    with written_aside(path) as aside:
        table.to_csv(aside, index=False, lineterminator="\n", **options)


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table for people to open.

    Texts that a spreadsheet would take for a formula get an apostrophe before it, at each place where a cell may begin.

    Manifests and predictions are not written so: their ids must stay what they are.
    """

    def text(cell: object) -> object:
        return without_formulas(cell) if isinstance(cell, str) else cell

    texts = {column: table[column].map(text) for column in table.columns if table[column].dtype.kind not in "biuf"}
    return table.assign(**texts).rename(columns=text)


def without_formulas(text: str) -> str:
    """Return a text with an apostrophe before whatever a spreadsheet would take for a formula; numbers stay."""
    if _NUMBER.fullmatch(text):
        return text
    marked = _FORMULA.sub(lambda found: f"{found[1]}{found[2]}'", text)
    return f"'{marked}" if marked.startswith(("\t", "\r")) else marked


def is_numeric(cells: pd.Series) -> bool:
    """Return whether all known cells are numbers, and there are some."""
    known = cells[~cells.str.strip().str.lower().isin(UNKNOWN_CELLS)]
    return bool(len(known)) and bool(as_numbers(known).notna().all())


def is_binary(cells: pd.Series) -> bool:
    """Return whether all known cells are 0 or 1."""
    known = as_numbers(cells[~cells.str.strip().str.lower().isin(UNKNOWN_CELLS)])
    return bool(known.isin([0, 1]).all())


def as_numbers(cells: pd.Series) -> pd.Series:
    """Return texts as numbers, `29,4` as 29.4; NaN where there is none."""
    texts = cells.str.strip()
    values = pd.to_numeric(texts, errors="coerce")
    if values.isna().any():
        values = values.fillna(pd.to_numeric(texts.str.replace(DECIMAL_COMMA, r"\1.\2", regex=True), errors="coerce"))
    return values.astype("float64")


def numbers(path: Path, table: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as (N,) float64, NaN where it is unknown.

    Raises:
        DataError: A cell is no number.
    """
    plain = pd.to_numeric(table[column], errors="coerce")
    if plain.notna().all():  # as a table of a program's: no cell is unknown, or written as people do
        return plain.to_numpy(np.float64)
    cells = table[column].str.strip()
    unknown = cells.str.lower().isin(UNKNOWN_CELLS)
    values = as_numbers(cells.where(~unknown, ""))
    wrong = np.flatnonzero(values.isna() & ~unknown)
    if len(wrong):
        raise DataError(f"{path}: row {wrong[0] + 2}: {column} is {cells.iloc[wrong[0]]!r}, not a number.")
    return values.to_numpy(np.float64)


def label_cells(path: Path, table: pd.DataFrame, label: str, named: bool) -> np.ndarray:
    """Return a label's column as (N,) float64 of 0, 1 and NaN.

    Raises:
        DataError: A cell is none of these; the remedy depends on whether the user has `named` the label.
    """
    values = numbers(path, table, label)
    wrong = np.flatnonzero(~(np.isnan(values) | (values == 0) | (values == 1)))
    if len(wrong):
        remedy = "" if named else f" If {label!r} is no label, name the labels with --data.labels (check: --labels)."
        raise DataError(
            f"{path}: row {wrong[0] + 2}: {label} is {table[label].iloc[wrong[0]]}; "
            f"a label is 1 (present), 0 (absent) or empty (unknown).{remedy}"
        )
    return values
