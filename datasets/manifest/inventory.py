"""From a listing to a manifest's table: which files are there, which splits are missing, and what was noticed.

What a person should know about a table (files left out, splits cut, policies applied) stands in its
`attrs["notes"]`, what may spoil a result (leaks) in its `attrs["warnings"]`, one sentence each.
"""

import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError, printable
from ..kinds import is_frame
from .splits import assign_splits, patient_folds
from .tables import SPLITS, nearest, read_csv

VAL_FOLDS = 8  # an eighth of the training patients, as the 11,212 of 86,524 images of the thorax paper
NOT_THERE = "listed files are not there"  # in notes on missing files
CHANCE = 1e-4  # a code in file names that would arise by chance more often than this is none


def note(table: pd.DataFrame, text: str) -> None:
    """Add a sentence to the table's notes."""
    table.attrs.setdefault("notes", []).append(text)


def warn(table: pd.DataFrame, text: str) -> None:
    """Add a sentence to the table's warnings."""
    table.attrs.setdefault("warnings", []).append(text)


def files_below(root: Path, suffixes: Iterable[str]) -> list[str]:
    """Return paths of all files with these suffixes (lower case), relative to `root`, with `/`, sorted.

    One walk with `os.scandir`, hidden files and folders left out: asking for 112,120 files one by one takes
    minutes on a network disk.
    """
    suffixes = tuple(suffixes)
    found: list[str] = []
    odd: list[str] = []  # not UTF-8: no table can hold such a name
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not is_utf8(entry.name):
                    odd.append(folder + entry.name)
                elif entry.is_dir():
                    waiting.append(f"{folder}{entry.name}/")
                elif entry.name.lower().endswith(suffixes):
                    found.append(folder + entry.name)
    if odd:
        many = "1 name is no UTF-8 and is" if len(odd) == 1 else f"{len(odd):,} names are no UTF-8 and are"
        print(f"warning: {root}: {many} left out, first {printable(min(odd))}. Rename what is needed.", file=sys.stderr)
    return sorted(found)


def by_stem(files: Iterable[str]) -> dict[str, str]:
    """Return files by their names without folder and suffix; of copies the one that lies highest."""
    found: dict[str, str] = {}
    for file in sorted(files, key=lambda each: (each.count("/"), each)):
        found.setdefault(file.rpartition("/")[2].rpartition(".")[0], file)
    return found


def is_utf8(name: str) -> bool:
    """Return whether a name is whole characters, as every table and page must be able to write it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def relative_paths(files: pd.Series, root: Path) -> pd.Series:
    """Return the same files with absolute paths made relative to `root`, as a manifest's table wants them."""
    absolute = files.map(os.path.isabs).astype(bool)
    if not absolute.any():
        return files
    start = root.resolve()
    return files.where(~absolute, files.map(lambda file: Path(os.path.relpath(file, start)).as_posix()))


def require_columns(path: Path, table: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Raise if a column is missing; `what` names the table that was expected."""
    for column in columns:
        if column not in table.columns:
            raise DataError(
                f"{path}: no column {column!r}{nearest(column, table.columns)}. Expected {what}; "
                f"the columns are {', '.join(map(str, table.columns))}."
            )


def has_columns(path: Path, *columns: str) -> bool:
    """Return whether there is a table with these columns."""
    try:
        return path.is_file() and set(columns) <= set(read_csv(path, nrows=1).columns)
    except DataError:
        return False


def keep_present(
    table: pd.DataFrame, root: Path, present: Iterable[str] | None, keep_missing: bool = False, remedy: str = ""
) -> pd.DataFrame:
    """Leave out the rows whose file is missing, and say so in the notes.

    Args:
        table: With `path`, relative to `root`; an empty path is a missing file.
        root: Named in messages.
        present: The relative paths that exist. None: ask the disk for each path.
        keep_missing: Keep the rows (with a note): they become `failed` rows later. Files are still counted.
        remedy: What else may be done where most are missing, with a comma at its end.

    Raises:
        DataError: More than half of the files are missing.
    """
    if present is None:
        there = pd.Series([bool(path) and _is_case(root / path) for path in table["path"]], table.index)
    else:
        there = table["path"].isin(frozenset(present))
    missing = table.loc[~there]
    if missing.empty:
        return table
    wanted = missing["path"].iloc[0] or missing["id"].iloc[0]
    if wanted.startswith("../"):  # was absolute in the table
        wanted = os.path.normpath(root.resolve() / wanted)
        remedy = remedy or "name the folder that they lie in now (--data-root), "
    if len(missing) > len(table) / 2 and not keep_missing:
        raise DataError(
            f"{root}: {len(missing):,} of {len(table):,} {NOT_THERE}, first {wanted}. "
            f"Unpack the data below this folder, {remedy}or keep rows without a file by keep_missing."
        )
    done = "kept" if keep_missing else "left out"
    table = table if keep_missing else table.loc[there].reset_index(drop=True)
    note(table, f"{len(missing):,} {NOT_THERE} and were {done}; the first is {wanted}.")
    return table


def _is_case(path: Path) -> bool:
    """Return whether there is a file, or a folder of frames."""
    return path.is_file() or (path.is_dir() and any(is_frame(file) for file in path.iterdir()))


def complete_splits(source: Path, table: pd.DataFrame, labels: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Fill in the splits that the source does not have, by patient and stratified.

    A table without any split (all cells empty) is dealt out to train, val and test. A table with train but
    without val gives an eighth of its training patients to val. Where there are too few patients for that, they stay
    in train, which is said in the warnings.

    Args:
        source: The file or folder, named in messages.
        table: With `id`, `patient`, `split` and the labels; changed in place.
        labels: Columns to stratify by.
        seed: Another seed, another deal.

    Raises:
        DataError: Some rows have a split and others none, or a patient is not named.
    """
    empty = table["split"] == ""
    if empty.any() and not empty.all():
        raise DataError(
            f"{source}: {int(empty.sum()):,} of {len(table):,} cases have no split, the first being "
            f"{table.loc[empty, 'id'].iloc[0]}. Give every case one, or none of them."
        )
    try:
        if empty.all() and _are_few(table["patient"], SPLITS):
            table["split"] = "train"
            warn(table, _few(table["patient"], SPLITS))
        elif empty.all():
            table["split"] = assign_splits(table, labels, seed=seed)
            note(table, f"no splits were given: patients were dealt out to train, val and test (seed {seed}).")
        elif "val" not in set(table["split"]) and (table["split"] == "train").any():
            _cut_val(table, labels, seed)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    return table


def _are_few(patients: pd.Series, splits: Sequence[str]) -> bool:
    """Return whether there are fewer patients than splits; where one is not named, that is the matter."""
    return patients.nunique() < len(splits) and bool((patients != "").all())


def _few(patients: pd.Series, splits: Sequence[str]) -> str:
    count, parts = patients.nunique(), f"{', '.join(splits[:-1])} and {splits[-1]}"
    return (
        f"{count} patient{'s' * (count != 1)} cannot be dealt out to {parts}: all are in train. Add patients before "
        "you train a classifier, or fill in the column `split` by hand."
    )


def _cut_val(table: pd.DataFrame, labels: Sequence[str], seed: int) -> None:
    train = table[table["split"] == "train"]
    if _are_few(train["patient"], SPLITS[:2]):
        warn(table, _few(train["patient"], SPLITS[:2]))
        return
    folds = max(2, min(VAL_FOLDS, train["patient"].nunique()))
    held = patient_folds(train, labels, folds, seed) == 0
    table.loc[held.index[held], "split"] = "val"
    note(table, f"val was cut from train by patient: {int(held.sum()):,} of {len(held):,} cases (seed {seed}).")


def refuse_repeated(path: Path, names: pd.Series, what: str) -> None:
    """Raise if a name stands twice."""
    repeated = names[names.duplicated()]
    if len(repeated):
        raise DataError(f"{path}: {what} {repeated.iloc[0]!r} stands twice ({len(repeated):,} repeated in all).")


def class_codes_in_names(paths: Sequence[str], classes: Sequence[str]) -> str | None:
    """Return whether names of files tell their class, as `164267_00001.mp4` does where 164267 is a class's code.

    A name is cut into words and numbers, counted from either end. One such place tells the class if none of its
    values occurs in two classes, and that would be rare among names that know nothing of classes. Folders are not
    looked at: they may be the source of the class.

    Args:
        paths: N paths. Give one file per patient, or a patient's own number looks like a code.
        classes: The N classes; rows with an empty one are left out.

    Returns:
        A sentence for the warnings, or None.
    """
    cases = pd.DataFrame({"value": list(paths), "class": list(classes)}, dtype=str)
    cases = cases[cases["class"] != ""]
    stems = cases["value"].str.split("/").str[-1].str.replace(r"\.[^.]+$", "", regex=True).str.lower()
    parts = [re.findall(r"[^\W\d_]+|\d+", stem) for stem in stems]
    fewest = min(map(len, parts), default=0)
    log_share = np.log(cases["class"].value_counts(normalize=True))
    for place in (*range(fewest), *range(-1, -fewest - 1, -1)):
        cases["value"] = [part[place] for part in parts]
        counts = cases["value"].value_counts()
        in_two_classes = len(counts) < len(cases.drop_duplicates())
        if in_two_classes or _log_chance(counts, log_share) > math.log(CHANCE):
            continue
        where = f"part {place + 1}" if place >= 0 else f"part {-place} from the end"
        some = ", ".join(counts.index[:3]) + (", ..." if len(counts) > 3 else "")
        return (
            f"the file names give the class away: none of the {len(counts):,} values of their {where} ({some}) occurs "
            "in two classes. Never use a name as a feature or to group by, and rename files for a blind reading."
        )
    return None


def _log_chance(counts: pd.Series, log_share: pd.Series) -> float:
    """Return the logarithm of the chance that the files of each value fall into one class by themselves."""
    sizes = counts.value_counts()
    return float(sum(number * np.logaddexp.reduce(size * log_share) for size, number in sizes.items()))
