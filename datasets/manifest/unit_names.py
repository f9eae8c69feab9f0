"""Which rows belong to one study, patient or case, by plain columns: for `clinvit-runtime`, which has no pandas.

`units` has the same of a DataFrame.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import DataError, UserError
from .plain_cells import UNKNOWN_CELLS, nearest

UNITS = ("study", "patient", "case")  # each a column of a manifest


def checked_unit(unit: str) -> str:
    """Return the name of a unit.

    Raises:
        UserError: There is none of this name.
    """
    if unit not in UNITS:
        raise UserError(f"unit {unit!r}{nearest(unit, UNITS)}: one of {', '.join(UNITS)}.")
    return unit


def unit_names(path: str | Path, columns: Mapping[str, Any], unit: str) -> list[str]:
    """Return the unit of each of N rows, as of `units.unit_ids`.

    Args:
        path: What messages call the table.
        columns: With `id`, `patient`, and the column of the unit.
        unit: `study`, `patient` or `case`.

    Raises:
        DataError: There is no such column, or two units would have one name.
    """
    patients = [str(cell) for cell in columns["patient"]]
    if checked_unit(unit) == "patient":
        return patients
    if unit not in columns:
        raise DataError(
            f"{path}: no column {unit!r}{nearest(unit, columns)}: what belongs to one {unit} is not known. "
            f"Give the manifest a column {unit!r} (`clinvit prepare` takes one from a table or from DICOM headers), or "
            "take --unit patient."
        )
    ids, names = [str(cell) for cell in columns["id"]], [str(cell).strip() for cell in columns[unit]]
    alone = nameless(columns[unit])
    # Whoever has no name is a unit of its own; the keys tell apart what only looks alike.
    keys = [("", own) if lone else (who, name) for who, name, own, lone in zip(patients, names, ids, alone)]
    found = [own if lone else f"{who}/{name}" for who, name, own, lone in zip(patients, names, ids, alone)]
    if (twice := _named_twice(found, keys)) is not None:
        raise DataError(f"{path}: two {plural(unit)} would both be called {twice!r} (patient/{unit}): rename one.")
    return found


def nameless(cells: Sequence[Any]) -> list[bool]:
    """Return which cells name no study (case)."""
    return [str(cell).strip().lower() in UNKNOWN_CELLS for cell in cells]


def plural(noun: str) -> str:
    """Return `images`, `studies`."""
    return f"{noun[:-1]}ies" if noun.endswith("study") else f"{noun}s"


def many(count: int, noun: str) -> str:
    """Return `1 image`, `25,596 images`, `2 studies`."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def _named_twice(names: Sequence[str], keys: Sequence[tuple[str, str]]) -> str | None:
    """Return a name that two keys share, or None."""
    first: dict[str, tuple[str, str]] = {}
    for name, key in zip(names, keys, strict=True):
        if first.setdefault(name, key) != key:
            return name
    return None
