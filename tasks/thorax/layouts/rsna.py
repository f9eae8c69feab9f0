"""RSNA Pneumonia Detection Challenge 2018 (Kaggle): stage_2_train_labels.csv beside stage_2_train_images/ of DICOM."""

from pathlib import Path

import numpy as np
import pandas as pd

from ....core.documents import LARGE_JSON_BYTES, parse_json, regular_bytes
from ....core.errors import DataError
from ....datasets.manifest.boxes import Box
from ....datasets.manifest.inventory import (
    by_stem,
    complete_splits,
    files_below,
    keep_present,
    note,
    require_columns,
    warn,
)
from ....datasets.manifest.tables import nearest, read_csv
from ..labels import RSNA, RSNA_CLASSES

STAGES = ("stage_2", "stage_1")
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
FRAME_PX = 1024  # of every image of the challenge; a down-scaled copy keeps the table
CORNERS = ("x", "y", "width", "height")


def recognise(root: Path) -> bool:
    """Return whether there is a stage_2_train_labels.csv (or of stage 1)."""
    return root.is_dir() and any((root / f"{stage}_train_labels.csv").is_file() for stage in STAGES)


def read(
    root: str | Path, *, classes: int = 2, keep_missing: bool = False, seed: int = 0
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the training images of the challenge; those of its test set have no published labels and are left out.

    `patientId` is the name of an image. Who the patients are says RSNA's mapping to ChestX-ray14
    (pneumonia-challenge-dataset-mappings_2018.json); where it lies beside the tables, splits are by patient and ids of
    ChestX-ray14 stand in the column `source`.

    Args:
        root: The folder with the tables and the images.
        classes: 2 (one label: Lung Opacity) or 3 (the classes of the detailed table, of which exactly one is 1).
        keep_missing: Keep the rows of images that are not there.
        seed: Of the splits.

    Raises:
        DataError: A file, column or cell is wrong, or more than half of the images are missing.
    """
    root = Path(root)
    stage = next((each for each in STAGES if (root / f"{each}_train_labels.csv").is_file()), None)
    if stage is None:
        raise DataError(f"{root}: no stage_2_train_labels.csv. It comes with the images of the challenge on Kaggle.")
    if classes not in (2, 3):
        raise DataError(f"classes {classes!r}: there are 2 (opacity or not) or 3 (of the detailed table).")
    path = root / f"{stage}_train_labels.csv"
    raw = read_csv(path)
    require_columns(path, raw, ("patientId", *CORNERS, "Target"), "the table of RSNA's challenge")
    raw["patientId"] = raw["patientId"].str.strip()
    targets = _targets(path, raw)
    table = pd.DataFrame({"id": targets.index, "path": "", "patient": targets.index, "split": ""})
    files = files_below(root, (".dcm", ".dicom", ".png", ".jpg", ".jpeg"))
    table["path"] = (
        table["id"].map(by_stem(files)).astype("str").fillna(f"{stage}_train_images/" + table["id"] + ".dcm")
    )
    names = RSNA if classes == 2 else RSNA_CLASSES
    if classes == 2:
        table[RSNA[0]] = targets.to_numpy(np.float64)
    else:
        detailed = _detailed(root / f"{stage}_detailed_class_info.csv", table["id"])
        table[list(names)] = (detailed.to_numpy()[:, None] == np.array(names)).astype(np.float64)
        table.attrs |= {
            "exclusive": True,
            "meaning": {name: f"1 = the class is {name}; exactly one class is 1" for name in names},
        }
    _add_patients(root, table)
    tests = sum(f"{stage}_test_images/" in f"/{file}" for file in files)
    if tests:
        note(table, f"{tests:,} images of the challenge's test set have no published labels and were left out.")
    table = keep_present(table, root, files, keep_missing)
    table.attrs["boxes"] = _boxes(path, raw, set(table["id"]))
    return complete_splits(path, table, names, seed), names


def _targets(path: Path, raw: pd.DataFrame) -> pd.Series:
    """Return 0 or 1 by image; rows of one image are its boxes."""
    numbers = pd.to_numeric(raw["Target"], errors="coerce")
    wrong = np.flatnonzero(~numbers.isin((0, 1)))
    if len(wrong):
        raise DataError(f"{path}: row {wrong[0] + 2}: Target is {raw['Target'].iloc[wrong[0]]!r}; it is 0 or 1.")
    groups = numbers.groupby(raw["patientId"], sort=False)
    unlike = groups.nunique() > 1
    if unlike.any():
        raise DataError(f"{path}: the rows of {unlike.index[unlike][0]} differ in Target.")
    return groups.first()


def _detailed(path: Path, ids: pd.Series) -> pd.Series:
    if not path.is_file():
        raise DataError(f"{path}: no such file. It holds the three classes; without it there are 2 (classes=2).")
    raw = read_csv(path)
    require_columns(path, raw, ("patientId", "class"), "the detailed classes of RSNA's challenge")
    classes = raw.assign(patientId=raw["patientId"].str.strip()).drop_duplicates("patientId").set_index("patientId")
    found = ids.map(classes["class"].str.strip()).fillna("")
    wrong = found[~found.isin(RSNA_CLASSES)]
    if len(wrong):
        name = wrong.iloc[0]
        why = f"unknown class {name!r}{nearest(name, RSNA_CLASSES)}" if name else "no row"
        raise DataError(f"{path}: {why} of image {ids[wrong.index[0]]}; there are {', '.join(RSNA_CLASSES)}.")
    return found


def _add_patients(root: Path, table: pd.DataFrame) -> None:
    """Take patients from RSNA's mapping to ChestX-ray14, or say that they are not known."""
    path = root / MAPPING
    if not path.is_file():
        warn(
            table,
            "the tables do not say who the patients are: each image counts as a patient of its own, though many are of "
            f"one. Put RSNA's {MAPPING} beside the tables, and splits are by patient.",
        )
        return
    try:
        rows = parse_json(regular_bytes(path, LARGE_JSON_BYTES))
        sources = {str(row["subset_img_id"]): str(row["img_id"]) for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: no list of images with img_id and subset_img_id ({error}). Fetch it again.") from None
    table["source"] = table["id"].map(sources).fillna("")
    unknown = table["source"] == ""
    if unknown.any():
        warn(table, f"{int(unknown.sum()):,} images are not in {MAPPING}; each counts as a patient of its own.")
    table["patient"] = table["patient"].where(unknown, table["source"].str.partition("_")[0])


def _boxes(path: Path, raw: pd.DataFrame, ids: set[str]) -> tuple[Box, ...]:
    """Return the boxes of these images, in the 1024-px frame in which they were drawn, cut off at its edge."""
    numbers = raw[list(CORNERS)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    positive = pd.to_numeric(raw["Target"]).to_numpy() == 1
    found = []
    for row in np.flatnonzero(positive & raw["patientId"].isin(ids).to_numpy()):
        x, y, width, height = numbers[row]
        left, top, right, bottom = np.clip([x, y, x + width, y + height], 0, FRAME_PX)
        if not (left < right and top < bottom):
            raise DataError(f"{path}: row {row + 2}: x, y, width and height of a box are px of a {FRAME_PX}-px image.")
        found.append(
            Box(raw["patientId"].iloc[row], RSNA[0], left, top, right - left, bottom - top, FRAME_PX, FRAME_PX)
        )
    return tuple(found)
