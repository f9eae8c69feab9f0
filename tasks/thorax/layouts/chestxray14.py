"""NIH ChestX-ray14: twelve folders of PNG (or one), Data_Entry_2017.csv, the official lists, boxes; Kaggle's sample."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.inventory import (
    by_stem,
    complete_splits,
    files_below,
    keep_present,
    note,
    refuse_repeated,
    require_columns,
    warn,
)
from ....datasets.manifest.tables import nearest, read_csv, refuse_patient_overlap
from ..labels import CHESTXRAY14
from .box_list import BOX_LIST, boxes_of, stem

OLDEST = 120  # the table has ages up to 414
ENTRIES = ("Data_Entry_2017*.csv", "sample_labels.csv")
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
PAPER_LISTS = {split: f"{split}_official.txt" for split in ("train", "val", "test")}


def recognise(root: Path) -> bool:
    """Return whether there is a Data_Entry_2017*.csv, or the sample_labels.csv of Kaggle's sample."""
    return root.is_dir() and any(any(root.glob(pattern)) for pattern in ENTRIES)


def read(
    root: str | Path, *, paper_lists: str | Path | None = None, keep_missing: bool = False, seed: int = 0
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read ChestX-ray14.

    Images are found by name in `images_001/images` ... `images_012/images`, in one flat folder, or anywhere
    below `root`, and may be JPEG copies. The table may have 11 or 12 columns, and `Patient Gender` or
    `Patient Sex`. Where BBox_List_2017.csv is there too, `table.attrs["boxes"]` holds the boxes of the images listed.

    A part of the set without any list (Kaggle's sample, a subset of one's own) is dealt out by patient, with a warning.

    Args:
        root: The folder with Data_Entry_2017.csv, or the sample_labels.csv of Kaggle's sample.
        paper_lists: Folder with the thorax paper's train_official.txt, val_official.txt and test_official.txt (or
            .txt.gz). Default: train_val_list.txt and test_list.txt of the download; val is cut from train by patient.
        keep_missing: Keep the rows of images that are not there (single zips are often downloaded).
        seed: Seed of the random choice of validation patients.

    Raises:
        DataError: A file or column is missing, a finding is unknown, an image or patient is in two lists, or more than
            half of the images are missing.
    """
    root = Path(root)
    path = _entry_file(root)
    raw = read_csv(path).rename(columns={"Patient Sex": "Patient Gender"})
    columns = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender")
    require_columns(path, raw, (*columns, "View Position"), "the table of ChestX-ray14")
    table = pd.DataFrame({"id": stem(raw["Image Index"]), "path": raw["Image Index"].str.strip()})
    table["patient"] = raw["Patient ID"].str.strip().str.zfill(8)  # as in the file names
    refuse_repeated(path, table["id"], "image")
    without = paper_lists is None and not any(_listed(root / name) for name in LISTS.values())
    table["split"] = "" if without else _splits(root, table["id"], paper_lists)
    table[list(CHESTXRAY14)] = _findings(path, raw["Finding Labels"])
    table["view"], table["sex"] = raw["View Position"].str.strip(), raw["Patient Gender"].str.strip()
    table["age"], odd_ages = _years(raw["Patient Age"])
    table["follow_up"] = pd.to_numeric(raw["Follow-up #"], errors="coerce").astype("Int64")
    unlisted = (table["split"] == "") & (not without)
    table = table[~unlisted].reset_index(drop=True)
    if unlisted.any():
        note(table, f"{int(unlisted.sum()):,} images are in none of the lists and were left out.")
    if table.empty:
        raise DataError(f"{path}: none of its images is in the lists. Are table and lists of the same data set?")
    if odd_ages:
        note(table, f"{odd_ages:,} ages are no number or above {OLDEST}; their cells are empty.")
    if without:
        warn(
            table,
            f"there is no {' and no '.join(LISTS.values())}: patients are dealt out anew, so that results cannot be "
            "compared with those on the official test list.",
        )
    files = files_below(root, (".png", ".jpg", ".jpeg"))
    table["path"] = table["id"].map(by_stem(files)).astype("str").fillna(table["path"])
    refuse_patient_overlap(path, table)
    table = keep_present(table, root, files, keep_missing)
    table = complete_splits(path, table, CHESTXRAY14, seed)
    if (root / BOX_LIST).is_file():
        table.attrs["boxes"] = boxes_of(root, {case: case for case in table["id"]})
    return table, CHESTXRAY14


def _entry_file(root: Path) -> Path:
    found = next(filter(None, (sorted(root.glob(pattern)) for pattern in ENTRIES)), [])
    if not found:
        raise DataError(f"{root}: no Data_Entry_2017.csv (or Data_Entry_2017_v2020.csv). Download it with the images.")
    return found[-1]  # the corrected table of 2020, if both are there


def _splits(root: Path, ids: pd.Series, paper_lists: str | Path | None) -> pd.Series:
    """Return the split of each id, '' if it is in no list."""
    folder, lists = (root, LISTS) if paper_lists is None else (Path(paper_lists), PAPER_LISTS)
    named = pd.concat([pd.Series(split, _list(folder / name)) for split, name in lists.items()])
    repeated = named.index[named.index.duplicated()]
    if len(repeated):
        raise DataError(f"{folder}: image {repeated[0]} is listed twice in {', '.join(lists.values())}.")
    return ids.map(named).fillna("")


def _listed(path: Path) -> bool:
    return path.is_file() or path.with_name(path.name + ".gz").is_file()


def _list(path: Path) -> pd.Series:
    """Return the ids of a list: one image per line, in the paper's lists followed by its labels."""
    zipped = path.with_name(path.name + ".gz")
    if not _listed(path):
        raise DataError(f"{path}: no such list. It comes with the data set; without it there is no official test set.")
    text = path.read_text(encoding="utf-8") if path.is_file() else gzip.decompress(zipped.read_bytes()).decode()
    return stem(pd.Series(text.splitlines(), dtype=str).str.split(n=1).str[0].dropna())


def _findings(path: Path, cells: pd.Series) -> np.ndarray:
    """Return (N, 14) of 0 and 1; each distinct cell is read once."""
    codes, distinct = pd.factorize(cells)
    rows = np.zeros((len(distinct), len(CHESTXRAY14)))
    for row, cell in zip(rows, distinct):
        for name in (part.strip().replace(" ", "_") for part in cell.split("|")):
            if name == "No_Finding":
                continue
            if name not in CHESTXRAY14:
                line = int(np.flatnonzero(cells == cell)[0]) + 2
                hint = nearest(name, CHESTXRAY14)
                raise DataError(f"{path}: row {line}: unknown finding {name!r}{hint}; a healthy case is `No Finding`.")
            row[CHESTXRAY14.index(name)] = 1
    return rows[codes]


def _years(cells: pd.Series) -> tuple[pd.Series, int]:
    """Return ages in whole years from `58`, `058Y`, `007M` or `012D`, and how many are unusable."""
    parts = cells.str.strip().str.extract(r"^(\d+)\s*([YMD]?)$")
    years = parts[0].astype("float64") / parts[1].map({"": 1, "Y": 1, "M": 12, "D": 365.25})
    years = np.floor(years).where(years <= OLDEST)
    return years.astype("Int64"), int(years.isna().sum())
