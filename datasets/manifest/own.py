"""Data of one's own: a CSV beside images or clips, or a folder per class. Both end as a manifest's table.

Who the patient is must be said, for splits are by patient: by a column, by a pattern within the path, or by
`each_file_own_patient` where a patient truly never has two files.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from .classes import class_labels
from .contents import contents, summary
from .inventory import (
    complete_splits,
    keep_present,
    refuse_repeated,
    relative_paths,
    require_columns,
)
from .names import capitalised, file_ids, hash_names, named_cases, note_left_out
from .tables import FACTS, UNKNOWN_CELLS, nearest, read_csv, refuse_patient_overlap

OUTSIDE = "file outside class folders"
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def read_own_csv(
    path: str | Path,
    *,
    path_column: str = "path",
    id_column: str | None = None,
    patient_column: str = "patient",
    split_column: str = "split",
    labels: Sequence[str] | None = None,
    class_column: str | None = None,
    positive: str | None = None,
    each_file_own_patient: bool = False,
    resplit: bool = False,
    keep_missing: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a CSV with one row per image or clip.

    Args:
        path: The CSV, or a folder that holds exactly one.
        path_column: Files, relative to the CSV's folder, or absolute.
        id_column: Unique names. Default: the path without its suffix; of DICOM files, whose names are often those of
            people, a hash.
        patient_column: Who the patient is.
        split_column: train, val, test (or training, valid, dev, ...). May be absent: then patients are dealt
            out.
        labels: Columns of 0, 1 or empty. Default: every other column that holds nothing else, and is no known
            fact.
        class_column: A column of class names instead of labels; an empty cell is an unknown class. Classes become
            labels as those of class folders do (see `class_labels`).
        positive: Which of two classes is 1. Default: the one that does not read like "normal".
        each_file_own_patient: There is no patient column because no patient has two files.
        resplit: Ignore the splits of the table and deal the patients out anew.
        keep_missing: Keep rows whose file is missing.
        seed: For splits that are dealt out.

    Returns:
        The table `id, path, patient, split`, labels (0, 1, NaN), known facts, other columns left out; the
        labels.

    Raises:
        DataError: A column is missing, a cell wrong, a patient in two splits, or most files missing.
    """
    path = only_csv(Path(path))
    table, named = own_table(
        path,
        read_csv(path),
        path.parent,
        None,
        path_column=path_column,
        id_column=id_column,
        patient_column=patient_column,
        split_column=split_column,
        labels=labels,
        class_column=class_column,
        positive=positive,
        each_file_own_patient=each_file_own_patient,
        resplit=resplit,
        keep_missing=keep_missing,
        seed=seed,
    )
    if id_column is None:
        hash_names(path.parent, table, each_file_own_patient)
    return table, named


def own_table(
    path: Path,
    raw: pd.DataFrame,
    root: Path,
    present: Sequence[str] | None,
    *,
    path_column: str,
    id_column: str | None,
    patient_column: str,
    split_column: str,
    labels: Sequence[str] | None,
    class_column: str | None,
    positive: str | None,
    each_file_own_patient: bool,
    resplit: bool,
    keep_missing: bool,
    seed: int,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the table and labels of a CSV that was read (see `read_own_csv`, also for the options).

    `path` names the CSV in messages, `raw` holds its cells as strings, `root` is the folder that the paths in it are
    relative to, `present` the relative paths that exist (None: ask the disk for each).
    """
    if class_column is None and positive is not None:
        raise DataError(f"{path}: positive={positive} is of classes; name their column too (class_column).")
    if class_column is not None and labels is not None:
        raise DataError(f"{path}: give labels (columns of 0 and 1) or class_column (a column of names), not both.")
    require_columns(path, raw, [path_column], "a table with one row per file (name the column: path_column)")
    if id_column is not None:
        require_columns(path, raw, [id_column], "unique names (id_column)")
    if patient_column not in raw.columns and not each_file_own_patient:
        hint = nearest(patient_column, raw.columns)
        raise DataError(
            f"{path}: no column {patient_column!r}{hint}. Splits are by patient: name the "
            "column (patient_column), or say each_file_own_patient if no patient has two files."
        )
    files = relative_paths(raw[path_column].str.strip().str.replace("\\", "/", regex=False), root)
    table = pd.DataFrame({"id": raw[id_column].str.strip() if id_column else file_ids(files), "path": files})
    table["patient"] = table["id"] if each_file_own_patient else raw[patient_column].str.strip()
    given = raw[split_column] if split_column in raw.columns and not resplit else pd.Series("", raw.index)
    table["split"] = _splits(path, given)
    for column in ("id", "path", "patient"):
        empty = np.flatnonzero(table[column] == "")
        if len(empty):
            raise DataError(f"{path}: row {empty[0] + 2}: the {column} is empty ({len(empty):,} in all). Fill it in.")
    refuse_repeated(path, table["id"], "id")
    used = {path_column, id_column, patient_column, split_column, class_column}
    rest = [column for column in raw.columns if column not in used and column not in table.columns]
    if class_column is not None:
        require_columns(path, raw, [class_column], "the classes (class_column)")
        names = raw[class_column].str.strip()
        classes = sorted(set(names) - {""})
        table, named = class_labels(path, table, names, classes, positive, f"{class_column} is {{}}")
    else:
        table, named = _labelled(path, raw, table, rest, labels)
    for column in rest:
        if column not in named and column.lower() in FACTS:
            table[column.lower()] = raw[column].str.strip()
    return _finished(path, root, table, named, present, keep_missing, seed)


def read_class_folders(
    root: str | Path,
    *,
    unit: str = "image",
    patient_pattern: str | None = None,
    each_file_own_patient: bool = False,
    positive: str | None = None,
    modalities: str | Sequence[str] | None = None,
    views: str | Sequence[str] | None = None,
    body_parts: str | Sequence[str] | None = None,
    resplit: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read `root/class/.../file` or `root/split/class/.../file`.

    The classes become labels as `class_labels` says. Ids and patients of DICOM files are hashes.

    Args:
        root: The folder.
        unit: What a case is, as of `contents.contents`.
        patient_pattern: Regular expression searched in the path below the class folder; its group (or all of
            it) is the patient, such as `(person[0-9]+)_` or, for a folder per patient, `^([^/]+)/`.
        each_file_own_patient: No patient has two files.
        positive: Which of two classes is 1. Default: the one that does not read like "normal".
        modalities: Of DICOM files, those to take, such as `DX,CR`.
        views: Of DICOM files, those to take, such as `PA,AP`.
        body_parts: Of DICOM files, those to take, such as `CHEST`.
        resplit: Ignore split folders.
        seed: For splits that are dealt out.

    Raises:
        DataError: No files, one class, an unknown patient, or a patient in two splits.
    """
    from ..images.dicom_header import Wanted

    root = Path(root)
    found = contents(root, unit, Wanted.of(modalities, views, body_parts))
    if patient_pattern is not None and each_file_own_patient:
        raise DataError(f"{root}: give patient_pattern or each_file_own_patient, one of the two.")
    if patient_pattern is None and not each_file_own_patient and not all(each.is_dicom for each in found.entries):
        raise DataError(
            f"{root}: who is the patient? Give a pattern (patient_pattern), or say each_file_own_patient if "
            "no patient has two files; one of the two."
        )
    depth = 3 if _has_split_folders(pd.Series([entry.path for entry in found.entries], dtype=str)) else 2
    for entry in found.entries:
        if entry.path.count("/") < depth - 1:
            found.leave_out(entry.path, OUTSIDE)
    found.entries = [entry for entry in found.entries if entry.path.count("/") >= depth - 1]
    parts = [entry.path.split("/", depth - 1) for entry in found.entries]
    classes = sorted({part[-2] for part in parts})
    if len(classes) < 2:
        raise DataError(
            f"{root}: {len(classes)} class folders with files; expected root/class/file or "
            f"root/split/class/file with two classes or more. {capitalised(summary(found.counts()))}"
        )
    table = named_cases(
        root, found, [part[-1] for part in parts], patient_pattern=patient_pattern,
        each_file_own_patient=each_file_own_patient,
    )  # fmt: skip
    parts = table["path"].str.split("/", n=depth - 1)
    given = parts.str[0] if depth == 3 and not resplit else pd.Series("", table.index)
    table.insert(3, "split", _splits(root, given))
    note_left_out(table, found)
    table, labels = class_labels(root, table, parts.str[-2], classes, positive, "in folder {}")
    return _finished(root, root, table, labels, table["path"], False, seed)


def _finished(path, root, table, labels, present, keep_missing, seed) -> tuple[pd.DataFrame, tuple[str, ...]]:
    table = keep_present(table, root, present, keep_missing)
    refuse_patient_overlap(path, table)
    return complete_splits(path, table, labels, seed), labels


def only_csv(path: Path) -> Path:
    """Return the CSV itself, or the only one in a folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.csv"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(f"{path}: expected one CSV file there, found {len(found)} ({names}). Name the file itself.")
    return found[0]


def _splits(path: Path, cells: pd.Series) -> pd.Series:
    words = cells.str.strip().str.lower()
    splits = words.map({"": "", **SPLIT_WORDS})
    if splits.isna().any():
        word = words[splits.isna()].iloc[0]
        hint = nearest(word, SPLIT_WORDS)
        raise DataError(f"{path}: {word!r} is no split{hint}; a split is train, val or test.")
    return splits


def _labelled(
    path: Path, raw: pd.DataFrame, table: pd.DataFrame, rest: list[str], labels: Sequence[str] | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the table with its label columns: those that are named, or all that hold 0 and 1 only."""
    if labels is None:
        named = _zero_one_columns(path, raw, rest)
    else:
        named = (labels,) if isinstance(labels, str) else tuple(labels)
    require_columns(path, raw, named, "the label")
    for label in named:
        table[label] = _zero_one(path, raw, label)
    return table, named


def _zero_one_columns(path: Path, raw: pd.DataFrame, columns: list[str]) -> tuple[str, ...]:
    found = tuple(column for column in columns if column.lower() not in FACTS and _holds_zero_one(raw[column]))
    if not found:
        raise DataError(
            f"{path}: no label column (0, 1 or empty) among {', '.join(columns) or 'no further columns'}. "
            "Name the labels (labels) or a column of class names (class_column), or give an empty list for files "
            "without labels."
        )
    return found


def _numbers(cells: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return numbers (NaN where there is none), and which cells are neither 0, 1 nor unknown."""
    text = cells.str.strip()
    numbers = pd.to_numeric(text, errors="coerce")
    return numbers.astype("float64"), ~(numbers.isin([0, 1]) | text.str.lower().isin(UNKNOWN_CELLS))


def _holds_zero_one(cells: pd.Series) -> bool:
    numbers, wrong = _numbers(cells)
    return not wrong.any() and bool(numbers.notna().any())


def _zero_one(path: Path, raw: pd.DataFrame, label: str) -> pd.Series:
    numbers, wrong = _numbers(raw[label])
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: row {row + 2}: {label} is {raw[label].iloc[row]!r}; "
            "a label is 1 (present), 0 (absent) or empty (unknown)."
        )
    return numbers


def _has_split_folders(files: pd.Series) -> bool:
    first = files[files.str.contains("/")].str.split("/", n=1).str[0]
    return bool(len(first)) and bool(first.str.lower().isin(SPLIT_WORDS).all())
