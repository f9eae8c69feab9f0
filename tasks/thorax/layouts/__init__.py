"""Chest X-ray sets as they are downloaded, read into a manifest's table.

Every reader takes a folder and returns a table (`id,path,patient,split`, labels as 0, 1, NaN, facts; `path`
relative to the folder) and its labels. What was left out or decided stands in `table.attrs["notes"]`.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ....datasets.inventory import files_below
from ....datasets.own import read_class_folders, read_own_csv
from ....datasets.radiographs import RADIOGRAPH_SUFFIXES
from ....datasets.tables import nearest
from ....datasets.unlabelled import DICOM_SUFFIXES, read_unlabelled
from ....errors import DataError
from ..labels import MEANING
from . import chestxray14, chexpert, covidx, mimic


class Layout(NamedTuple):
    """One way to lay a data set out.

    Attributes:
        recognise: Does this folder look so?
        read: Folder and options to (table, labels).
        needs: What must be there, for messages.
    """

    recognise: Callable[[Path], bool]
    read: Callable[..., tuple[pd.DataFrame, tuple[str, ...]]]
    needs: str


def _is_own_csv(root: Path) -> bool:
    return root.suffix.lower() == ".csv" if root.is_file() else len(list(root.glob("*.csv"))) == 1


def _is_class_folders(root: Path) -> bool:
    if not root.is_dir() or any(root.glob("*.csv")):
        return False
    files = files_below(root, RADIOGRAPH_SUFFIXES)
    # More folders than this are patients, not classes.
    return 2 <= len({file.partition("/")[0] for file in files if "/" in file}) <= 20


def _is_dicom_folder(root: Path) -> bool:
    """Other pictures without labels are taken only when asked for: a set whose CSV is missing must not become one."""
    if not root.is_dir() or any(root.glob("*.csv")):
        return False
    files = files_below(root, RADIOGRAPH_SUFFIXES)
    return bool(files) and all(file.lower().endswith(DICOM_SUFFIXES) for file in files)


LAYOUTS: dict[str, Layout] = {
    "chestxray14": Layout(chestxray14.recognise, chestxray14.read, "Data_Entry_2017.csv"),
    "chexpert": Layout(chexpert.recognise, chexpert.read, "train.csv and valid.csv with a column Path"),
    "mimic": Layout(mimic.recognise, mimic.read, "mimic-cxr-2.0.0-metadata.csv.gz"),
    "covidx": Layout(covidx.recognise, covidx.read, "train_COVIDx*.txt and test_COVIDx*.txt"),
    "csv": Layout(_is_own_csv, read_own_csv, "one CSV of your own"),
    "folders": Layout(_is_class_folders, read_class_folders, "a folder per class"),
    "unlabelled": Layout(_is_dicom_folder, read_unlabelled, "pictures without labels, for pre-training only"),
}


def recognise(root: str | Path) -> str:
    """The name of the layout in this folder: the first of `LAYOUTS` that fits.

    Raises:
        DataError: Nothing is there, or nothing fits.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder.")
    for name, layout in LAYOUTS.items():
        if layout.recognise(root):
            return name
    known = "; ".join(f"{name}: {layout.needs}" for name, layout in LAYOUTS.items())
    raise DataError(f"{root}: no known layout. Looked for {known}.")


def to_manifest(root: str | Path, layout: str | None = None, **options: object) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the data set in `root`.

    Args:
        root: The folder as downloaded (or a CSV of one's own).
        layout: A name of `LAYOUTS`. Default: recognised.
        options: Of the layout's reader (`chestxray14.read`, `chexpert.read`, ...).

    Returns:
        The table, with `attrs["notes"]` (sentences), `attrs["meaning"]` (what 1 means) and `attrs["layout"]`;
        and its label columns.

    Raises:
        DataError: An unknown layout or option, or what the reader finds wrong.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder.")
    name = layout or recognise(root)
    if name not in LAYOUTS:
        raise DataError(f"no layout {name!r}{nearest(name, LAYOUTS)}; there are {', '.join(LAYOUTS)}.")
    read = LAYOUTS[name].read
    known = [p.name for p in inspect.signature(read).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise DataError(
                f"layout {name}: no option {option!r}{nearest(option, known)}; there are {', '.join(known)}."
            )
    table, labels = read(root, **options)
    table.attrs.setdefault("notes", [])
    table.attrs.setdefault("meaning", dict.fromkeys(labels, MEANING[name]) if name in MEANING else {})
    table.attrs["layout"] = name
    return table, labels
