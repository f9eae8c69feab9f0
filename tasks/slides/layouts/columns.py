"""What a stranger's table of slides calls its columns, and which slides its cells name."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.columns import alias
from ....datasets.manifest.contents import Contents
from ....datasets.manifest.inventory import relative_paths
from ....datasets.manifest.tables import UNKNOWN_CELLS
from ....datasets.slides.reading import slide_stem

# As CLAM (slide_id, case_id, label), TRIDENT (wsi), STAMP (FILENAME, PATIENT) and others call them.
IDS = ("slide_id", "slideid", "slide")
PATHS = (*IDS, "wsi", "slide_path", "filename", "file_name", "file", "image_path", "image")
PATIENTS = ("case_id", "patient_id", "patientid", "case")
CLASSES = "label"
_ABSOLUTE = re.compile(r"(?:[A-Za-z]:)?/")  # of Windows too


def usual_columns(raw: pd.DataFrame, path_column: str, patient_column: str, notes: list[str]) -> tuple[str, str]:
    """Return the columns of slides and patients: those that were named, else the first of a usual name.

    Args:
        raw: The table.
        path_column: As asked.
        patient_column: As asked.
        notes: What was taken is added.
    """
    found = []
    for key, asked, usual, what in (
        ("path", path_column, PATHS, "slides"), ("patient", patient_column, PATIENTS, "patients"),
    ):  # fmt: skip
        column = asked if asked in raw.columns else _first(raw, (asked.lower(), *usual))
        if column is None and asked == key:
            column = alias(key, list(raw.columns))
        if column is not None and column != asked:
            notes.append(f"the {what} are those of the column {column!r}.")
        found.append(column or asked)
    return found[0], found[1]


def class_names(raw: pd.DataFrame, notes: list[str]) -> str | None:
    """Return the column `label` where it holds names of classes; None where it holds 0 and 1, or is not there."""
    column = _first(raw, (CLASSES,))
    if column is None:
        return None
    cells = raw[column].str.strip().str.lower()
    if (pd.to_numeric(cells, errors="coerce").isin([0, 1]) | cells.isin(UNKNOWN_CELLS)).all():
        return None
    notes.append(f"the classes are the names in the column {column!r}.")
    return column


def slide_name(cell: str) -> str:
    """Return the id that a cell of slide ids gives: without suffix, and of an absolute path the file's name."""
    cell = cell.strip()
    plain = cell.replace("\\", "/")
    return slide_stem(PurePosixPath(plain).name if _ABSOLUTE.match(plain) else cell)


def find_slides(path: Path, root: Path, cells: pd.Series, held: Contents, notes: list[str]) -> pd.Series:
    """Return cells as paths relative to `root`: a name becomes the one slide that it fits, others stay as they are.

    Of an absolute path that leads nowhere, such as of the machine that wrote the table, only the file's name counts.

    Args:
        path: The table, for messages.
        root: The folder of slides.
        cells: Paths, absolute or relative to `root`, or names with or without suffix; of a DICOM slide also its folder.
        held: What the folder holds.
        notes: How many absolute paths were taken by their names is added.

    Raises:
        DataError: A cell fits several slides.
    """
    written = cells.str.strip().str.replace("\\", "/", regex=False).str.rstrip("/")
    cells = relative_paths(written, root)
    present = {entry.path for entry in held.entries}
    places = _places(held)
    found, elsewhere = [], 0
    for row, (cell, name) in enumerate(zip(cells, written, strict=True)):
        fits = sorted({cell} if cell in present else places.get(_plain(cell), {cell}))
        if fits == [cell] and _ABSOLUTE.match(name) and not (root / cell).exists():
            fits = sorted(places.get(_plain(PurePosixPath(name).name), {cell}))
            elsewhere += fits != [cell]
        if len(fits) > 1:
            raise DataError(
                f"{path}: row {row + 2}: {cell!r} fits {fits[0]} and {fits[1]}. Give the path below {root}."
            )
        found.append(fits[0])
    if elsewhere:
        notes.append(f"{elsewhere:,} absolute paths lead nowhere: the slides of their names below {root} were taken.")
    return pd.Series(np.array(found, dtype=object), cells.index, dtype=str)


def _places(held: Contents) -> dict[str, set[str]]:
    """Return the slides by what may name them: file names and stems, and of DICOM slides their files and folders."""
    places: dict[str, set[str]] = {}
    for entry in held.entries:
        name = PurePosixPath(entry.path).name
        for key in (name, slide_stem(name)):
            places.setdefault(_plain(key), set()).add(entry.path)
    for file, slide in held.standing.items():
        folder = PurePosixPath(file).parent
        for key in {file, str(folder), folder.name} - {"."}:
            places.setdefault(_plain(key), set()).add(slide)
    return places


def _plain(name: str) -> str:
    """Return a name without regard to capitals and Unicode forms."""
    return unicodedata.normalize("NFC", name).casefold()


def _first(raw: pd.DataFrame, names: Sequence[str]) -> str | None:
    columns = {column.strip().lower(): column for column in reversed(raw.columns)}
    return next((columns[name] for name in names if name in columns), None)
