"""Cells of CSV files: read and written as text, as numbers and labels, and safe for spreadsheets."""

import csv
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from ...core.files import refuse_irregular, written_aside

# What begins a formula, also in the full-width forms that spreadsheets take for the same, and DDE's bar.
_SIGNS = "=+@|\uff1d\uff0b\uff0d\uff20-"
# Where a spreadsheet may begin a cell: at the start, after blanks that it strips, after a line's end or a separator of
# lists, by which a table that is opened with another separator falls apart.
_FORMULA = re.compile(
    f"(^|[\\t\\r\\n\\v\\f\\x85\\u2028\\u2029;,])([\\s\"'\\ufeff\\u200b-\\u200f]*)(?=[{re.escape(_SIGNS)}])(?!\\s*[+-]?[\\d.]+\\s*([\\n;,]|$))"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
UNKNOWN_CELLS = ("", "nan", "na", "n/a", "none", "null")


def read_csv(path: Path, **options) -> pd.DataFrame:
    """Read a CSV as strings (empty cells are ''), with one clear error where it is none."""
    refuse_irregular(path, DataError)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", **options)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{path}: not a readable CSV table ({reason}). Save it as comma-separated UTF-8.") from None
    if table.empty:
        raise DataError(f"{path}: the table has no rows.")
    return table.fillna("")


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


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ' (did you mean 'x'?)' where something alike exists, else ''."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def is_numeric(cells: pd.Series) -> bool:
    """Return whether all known cells are numbers, and there are some."""
    known = cells[~cells.str.strip().str.lower().isin(UNKNOWN_CELLS)]
    return bool(len(known)) and bool(pd.to_numeric(known, errors="coerce").notna().all())


def numbers(path: Path, table: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as (N,) float64, NaN where it is unknown.

    Raises:
        DataError: A cell is no number.
    """
    cells = table[column].str.strip()
    unknown = cells.str.lower().isin(UNKNOWN_CELLS)
    values = pd.to_numeric(cells.where(~unknown), errors="coerce")
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
