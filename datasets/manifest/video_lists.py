"""Lists of general video sets (Kinetics, Something-Something) as VideoMAE V2 reads them.

A folder holds train.csv and perhaps val.csv and test.csv, without header, the fields parted by blanks (or commas):
`path label` for a video, `folder total_frames label` for a folder of frames. Labels are whole numbers from 0.
Source: VideoMAE V2, docs/DATASET.md.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...core.errors import DataError
from .classes import class_labels
from .inventory import complete_splits, keep_present, note, refuse_repeated, relative_paths
from .own import file_ids
from .tables import SPLITS

LABELLED = r"^\s*(.*?\S)[\s,]+(\d{1,9})\s*$"  # a path may hold blanks: the label is the last field
SUFFIX = r"\.\w*[A-Za-z]\w*$"  # what has none is a folder of frames


def is_video_lists(root: Path) -> bool:
    """Return whether there is a train.csv that begins with `path label`."""
    if not (root / "train.csv").is_file():
        return False
    with (root / "train.csv").open(encoding="utf-8-sig", errors="replace") as file:
        return re.match(LABELLED, file.readline()) is not None


def read_video_lists(
    root: str | Path,
    *,
    class_names: str | Path | None = None,
    data_root: str | Path | Sequence[str | Path] = (),
    keep_missing: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a folder of lists.

    Classes become labels as `class_labels` says; two classes become one label, 1 being class 1. The table has a
    column per class: some hundred classes of some hundred thousand videos take gigabytes.

    Args:
        root: The folder with train.csv.
        class_names: A text file with the name of one class a line, that of class 0 first. Default: class_0,
            class_1, ...
        data_root: What relative paths of the lists begin at. Of several folders the first in which a file is there,
            `root` being the last. Default: `root`.
        keep_missing: Keep the rows of files that are not there.
        seed: For the cut of val, where there is no val.csv.

    Returns:
        The table `id, path, patient, split`, the labels, and `frames` if there are folders of frames; each file is
        its own patient. And the labels.

    Raises:
        DataError: A line is malformed, a file stands twice, a class has no name, or most files are missing.
    """
    root = Path(root)
    lists = {split: root / f"{split}.csv" for split in SPLITS}
    if not lists["train"].is_file():
        raise DataError(f"{root}: no train.csv with lines `path label`.")
    lists = {split: path for split, path in lists.items() if path.is_file()}
    table = pd.concat([_read(path, split) for split, path in lists.items()], ignore_index=True)
    _refuse_two_splits(root, table)
    refuse_repeated(root, table["path"], "file")
    named = [data_root] if isinstance(data_root, str | Path) else [*data_root, root] if data_root else []
    bases = [Path(each).resolve() for each in named]
    table["path"] = relative_paths(table["path"], (bases or [root.resolve()])[0])
    table.insert(0, "id", file_ids(table["path"]))
    table.insert(2, "patient", table["id"])
    if bases:
        table["path"] = relative_paths(_below(bases, table["path"]), root)
    names, classes = _classes(root, table, class_names)
    two = classes[1] if len(classes) == 2 else None
    frames = table.pop("frames")
    table, labels = class_labels(root, table.drop(columns="class"), names, classes, two, "class {} of the lists")
    if frames.notna().any():
        table["frames"] = frames
    if "val" in lists and "test" not in lists:
        note(table, "there is no test.csv: val.csv stays val. VideoMAE V2 tests on it, and so on what it chose by.")
    table = keep_present(table, root, _present(root, table["path"]), keep_missing)
    return complete_splits(root, table, labels, seed), labels


def _below(bases: Sequence[Path], paths: pd.Series) -> pd.Series:
    """Return each path below the first folder in which it is there; below the first one where there is none."""
    there = [frozenset(_present(base, paths)) for base in bases]
    return paths.map(lambda path: str(next((b for b, names in zip(bases, there) if path in names), bases[0]) / path))


def _read(path: Path, split: str) -> pd.DataFrame:
    """Return `path, split, frames, class` of a list; `frames` is empty for videos."""
    try:
        lines = pd.Series(path.read_text(encoding="utf-8-sig").splitlines(), dtype=str)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list ({error}).") from None
    lines = lines[lines.str.strip() != ""]
    if lines.empty:
        raise DataError(f"{path}: the list is empty.")
    fields = lines.str.extract(LABELLED)
    folders = fields[0].notna() & ~fields[0].str.contains(SUFFIX, na=False)
    counted = fields.loc[folders, 0].str.extract(LABELLED)
    wrong = lines[fields[0].isna() | counted[0].isna().reindex(lines.index, fill_value=False)]
    if len(wrong):
        raise DataError(
            f"{path}: line {wrong.index[0] + 1}: {wrong.iloc[0].strip()!r} is neither `path label` (a video) nor "
            "`folder total_frames label` (frames), with a label from 0 on."
        )
    table = pd.DataFrame({"path": counted[0].reindex(lines.index).fillna(fields[0]), "split": split})
    table["frames"] = pd.to_numeric(counted[1]).reindex(lines.index).astype("Int64")
    return table.assign(**{"class": fields[1].astype(int)})


def _refuse_two_splits(root: Path, table: pd.DataFrame) -> None:
    shared = table[~table.duplicated(["path", "split"])]
    shared = shared.loc[shared["path"].duplicated(), "path"]
    if len(shared):
        where = " and ".join(table.loc[table["path"] == shared.iloc[0], "split"].unique())
        raise DataError(
            f"{root}: {shared.iloc[0]} is in {where} ({len(shared):,} files in all are in more than one list). "
            "Take it out of one."
        )


def _classes(root: Path, table: pd.DataFrame, file: str | Path | None) -> tuple[pd.Series, list[str]]:
    """Return the class name of each row, and the names that occur, in the order of their numbers."""
    occurring = sorted(table["class"].unique())
    if file is None:
        names = {number: f"class_{number}" for number in occurring}
    else:
        names = dict(enumerate(_names(Path(file))))
        if occurring[-1] not in names:
            raise DataError(f"{file}: {len(names)} names, but {root} has class {occurring[-1]}. Name every class.")
        unused = len(names) - len(occurring)
        if unused:
            note(table, f"{unused:,} of {len(names):,} classes have no file and were left out.")
    return table["class"].map(names), [names[number] for number in occurring]


def _names(file: Path) -> list[str]:
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").strip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not readable as names of classes, one a line ({error}).") from None
    refuse_repeated(file, pd.Series(names, dtype=str), "class")
    if "" in names:
        raise DataError(f"{file}: line {names.index('') + 1} is empty; the name of one class stands on each line.")
    return names


def _present(root: Path, paths: pd.Series) -> list[str]:
    """Return those paths that exist; each folder is listed once, however many files are asked for."""
    found = []
    for folder, group in paths.groupby(paths.str.rpartition("/")[0]):
        if (root / folder).is_dir():
            with os.scandir(root / folder) as entries:
                there = {entry.name for entry in entries}
            found += [path for path in group if path.rpartition("/")[2] in there]
    return found
