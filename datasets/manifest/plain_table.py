"""Tables as rows of text, without pandas: which encoding and separator they have, and one clear error for none.

`reading` reads more, into a DataFrame: Excel's own files, and tables that have no header.
"""

import csv
import gzip
import re
from pathlib import Path

from ...core.errors import DataError
from ...core.files import refuse_irregular

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
HEAD_BYTES = 1 << 16  # bytes that a separator is looked for in
NAMED_SEPARATOR = re.compile(r'\s*"?sep=(.)"?\s*$')  # Excel's own first line
OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def plain_table(path: Path) -> dict[str, list[str]]:
    """Return the columns of a table as strings (empty cells are ''), as `reading.read_csv` gives them.

    Raises:
        DataError: No table, an Excel file, no rows, or a row that is longer than the header.
    """
    refuse_irregular(path, DataError)
    try:
        names, rows = _rows(path)
    except (OSError, EOFError, ValueError, csv.Error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a readable CSV table ({error}). Save it as a CSV, in UTF-8.") from None
    if not rows:
        raise DataError(f"{path}: the table has no rows.")
    for number, row in enumerate(rows, start=2):
        if any(cell.strip() for cell in row[len(names) :]):
            raise DataError(
                f"{path}: row {number} has {len(row)} cells, the header {len(names)}. A cell that holds the separator "
                "stands in quotes; the first row names the columns, without a title above it."
            )
        row += [""] * (len(names) - len(row))
    bare = numbered([name.strip().removeprefix("\ufeff") for name in names])
    return dict(zip(bare, map(list, zip(*(row[: len(names)] for row in rows)))))


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the first row of a file, and the others; blank ones are left out."""
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith((OLD_EXCEL, b"PK\x03\x04")):
        raise DataError(f"{path}: an Excel table. Save it as a CSV, in UTF-8.")
    zipped = start.startswith(b"\x1f\x8b")
    with gzip.open(path) if zipped else path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for encoding in encodings(head):
        try:
            lines = whole_lines(head, encoding)
            named = NAMED_SEPARATOR.match(lines[0]) if lines else None
            separator = named[1] if named else separator_of(lines)
            with (
                gzip.open(path, "rt", encoding=encoding, newline="")
                if zipped
                else path.open(encoding=encoding, newline="") as text
            ):
                rows = [row for row in csv.reader(text, delimiter=separator) if row][int(bool(named)) :]
            return (rows[0], rows[1:]) if rows else ([], [])
        except UnicodeError:
            continue
    raise ValueError("neither UTF-8, UTF-16 nor cp1252")


def encodings(head: bytes) -> tuple[str, ...]:
    """Return what the bytes may be, the likeliest first."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ("utf-16",)
    even, odd = head[::2].count(0), head[1::2].count(0)
    if odd > len(head) // 8 and not even:
        return ("utf-16-le",)
    if even > len(head) // 8 and not odd:
        return ("utf-16-be",)
    return ("utf-8-sig",) if even or odd else ("utf-8-sig", "cp1252")


def whole_lines(head: bytes, encoding: str) -> list[str]:
    """Return the whole lines at the start of a file, blank ones left out."""
    text = head.decode(encoding, errors="ignore" if len(head) == HEAD_BYTES else "strict")
    lines = text.splitlines(keepends=True)
    if len(head) == HEAD_BYTES and len(lines) > 1:
        lines.pop()  # it may be cut off
    return [line for line in lines if line.strip()]


def separator_of(lines: list[str]) -> str:
    """Return what separates the cells: what cuts most rows as the first one, into most cells."""

    def score(separator: str) -> tuple[bool, float, int]:
        widths = [len(row) for row in csv.reader(lines[:200], delimiter=separator)]
        first = widths[0]
        alike = sum(first <= width <= first + 1 for width in widths) / len(widths)
        return first > 1, round(alike, 1), first

    return max(SEPARATORS, key=score) if lines and max(map(score, SEPARATORS))[0] else ","


def numbered(names: list[str]) -> list[str]:
    """Return names that stand once, as pandas numbers them: `a`, `a.1`; `Unnamed: 2` where there is none."""
    seen: dict[str, int] = {}
    numbered = []
    for place, name in enumerate(names):
        name = name or f"Unnamed: {place}"
        seen[name] = seen.get(name, -1) + 1
        numbered.append(f"{name}.{seen[name]}" if seen[name] else name)
    return numbered
