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
from .columns import (
    Column,
    by_policy,
    describe,
    fact,
    fact_cells,
    is_case,
    read_label,
    refuse_repeated_columns,
    report,
)
from .contents import contents, summary
from .grouped import with_groups
from .inventory import (
    complete_splits,
    keep_present,
    note,
    refuse_repeated,
    relative_paths,
    require_columns,
    warn,
)
from .keys import NO_COLUMN, as_names, key_columns
from .lookup import found_files
from .names import add_studies, capitalised, file_ids, hash_names, named_cases, note_left_out
from .own_boxes import box_columns, boxes_of
from .several import column_classes, names_in, one_row_per_file
from .tables import UNKNOWN_CELLS, Target, nearest, read_csv, refuse_patient_overlap
from .targets import asked_for, target_cells

TABLE_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".xlsx")
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
    not_labels: Sequence[str] = (),
    uncertain: str = "unknown",
    readers: str | None = None,
    class_column: str | None = None,
    positive: str | None = None,
    each_file_own_patient: bool = False,
    resplit: bool = False,
    keep_missing: bool = False,
    seed: int = 0,
    data_root: str | Path | Sequence[str | Path] = (),
    blanks: str = "unknown",
    targets: str | Sequence[str] = (),
    groups: str | Sequence[str] = (),
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table with one row per image or clip: CSV with any separator and encoding, or Excel's .xlsx.

    Args:
        path: The table, or a folder that holds exactly one.
        path_column: Files, relative to the table's folder, or absolute; names without folder or suffix are looked for
            below it. Where there is no such column, one named like files (`filename`, `image`, ...), or whose cells
            are names of files, is taken.
        id_column: Unique names. Default: the path without its suffix; of DICOM files, whose names are often
            those of people, a hash.
        patient_column: Who the patient is. Where there is no such column, one named like it (`PatientID`, ...) is
            taken.
        split_column: train, val, test (or training, valid, dev, ...). Where there is no such column, the one whose
            cells are all such words is taken; without one patients are dealt out.
        labels: Columns of 0 and 1, true and false, yes and no, or empty. Default: every other column that holds
            little else, and is no known fact or covariate.
        not_labels: Columns that are no labels, whatever they hold.
        uncertain: What an uncertain cell (-1, 0.5, `equivocal`) becomes: unknown, ones or zeros.
        readers: What several rows of one file become: `majority` (of the readers; a tie is uncertain), `any` (present
            for one of them) or `all`. Default: refused.
        class_column: A column of class names instead of labels; an empty cell is an unknown class. Classes become
            labels as those of class folders do (see `class_labels`). Cells with several names (`A|B`, `A;B`,
            `['A', 'B']`) make a label of each name.
        positive: Which of two classes is 1. Default: the one that does not read like "normal".
        each_file_own_patient: There is no patient column because no patient has two files.
        resplit: Ignore the splits of the table and deal the patients out anew.
        keep_missing: Keep rows whose file is missing.
        seed: For splits that are dealt out.
        blanks: What an empty cell of a label becomes: unknown, or zeros where only what is present is marked.
        data_root: Folder (or several) in which files are looked for too, where the table lies apart from them.
        targets: Numbers, grades and times to be predicted: `age:regression:years`, `grade:ordinal`,
            `death:survival:days:died` (its columns of time and event); several by commas.
        groups: Columns of class names that stand beside findings: `view,stage` makes labels `view=AP`, `view=PA`, ...
            that exclude each other (`core.label_groups`); an empty cell is an unknown class. `view:AP+PA+LL` takes
            columns of 0 and 1 that are there.

    Returns:
        The table `id, path, patient, split`, labels (0, 1, NaN), columns of targets (numbers) and the targets in
        `attrs["targets"]`, known facts, other columns left out; the labels.

    Raises:
        DataError: A column is missing, a cell wrong, a patient in two splits, or most files missing.
    """
    path = only_csv(Path(path))
    table, named = own_table(
        path,
        with_groups(path, read_csv(path), as_names(groups, ()) or ()),
        path.parent,
        None,
        path_column=path_column,
        id_column=id_column,
        patient_column=patient_column,
        split_column=split_column,
        labels=labels,
        not_labels=not_labels,
        uncertain=uncertain,
        readers=readers,
        class_column=class_column,
        positive=positive,
        each_file_own_patient=each_file_own_patient,
        resplit=resplit,
        keep_missing=keep_missing,
        seed=seed,
        blanks=blanks,
        targets=targets,
        elsewhere=[Path(each) for each in ([data_root] if isinstance(data_root, str | Path) else data_root)],
    )
    if id_column is None:
        hash_names(path.parent, table, each_file_own_patient)
    if "study" not in table:
        add_studies(path.parent, table)
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
    not_labels: Sequence[str] = (),
    uncertain: str = "unknown",
    readers: str | None = None,
    elsewhere: Sequence[Path] = (),
    blanks: str = "unknown",
    targets: str | Sequence[str] = (),
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the table and labels of a CSV that was read (see `read_own_csv`, also for the options).

    `path` names the CSV in messages, `raw` holds its cells as strings, `root` is the folder that the paths in it are
    relative to, `present` the relative paths that exist (None: look below `root` and `elsewhere`).
    """
    if class_column is None and positive is not None:
        raise DataError(f"{path}: positive={positive} is of classes; name their column too (class_column).")
    if class_column is not None and labels is not None:
        raise DataError(f"{path}: give labels (columns of 0 and 1) or class_column (a column of names), not both.")
    given_labels, not_labels = as_names(labels, raw.columns), as_names(not_labels, raw.columns) or ()
    taken: list[Column] = []
    keys = key_columns(
        path, raw, [root, *elsewhere], path_column, patient_column, id_column, class_column, each_file_own_patient
    )
    path_column, patient_column = keys["path"], keys["patient"]
    for key, column in (*keys.items(), ("id", id_column), ("class", class_column)):
        if column in raw.columns and column != NO_COLUMN:
            taken.append(Column(str(column), key, ""))
    table = pd.DataFrame(index=raw.index)
    table.attrs["notes"] = list(raw.attrs.get("notes", []))
    cells = raw[path_column].str.strip()
    files = relative_paths(
        cells.mask(cells.str.lower().isin(UNKNOWN_CELLS), "").str.replace("\\", "/", regex=False), root
    )
    files = found_files(path, files, root, table, elsewhere) if present is None else files
    table["id"] = raw[id_column].str.strip() if id_column else file_ids(files)
    table["path"] = files
    table["patient"] = table["id"] if each_file_own_patient else raw[patient_column].str.strip()
    if split_column == "split" and split_column not in raw.columns:
        split_column = _split_column(raw, [*keys.values(), id_column, class_column, *(given_labels or ())]) or "split"
    has_split = split_column in raw.columns
    taken += [Column(split_column, "split", "dealt out anew" if resplit else "")] * has_split
    table["split"] = _splits(path, raw[split_column] if has_split and not resplit else pd.Series("", raw.index))
    for column in ("id", "path", "patient"):
        empty = np.flatnonzero(table[column].str.lower().isin(UNKNOWN_CELLS))
        if len(empty):
            raise DataError(f"{path}: row {empty[0] + 2}: the {column} is empty ({len(empty):,} in all). Fill it in.")
    corners = box_columns(raw.columns)
    taken += [Column(name, "box", "a box around a finding, a row each") for name in corners]
    used = {path_column, id_column, patient_column, split_column, class_column, *corners}
    kinds = [asked_for(text) for text in (as_names(targets, ()) or ())]
    for each in kinds:
        values = target_cells(path, raw, each)
        table = table.assign(**dict(zip(each.cells, values.T)))
        taken += [Column(column, "target", f"{each.kind} of {each.name}") for column in each.cells]
    table.attrs["targets"] = kinds
    used |= {column for each in kinds for column in each.cells}
    rest = [column for column in raw.columns if column not in used and column not in table.columns]
    refuse_repeated_columns(path, raw, [*used, *(given_labels or ())])
    if class_column is not None:
        named: tuple[str, ...] = ()
        taken += [_no_label(describe(column, raw[column]), f"labels come from {class_column}") for column in rest]
    else:
        if kinds and given_labels is None and not any(describe(each, raw[each]).taken == "label" for each in rest):
            given_labels = ()  # targets are enough
        named, described = _labelled(path, raw, table, rest, given_labels, not_labels, uncertain, blanks)
        taken += described
    _add_facts(raw, table, taken, named)
    several = [*named] if class_column is None else []
    boxed = raw.assign(**({} if class_column is None else {class_column: raw[class_column].map(names_in)}))
    row_files, row_labels = table["path"], table[several] == 1
    if readers is not None or ((id_column is None or corners) and table["path"].duplicated().any()):
        if corners and class_column is not None:
            raw = raw.assign(**{class_column: _joined_names(boxed[class_column], row_files)})
        _refuse_differing(path, table, kinds)
        raw_classes = None if class_column is None else raw[class_column]
        joined = readers or ("any" if corners and several else None)  # each row says one finding of several
        table, kept = one_row_per_file(path, table, several, joined, uncertain, raw_classes)
        raw = raw.loc[kept].reset_index(drop=True)
    refuse_repeated(path, table["id"], "id")
    if class_column is not None:
        table, named = column_classes(path, table, raw[class_column], positive, class_column)
    table.attrs["columns"] = [each._asdict() for each in taken]
    for line in report(taken):
        note(table, line)
    table, named = _finished(path, root, table, named, present, keep_missing, seed)
    if corners:
        findings = (
            [[name for name in named if row[name]] for row in row_labels.to_dict("records")]
            if class_column is None
            else [[name for name in names if name in named] for names in boxed[class_column]]
        )
        table.attrs["boxes"] = boxes_of(path, boxed, root, row_files, findings, table)
    return table, named


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
    remedy = "name the folder that they lie in (--data-root FOLDER), " if present is None else ""
    table = keep_present(table, root, present, keep_missing, remedy)
    refuse_patient_overlap(path, table)
    return complete_splits(path, table, labels, seed), labels


def tables_in(folder: Path) -> list[Path]:
    """Return the tables that lie in a folder, sorted."""
    return sorted(file for file in folder.iterdir() if file.name.lower().endswith(TABLE_SUFFIXES) and file.is_file())


def only_csv(path: Path) -> Path:
    """Return the table itself, or the only one in a folder."""
    if not path.is_dir():
        return path
    found = tables_in(path)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(f"{path}: expected one CSV file there, found {len(found)} ({names}). Name the file itself.")
    return found[0]


def _split_column(raw: pd.DataFrame, used: Sequence[str | None]) -> str | None:
    """Return the one column whose cells are all words for splits, train and another among them; None without one."""
    found = []
    for column in raw.columns:
        words = set(raw[column].str.strip().str.lower())
        if column not in used and words <= {*SPLIT_WORDS, ""}:
            splits = {SPLIT_WORDS[word] for word in words if word}
            found += [column] * ("train" in splits and len(splits) > 1)
    return found[0] if len(found) == 1 else None


def _splits(path: Path, cells: pd.Series) -> pd.Series:
    words = cells.str.strip().str.lower()
    splits = words.map({"": "", **SPLIT_WORDS})
    if splits.isna().any():
        word = words[splits.isna()].iloc[0]
        hint = nearest(word, SPLIT_WORDS)
        raise DataError(f"{path}: {word!r} is no split{hint}; a split is train, val or test.")
    return splits


def _no_label(column: Column, why: str) -> Column:
    """Return a column that reads like a label as left out."""
    return column._replace(taken="left out", why=why) if column.taken == "label" else column


def _labelled(
    path: Path,
    raw: pd.DataFrame,
    table: pd.DataFrame,
    rest: list[str],
    labels: Sequence[str] | None,
    not_labels: Sequence[str],
    uncertain: str,
    blanks: str,
) -> tuple[tuple[str, ...], list[Column]]:
    """Add the label columns to the table: those that are named, or all that read like labels.

    Returns:
        The labels, and what each column was taken for.
    """
    require_columns(path, raw, [*(labels or ()), *not_labels], "the label")
    described = {column: describe(column, raw[column]) for column in rest}
    if labels is None:
        described = {name: _no_label(each, "named in not_labels") if name in not_labels else each
                     for name, each in described.items()}  # fmt: skip
        named = tuple(name for name, each in described.items() if each.taken == "label")
        if not named:
            whys = "; ".join(f"{each.name}: {each.why or each.taken}" for each in described.values())
            raise DataError(
                f"{path}: no label column (0, 1 or empty) among its further columns ({whys or 'there are none'}). "
                "Name the labels (--option labels=A,B) or a column of class names (--option class_column=NAME), or "
                "give an empty list for files without labels (--option labels=[])."
            )
    else:
        named = tuple(labels)
        described |= {name: _no_label(each, "not among the labels that were named") for name, each in described.items()}
        described |= {name: Column(name, "label", read_label(raw[name]).why()) for name in named}
    for label in named:
        read = read_label(raw[label])
        if read.odd.any():
            _odd_cells(path, raw, table, label, read.odd, labels is not None)
        table[label] = by_policy(read, uncertain, blanks)
        if np.isnan(table[label]).any() and not (read.values == 0).any() and (read.values == 1).any():
            note(
                table,
                f"{label}: no cell says that it is absent, and empty cells are unknown; if they mean absent: --option "
                "blanks=zeros.",
            )
        if read.unsure.any():
            note(table, f"{label}: {int(read.unsure.sum()):,} uncertain cells became {uncertain} (option uncertain).")
    return named, list(described.values())


def _odd_cells(path: Path, raw: pd.DataFrame, table: pd.DataFrame, label: str, odd: np.ndarray, named: bool) -> None:
    """Warn of cells that are no label's, in a column that else is one; refuse them where a person has named it."""
    row = int(np.flatnonzero(odd)[0])
    if named:
        raise DataError(
            f"{path}: row {row + 2}: {label} is {raw[label].iloc[row]!r}; "
            "a label is 1 (present), 0 (absent) or empty (unknown)."
        )
    warn(
        table,
        f"{path.name}: {label} is {raw[label].iloc[row]!r} in row {row + 2} ({int(odd.sum()):,} such cells): neither "
        "present nor absent, taken as unknown.",
    )


def _add_facts(raw: pd.DataFrame, table: pd.DataFrame, taken: Sequence[Column], named: Sequence[str]) -> None:
    """Add the facts of the cases, under their own names and in one spelling; the first of two columns counts."""
    for each in taken:
        key = fact(each.name) or ("case" if is_case(each.name) else None)
        if each.taken == "fact" and key is not None and each.name not in named and key not in table:
            table[key] = fact_cells(key, raw[each.name])


def _refuse_differing(path: Path, table: pd.DataFrame, kinds: Sequence[Target]) -> None:
    """Raise where several rows of one file say different values of a target."""
    for column in (column for each in kinds for column in each.cells):
        several = table.groupby("path")[column].nunique() > 1
        if several.any():
            raise DataError(
                f"{path}: {several.idxmax()} has several rows with different values of {column} ({several.sum():,} "
                "such files): keep one row per file."
            )


def _joined_names(names: pd.Series, files: pd.Series) -> pd.Series:
    """Return the names in all rows of a file, for each of its rows: `A|B`."""
    whole = names.groupby(files).agg(lambda rows: "|".join(dict.fromkeys(name for row in rows for name in row)))
    return files.map(whole)


def _has_split_folders(files: pd.Series) -> bool:
    first = files[files.str.contains("/")].str.split("/", n=1).str[0]
    return bool(len(first)) and bool(first.str.lower().isin(SPLIT_WORDS).all())
