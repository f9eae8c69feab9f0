"""People's tables as text cells, however they were saved: separator, encoding and kind of file are found and said."""

import csv
import gzip
import warnings
import zipfile
from pathlib import Path

import pandas as pd

from ...core.errors import DataError
from ...core.files import refuse_irregular
from .plain_table import (
    HEAD_BYTES,
    NAMED_SEPARATOR,
    OLD_EXCEL,
    SEPARATORS,
    encodings,
    numbered,
    separator_of,
    whole_lines,
)

_REMEDY = "Save it as a CSV, in UTF-8."


def read_csv(path: Path, header: int | None = 0, nrows: int | None = None) -> pd.DataFrame:
    """Read a table as strings (empty cells are ''), with one clear error where it is none.

    Commas, semicolons, tabs or vertical bars; UTF-8 with or without a mark, UTF-16, Windows' cp1252; gzip; Excel's
    `.xlsx`. Blanks around the names of columns are cut off, columns without a name and without a cell are left out.

    Args:
        path: The file.
        header: 0 where the first row names the columns, None where there is none.
        nrows: Rows to read at most.

    Returns:
        The cells. `attrs["notes"]` says what was found that is not plain, `attrs["repeated"]` the names of columns
        that stand twice: the later ones have a number behind them.

    Raises:
        DataError: No table, no rows, or a row that is longer than the header.
    """
    path = Path(path)
    refuse_irregular(path, DataError)
    try:
        table = _read(path, header, nrows)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (OSError, EOFError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{path}: not a readable CSV table ({reason}). {_REMEDY}") from None
    if table.empty:
        raise DataError(f"{path}: the table has no rows.")
    return table


def _read(path: Path, header: int | None, nrows: int | None) -> pd.DataFrame:
    with path.open("rb") as file:
        start = file.read(8)
    if start == OLD_EXCEL:
        raise DataError(f"{path}: a table of an old Excel (.xls). Save it as .xlsx or CSV.")
    if start.startswith(b"PK\x03\x04"):
        return _excel(path, header, nrows)
    zipped = start.startswith(b"\x1f\x8b")
    with gzip.open(path) if zipped else path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for encoding in encodings(head):
        try:
            return _text(path, head, encoding, zipped, header, nrows)
        except UnicodeError:
            continue
    raise DataError(f"{path}: not a readable CSV table (neither UTF-8, UTF-16 nor cp1252). {_REMEDY}")


def _text(path: Path, head: bytes, encoding: str, zipped: bool, header: int | None, nrows: int | None) -> pd.DataFrame:
    """Read a table in this encoding; UnicodeError where it is another."""
    lines = whole_lines(head, encoding)
    named = NAMED_SEPARATOR.match(lines[0]) if lines else None
    lines = lines[1:] if named else lines
    separator = named[1] if named else separator_of(lines)
    options = {
        "sep": separator, "encoding": encoding, "header": header, "nrows": nrows, "skiprows": 1 if named else 0,
        "compression": "gzip" if zipped else None, "dtype": str, "keep_default_na": False, "index_col": False,
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, **options).fillna("")
        emptied = 0
    except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
        if header is None:
            raise ValueError(str(error)) from None
        table, emptied = _row_by_row(path, encoding, zipped, separator, bool(named), nrows)
    names = next(csv.reader(lines, delimiter=separator), []) if header is not None else []
    table = _tidy(table, names) if header is not None else table
    notes = table.attrs.setdefault("notes", [])
    if emptied:
        notes.append(f"{path.name}: {emptied:,} rows end with more separators than the header; nothing stands there.")
    plain = encoding == "utf-8-sig"
    if separator != "," or not plain:
        words = "UTF-8" if plain else encoding.upper() if encoding.startswith("utf") else f"{encoding} (Windows)"
        notes.append(f"{path.name}: read as {words}, separated by {SEPARATORS.get(separator, repr(separator))}.")
    return table


def _row_by_row(
    path: Path, encoding: str, zipped: bool, separator: str, named: bool, nrows: int | None
) -> tuple[pd.DataFrame, int]:
    """Return a table some of whose rows are longer than the header, and how many; empty cells at the end only."""
    with (
        gzip.open(path, "rt", encoding=encoding, newline="")
        if zipped
        else path.open(encoding=encoding, newline="") as file
    ):
        rows = [row for row in csv.reader(file, delimiter=separator) if row][int(named) :]
    header, longer = rows[0], 0
    for place, row in enumerate(rows[1 : None if nrows is None else nrows + 1], start=2):
        if len(row) > len(header):
            if any(cell.strip() for cell in row[len(header) :]):
                raise DataError(
                    f"{path}: row {place} has {len(row)} cells, the header {len(header)}. A cell that holds "
                    f"{separator!r} stands in quotes; the first row names the columns, without a title above it."
                )
            longer += 1
        row[len(header) :] = []
        row += [""] * (len(header) - len(row))
    body = rows[1 : None if nrows is None else nrows + 1]
    return pd.DataFrame(body, columns=numbered(header), dtype=str), longer


def _tidy(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return the table with the blanks around its names cut off, and without empty columns that have no name."""
    bare = [name.strip().removeprefix("\ufeff") for name in names]
    repeated = sorted({name for name in bare if name and bare.count(name) > 1})
    table.columns = numbered(bare) if len(bare) == table.shape[1] else [str(name).strip() for name in table.columns]
    unnamed = [column for column in table.columns if column.startswith("Unnamed: ")]
    table = table.drop(columns=[column for column in unnamed if not table[column].str.strip().any()])
    table.attrs["notes"] = [
        f"the column {name!r} stands {bare.count(name)} times; the later ones were numbered ({name}.1, ...)."
        for name in repeated
    ]
    table.attrs["repeated"] = repeated
    return table


def _excel(path: Path, header: int | None, nrows: int | None) -> pd.DataFrame:
    """Read the first sheet of an `.xlsx`."""
    try:
        import openpyxl  # noqa: F401  pandas asks for it by a longer message
    except ImportError:
        raise DataError(
            f"{path}: an Excel table needs openpyxl: install clinvit[excel], or save the table as CSV (UTF-8)."
        ) from None
    with pd.ExcelFile(path, engine="openpyxl") as book:
        sheets = book.sheet_names
        cells = pd.read_excel(
            book, sheet_name=sheets[0], header=None, dtype=str, keep_default_na=False, na_filter=False,
            nrows=None if nrows is None else nrows + (header is not None),
        )  # fmt: skip
    cells = cells.fillna("").astype(str)
    notes = [f"{path.name}: read as an Excel table, sheet {sheets[0]!r}."]
    if len(sheets) > 1:
        notes.append(f"{path.name}: the other sheets ({', '.join(map(str, sheets[1:]))}) were not read.")
    if header is not None and len(cells):
        names = [str(name) for name in cells.iloc[0]]
        cells = cells.iloc[1:].reset_index(drop=True)
        cells.columns = numbered(names)
        cells = _tidy(cells[(cells != "").any(axis=1)].reset_index(drop=True), names)
        notes += cells.attrs["notes"]
    cells.attrs["notes"] = notes
    return cells
