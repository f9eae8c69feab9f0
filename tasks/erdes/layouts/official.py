"""The official split lists of ERDES: `<task>/{train,val,test}.csv` with `path,label`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.inventory import files_below, note, refuse_repeated, require_columns
from ....datasets.manifest.tables import SPLITS, nearest, read_csv, refuse_patient_overlap
from ..labels import LABELS
from .folders import clip_paths, clip_table, without_labels
from .leaks import counts, leaks


def recognise(root: Path) -> bool:
    """Return whether there is a folder of one of the five tasks with train.csv."""
    return root.is_dir() and any((root / task / "train.csv").is_file() for task in LABELS)


def lists_in(root: Path) -> list[Path]:
    """Return the folders of lists anywhere in a data set, sorted."""
    tasks = {(root / file).parent for file in files_below(root, ("train.csv",))}
    return sorted({folder.parent for folder in tasks if folder != root and recognise(folder.parent)})


def read(root: str | Path, *, official_task: str = "non_rd_vs_rd") -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the lists alone, without any video (`attrs["lists_only"]`), to look at the splits.

    Args:
        root: The folder with a folder per task.
        official_task: The task whose clips, split and label are taken. The default is the only one that holds every
            clip.

    Raises:
        DataError: A list is missing or wrong.
    """
    root = Path(root)
    table = official_table(root, read_lists(root), official_task)
    table.attrs["lists_only"] = True
    note(table, "these are lists only, no video. Where the clips are, use the layout erdes with splits=<this folder>.")
    return table, (official_task,)


def read_lists(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Return every task's clips (see `clip_table`), those of train, val and test in this order.

    Paths may have back-slashes, or folders (`clips/`) before those of the tree.

    Raises:
        DataError: There is no list, a task has not all three, or a row is wrong.
    """
    folder = Path(folder)
    if not recognise(folder):
        raise DataError(f"{folder}: no lists of ERDES; expected folders such as {LABELS[1]}/ with train.csv.")
    return {
        task: pd.concat([_read_list(folder / task / f"{split}.csv", task, split) for split in SPLITS]).reset_index(
            drop=True
        )
        for task in LABELS
        if (folder / task).is_dir()
    }


def official_table(folder: str | Path, lists: Mapping[str, pd.DataFrame], task: str, prefix: str = "") -> pd.DataFrame:
    """Return the clips of one task with its split and its label; notes and warnings are about all lists.

    The labels of the other tasks are left out: with this split they would be trained on their test clips.

    Args:
        folder: The folder of the lists, for messages.
        lists: What `read_lists` returned.
        task: The task.
        prefix: Text before the paths.

    Raises:
        DataError: The task is unknown, or a clip is twice in its lists.
    """
    if task not in lists:
        raise DataError(
            f"{folder}: no lists of official_task {task!r}{nearest(task, lists)}; there are {', '.join(lists)}."
        )
    table = lists[task].copy()
    refuse_patient_overlap(Path(folder) / task, table)
    refuse_repeated(Path(folder) / task, table["id"], "clip")
    table["path"] = prefix + table["path"]
    table = without_labels(table, (task,))
    for sentence in counts(lists):
        note(table, sentence)
    table.attrs["warnings"] = leaks(lists)
    return table


def _read_list(path: Path, task: str, split: str) -> pd.DataFrame:
    raw = read_csv(path)
    require_columns(path, raw, ("path", "label"), "an official list of ERDES")
    paths = clip_paths(raw["path"])
    wrong = np.flatnonzero(paths.isna())
    if len(wrong):
        raise DataError(
            f"{path}: row {wrong[0] + 2}: {raw['path'].iloc[wrong[0]]!r} is no path like "
            "Non_Retinal_Detachment/Normal/164267_00001.mp4."
        )
    table = clip_table(paths)
    wrong = np.flatnonzero(pd.to_numeric(raw["label"], errors="coerce") != table[task])
    if len(wrong):
        row = wrong[0]
        raise DataError(
            f"{path}: row {row + 2}: label {raw['label'].iloc[row]!r}, but {paths.iloc[row]} is "
            f"{table['diagnosis'].iloc[row]}: in {task} it should be {_expected(table[task].iloc[row])}."
        )
    table["split"] = split
    return table


def _expected(value: float) -> str:
    return "left out" if np.isnan(value) else f"{value:.0f}"
