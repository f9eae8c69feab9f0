"""VinDr-CXR (Nguyen et al. 2022): train/ and test/ of DICOM, annotations/ with labels and boxes; VinBigData's CSV."""

from pathlib import Path

import numpy as np
import pandas as pd

from ....core.errors import DataError
from ....datasets.images.dicom_header import read_header
from ....datasets.kinds import is_dicom
from ....datasets.manifest.boxes import Box
from ....datasets.manifest.columns import POLICIES, read_label
from ....datasets.manifest.inventory import (
    by_stem,
    complete_splits,
    files_below,
    has_columns,
    keep_present,
    note,
    refuse_repeated,
    require_columns,
    warn,
)
from ....datasets.manifest.several import one_row_per_file
from ....datasets.manifest.tables import nearest, read_csv
from ..labels import VINBIGDATA, VINDR

PARTS = ("train", "test")
SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
SPELLING = {"Other disease": "Other diseases"}  # as the test table has it
NO_FINDING = "No finding"
EDGES = ("x_min", "y_min", "x_max", "y_max")


def recognise(root: Path) -> bool:
    """Return whether there are VinDr-CXR's tables of labels, or VinBigData's train.csv."""
    if not root.is_dir():
        return False
    return has_columns(_tables(root) / "image_labels_train.csv", "image_id", *VINDR[:3]) or has_columns(
        root / "train.csv", "image_id", "class_name", "rad_id", *EDGES
    )


def read(
    root: str | Path, *, readers: str = "majority", boxes: bool = True, keep_missing: bool = False, seed: int = 0
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read VinDr-CXR as PhysioNet has it, or VinBigData's competition on Kaggle (train only, 14 findings).

    The published test set stays the test set; val is cut from train. The set does not say whose the images are: each
    counts as a patient of its own.

    Args:
        root: The folder with train/, test/ and annotations/ (or the tables themselves).
        readers: What the three readers of a training image become: majority, any or all.
        boxes: Hand on the boxes of the findings. Their frames are those of the DICOM files, whose headers are read.
        keep_missing: Keep the rows of images that are not there.
        seed: Of the choice of validation images.

    Raises:
        DataError: A table, column or cell is wrong, or more than half of the images are missing.
    """
    root = Path(root)
    tables = _tables(root)
    if (tables / "image_labels_train.csv").is_file():
        names = VINDR
        parts = {
            part: _labels(tables / f"image_labels_{part}.csv")
            for part in PARTS
            if (tables / f"image_labels_{part}.csv").is_file()
        }
        drawn = {part: tables / f"annotations_{part}.csv" for part in parts}
    elif has_columns(root / "train.csv", "image_id", "class_name", "rad_id"):
        names, drawn = VINBIGDATA, {"train": root / "train.csv"}
        parts = {"train": _labels_of_boxes(root / "train.csv")}
    else:
        raise DataError(f"{root}: no annotations/image_labels_train.csv (PhysioNet) and no train.csv (Kaggle).")
    files = files_below(root, SUFFIXES)
    joined = [_table(tables, part, cells, names, readers) for part, cells in parts.items()]
    table = pd.concat(joined, ignore_index=True)
    table.attrs["notes"] = [text for each in joined for text in each.attrs.get("notes", [])]
    if "test" not in parts:
        note(table, "there is no table of the test set: its images were left out, and a test set is cut by image.")
        table["split"] = ""
    refuse_repeated(tables, table["id"], "image")
    found = by_stem(files)
    table["path"] = table["id"].map(found).fillna(table["split"].replace("", "train") + "/" + table["id"] + ".dicom")
    warn(table, "VinDr-CXR does not say who the patients are: each image counts as a patient of its own.")
    table = keep_present(table, root, files, keep_missing)
    table = complete_splits(tables, table, names, seed)
    if boxes:
        _add_boxes(root, table, names, drawn)
    return table, names


def _tables(root: Path) -> Path:
    return root / "annotations" if (root / "annotations").is_dir() else root


def _labels(path: Path) -> pd.DataFrame:
    """Return a row per image and reader, with 0, 1 and NaN by label."""
    raw = read_csv(path).rename(columns=SPELLING)
    require_columns(path, raw, ("image_id", *VINDR), "the labels of VinDr-CXR")
    cells = {"id": raw["image_id"].str.strip()}
    for name in VINDR:
        read = read_label(raw[name])
        if read.odd.any():
            row = int(read.odd.argmax())
            raise DataError(f"{path}: row {row + 2}: {name} is {raw[name].iloc[row]!r}; it is 0 or 1.")
        cells[name] = read.values
    return pd.DataFrame(cells)


def _labels_of_boxes(path: Path) -> pd.DataFrame:
    """Return a row per image and reader of VinBigData's table, which has a row per box."""
    raw = read_csv(path)
    require_columns(path, raw, ("image_id", "class_name", "rad_id"), "the table of VinBigData")
    classes = raw["class_name"].str.strip()
    wrong = np.flatnonzero(~classes.isin((*VINBIGDATA, NO_FINDING)))
    if len(wrong):
        name = classes.iloc[wrong[0]]
        raise DataError(f"{path}: row {wrong[0] + 2}: unknown finding {name!r}{nearest(name, VINBIGDATA)}.")
    counts = pd.crosstab([raw["image_id"].str.strip(), raw["rad_id"].str.strip()], classes)
    seen = (
        counts.reindex(columns=list(VINBIGDATA), fill_value=0).gt(0).astype("float64").reset_index(names=["id", "rad"])
    )
    return seen.drop(columns="rad")


def _table(path: Path, part: str, cells: pd.DataFrame, names: tuple[str, ...], readers: str) -> pd.DataFrame:
    """Return a row per image."""
    table = pd.DataFrame({"id": cells["id"], "path": cells["id"], "patient": cells["id"], "split": part})
    table = pd.concat([table, cells[list(names)]], axis=1)
    return one_row_per_file(path, table, names, readers, next(iter(POLICIES)), None)[0]


def _add_boxes(root: Path, table: pd.DataFrame, names: tuple[str, ...], drawn: dict[str, Path]) -> None:
    """Hand on the boxes of findings that the image has, in the frame of its DICOM file."""
    rows = table.set_index("id")
    found, outside, without = [], 0, set()
    sizes: dict[str, tuple[int, int] | None] = {}
    for path in filter(Path.is_file, drawn.values()):
        raw = read_csv(path)
        require_columns(path, raw, ("image_id", "class_name", *EDGES), "the boxes of VinDr-CXR")
        edges = raw[list(EDGES)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        cells = zip(raw["image_id"].str.strip(), raw["class_name"].str.strip(), edges, strict=True)
        for case, name, box in cells:
            label = SPELLING.get(name, name)
            if np.isnan(box).any() or case not in rows.index or label not in names or rows.at[case, label] != 1:
                continue
            if case not in sizes:
                sizes[case] = _frame(root / rows.at[case, "path"])
            size = sizes[case]
            if size is None:
                without.add(case)
                continue
            left, top, right, bottom = np.clip(box, 0, [size[1], size[0], size[1], size[0]])
            if left >= right or top >= bottom:
                outside += 1
                continue
            found.append(Box(case, label, left, top, right - left, bottom - top, size[1], size[0]))
    if without:
        note(
            table,
            f"the boxes of {len(without):,} images were left out: they count in the pixels of the DICOM files, which "
            "are not there or cannot be read.",
        )
    if outside:
        note(table, f"{outside:,} boxes have no area within their image and were left out.")
    if found:
        table.attrs["boxes"] = tuple(dict.fromkeys(found))


def _frame(path: Path) -> tuple[int, int] | None:
    """Return height and width of a DICOM file; None of a copy, whose size says nothing of the boxes."""
    try:
        return read_header(path).size if is_dicom(path) else None
    except DataError:
        return None
