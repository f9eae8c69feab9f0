"""ERDES as downloaded: a folder per diagnosis, perhaps metadata.csv; splits of our own or the official ones."""

from pathlib import Path

import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.inventory import files_below, keep_present, note, warn
from ....datasets.manifest.splits import assign_splits
from ....datasets.manifest.tables import read_csv
from ....datasets.video.clips import CLIP_SUFFIXES
from ..labels import CLASSES, LABELS
from .folders import DIAGNOSIS_OF, clip_paths, clip_table, without_labels
from .leaks import name_leaks
from .official import lists_in, official_table, read_lists

# What identifies the tree; `train/PVD` alone may be anybody's.
TREE_FOLDERS = ("train/Non_RD", *(name for name in DIAGNOSIS_OF if not name.startswith("train/")))
FACT_OF = {"fps": "fps", "frame_count": "frames"}  # columns of metadata.csv, and what a manifest calls them


def recognise(root: Path) -> bool:
    """Return whether a folder of the tree is there: here, below `clips/`, or one folder further down."""
    return bool(_bases(root))


def read(
    root: str | Path,
    *,
    splits: str | Path | None = None,
    official_task: str | None = None,
    own_split: bool = False,
    keep_missing: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read ERDES, or its older copy (`train/Non_RD`, `train/PVD`, ...).

    Every clip has one split for all tasks, unless official lists are asked for.

    Args:
        root: The folder `erdes/`, the one above it, or the one with `clips/`.
        splits: Folder of the official lists (`<task>/{train,val,test}.csv`); None to take the ones that lie in the
            data set. Their splits differ by task, so that one must be named; its clips and its label are
            taken.
        official_task: The task of the lists; None for one split of all tasks, dealt out here.
        own_split: Without lists, deal out one split of all tasks, with a warning, instead of refusing.
        keep_missing: Keep the rows of listed clips that are not there.
        seed: Seed of new splits.

    Returns:
        The table `id, path, patient, split`, the labels, `diagnosis`, `side` (ND nasal, TD temporal, Bilateral or
        empty), and with metadata.csv `fps` and `frames`. And the labels: each task of which both classes are there.

    Raises:
        DataError: No clip, no lists or several, or something in the lists is wrong.
    """
    root = Path(root)
    base = _base(root)
    prefix = "" if base == root else base.relative_to(root).as_posix() + "/"
    if splits is not None and official_task is None:
        raise DataError(
            f"{splits}: a clip has another split in every official task, so say whose: "
            f"official_task, one of {', '.join(LABELS)}. Without splits, {root} gets one split for all tasks."
        )
    files = pd.Series(files_below(base, CLIP_SUFFIXES), dtype=str)
    within = clip_paths(files) == files
    if not within.any():
        raise DataError(f"{base}: no clip in its folders ({', '.join(CLIP_SUFFIXES)}).")
    present = files[within].reset_index(drop=True)
    if splits is None and official_task is not None:
        splits = _lists(root, official_task, own_split)
    if splits is None:
        table, labels = _own_splits(root, clip_table(present, prefix), seed)
        if official_task is not None:
            warn(table, f"{_no_lists(root, official_task)} Now scores are of another test list than the paper's.")
    else:
        table = official_table(splits, read_lists(splits), official_task, prefix)
        unlisted = int((~(prefix + present).isin(table["path"])).sum())
        if unlisted:
            note(table, f"{unlisted:,} clips are not in the lists of {official_task} and were left out.")
        table, labels = keep_present(table, root, prefix + present, keep_missing), (official_task,)
        note(table, f"the clips of {official_task} and their splits are those of the lists in {splits}.")
    if not within.all():
        note(table, f"{int((~within).sum()):,} clips outside the folders of ERDES were left out.")
    if present.str.startswith("train/Non_RD/").any():
        note(table, "this is the older copy of ERDES: its folders name the class (Non_RD: normal), and no side.")
    above = root if base == root else base.parent  # beside clips/ on Hugging Face
    metadata = [folder / "metadata.csv" for folder in (base, above, root) if (folder / "metadata.csv").is_file()]
    return _with_metadata(table, metadata[0]) if metadata else table, labels


def _bases(root: Path) -> list[Path]:
    """Return folders that hold a folder of the tree."""
    if not root.is_dir():
        return []
    below = sorted(folder for folder in root.iterdir() if folder.is_dir())
    folders = [root, *below, *(folder / "clips" for folder in below)]
    return [folder for folder in folders if any((folder / name).is_dir() for name in TREE_FOLDERS)]


def _base(root: Path) -> Path:
    bases = _bases(root)
    if not bases:
        raise DataError(f"{root}: no folder Non_Retinal_Detachment or Retinal_Detachment, here, in clips/ or below.")
    if len(bases) > 1:
        raise DataError(f"{root}: ERDES lies there more than once: {bases[0]} and {bases[1]}. Name one of them.")
    return bases[0]


def _lists(root: Path, official_task: str, own_split: bool) -> Path | None:
    """Return the folder of lists in the data set; None where there is none and an own split will do."""
    found = lists_in(root)
    if len(found) > 1:
        raise DataError(f"{root}: official lists lie in {found[0]} and in {found[1]}. Name one of them: splits.")
    if not found and not own_split:
        raise DataError(_no_lists(root, official_task))
    return found[0] if found else None


def _no_lists(root: Path, official_task: str) -> str:
    return (
        f"{root}: official_task={official_task} needs the folder of the official lists (splits), and none lies there. "
        f"It is data/splits of github.com/OSUPCVLab/ERDES: copy it to {root / 'splits'}."
    )


def _own_splits(root: Path, table: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the table, split once for all tasks and stratified by folder, and the labels that have both classes."""
    folders = pd.get_dummies(table["diagnosis"] + " " + table["side"])
    try:
        table["split"] = assign_splits(pd.concat([table["patient"], folders], axis=1), list(folders), seed=seed)
    except DataError as error:
        raise DataError(f"{root}: {error}") from None
    note(table, f"every clip got one split for all tasks, dealt out by diagnosis and side (seed {seed}).")
    for lists in lists_in(root)[:1]:
        note(table, f"official lists lie in {lists}; official_task=non_rd_vs_rd, or another, takes them.")
    there = set(table["diagnosis"])
    labels = tuple(task for task, classes in CLASSES.items() if all(there & set(names) for names in classes))
    if not labels:
        raise DataError(f"{root}: all clips are {there.pop()}; there is nothing to classify. Is the download whole?")
    if labels != LABELS:
        missing = ", ".join(task for task in LABELS if task not in labels)
        note(table, f"labels of which only one class is there were left out: {missing}.")
        table = without_labels(table, labels)
    for sentence in name_leaks(table):
        warn(table, sentence)
    return table, labels


def _with_metadata(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table with the facts of metadata.csv, and a warning where its class is not the folder's."""
    raw = read_csv(path)
    if "file_path" not in raw.columns:
        note(table, f"{path.name} has no column file_path and was not used.")
        return table
    raw = raw.set_index(clip_paths(raw["file_path"]))
    raw = raw[raw.index.notna() & ~raw.index.duplicated()].reindex(clip_paths(table["path"]))
    for column, fact in FACT_OF.items():
        if column in raw.columns:
            table[fact] = pd.to_numeric(raw[column], errors="coerce").to_numpy()
    unknown = raw["file_path"].isna().to_numpy()
    if unknown.any():
        note(
            table, f"{int(unknown.sum()):,} clips are not in {path.name}; the first is {table['id'][unknown].iloc[0]}."
        )
    if "subtype" in raw.columns:
        subtype = raw["subtype"].str.strip().str.lower().to_numpy()
        differs = ~unknown & (subtype != table["diagnosis"].to_numpy())
        if differs.any():
            warn(
                table,
                f"{int(differs.sum()):,} clips have another class in {path.name} than their folder, which was taken; "
                f"the first is {table['id'][differs].iloc[0]}.",
            )
    return table
