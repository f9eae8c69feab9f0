"""How the official lists of ERDES leak.

Test clips of one task are trained on in another, and file names give the diagnosis away.
"""

from collections.abc import Mapping

import pandas as pd

from ....datasets.manifest.inventory import class_codes_in_names
from ....datasets.manifest.tables import SPLITS

NO_PATIENTS = (
    "ERDES names no patients or eyes: each clip counts as a patient of its own, so clips of one eye may be in train "
    "and in test, scores may be too good and intervals too narrow."
)
Lists = Mapping[str, pd.DataFrame]  # by task: `id, path, split, diagnosis` of its clips


def counts(lists: Lists) -> list[str]:
    """Return how many clips the lists hold, as sentences."""
    every = pd.concat(lists.values())["id"].nunique()
    sizes = {
        task: " / ".join(f"{int((table['split'] == split).sum()):,}" for split in SPLITS)
        for task, table in lists.items()
    }
    listed = ", ".join(f"{task} {size}" for task, size in sizes.items())
    sentences = [f"{every:,} clips are in the official lists; train / val / test: {listed}."]
    if not any(map(_in_two_splits, lists.values())):
        sentences.append("within each task no clip is in two splits.")
    return sentences


def leaks(lists: Lists) -> list[str]:
    """Return what may spoil results on the official lists, as sentences.

    Args:
        lists: By task, a table with `id, path, split, diagnosis`.

    Returns:
        Clips in two splits of one task (none in the published lists), test clips that other tasks are trained on,
        missing patients, and codes of the diagnosis in file names.
    """
    sentences = []
    for task, table in lists.items():
        twice = _in_two_splits(table)
        if twice:
            sentences.append(f"{task}: {twice:,} clips are in two of its splits.")
    union = pd.concat(lists.values())
    trained, tested = (frozenset(union.loc[union["split"] == split, "id"]) for split in ("train", "test"))
    if trained & tested:
        sentences.append(
            f"the tasks were split independently: {len(trained & tested):,} of {union['id'].nunique():,} clips are in "
            "train of one task and in test of another. On these splits no model may be chained to, or started from, "
            "one of another task; the layout erdes without `splits` makes one split for all tasks."
        )
    sentences += [sentence for task in lists if (sentence := _seen_elsewhere(task, lists))]
    return sentences + name_leaks(union.drop_duplicates("id"))


def _in_two_splits(table: pd.DataFrame) -> int:
    return int((table.groupby("id")["split"].nunique() > 1).sum())


def _seen_elsewhere(task: str, lists: Lists) -> str:
    """Return how many test clips of a task other tasks train or choose on, '' if none."""
    test = lists[task].loc[lists[task]["split"] == "test", "id"]
    parts = []
    for other, table in lists.items():
        held = table.loc[table["id"].isin(test), "split"].value_counts().reindex(SPLITS, fill_value=0)
        if other != task and held["train"] + held["val"]:
            parts.append(f"{other} {' / '.join(f'{count:,}' for count in held)}")
    if not parts:
        return ""
    return f"of the {len(test):,} test clips of {task}, other tasks hold in train / val / unseen: {', '.join(parts)}."


def name_leaks(table: pd.DataFrame) -> list[str]:
    """Return warnings on patients, and on codes of the diagnosis in the names of the files."""
    codes = class_codes_in_names(table["path"], table["diagnosis"])
    return [NO_PATIENTS, codes] if codes else [NO_PATIENTS]
