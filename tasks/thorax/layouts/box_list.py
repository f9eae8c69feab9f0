"""BBox_List_2017.csv: the readers' boxes on images of ChestX-ray14, beside the download or a table of one's own."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.boxes import Box
from ....datasets.manifest.inventory import note, require_columns
from ....datasets.manifest.layouts import Layout
from ....datasets.manifest.own import tables_in
from ....datasets.manifest.tables import nearest, read_csv
from ..labels import BOX_SPELLING, CHESTXRAY14

BOX_LIST = "BBox_List_2017.csv"
NOMINAL_PX = 1024  # the frame of the list; a down-scaled copy of the images keeps it


def boxes(root: str | Path) -> pd.DataFrame:
    """Return the boxes of BBox_List_2017.csv (officially test images only).

    Returns:
        `id, label, x, y, w, h`: upper left corner, width and height as fractions (0..1) of the image,
        whatever its size. The table counts in pixels of a 1024-px image, for down-scaled copies too.

    Raises:
        DataError: The file or a column is missing, a label is unknown or a number is none.
    """
    path = Path(root) / BOX_LIST
    raw = read_csv(path)
    numbers = {"x": "Bbox [x", "y": "y", "w": "w", "h": "h]"}
    require_columns(path, raw, ["Image Index", "Finding Label", *numbers.values()], "the boxes of ChestX-ray14")
    table = pd.DataFrame({"id": stem(raw["Image Index"]), "label": raw["Finding Label"].str.strip()})
    table["label"] = table["label"].replace(BOX_SPELLING)
    unknown = table["label"][~table["label"].isin(CHESTXRAY14)]
    if len(unknown):
        raise DataError(f"{path}: unknown finding {unknown.iloc[0]!r}{nearest(unknown.iloc[0], CHESTXRAY14)}.")
    for name, column in numbers.items():
        table[name] = pd.to_numeric(raw[column], errors="coerce").astype("float64") / NOMINAL_PX
    wrong = np.flatnonzero(~table[list(numbers)].ge(0).all(axis=1) | table[["w", "h"]].eq(0).any(axis=1))
    if len(wrong):
        raise DataError(f"{path}: row {wrong[0] + 2}: x, y, width and height of a box are pixels, above 0.")
    return table


def boxes_of(root: Path, ids: dict[str, str]) -> tuple[Box, ...]:
    """Return the boxes of some images, in the 1024-px frame in which they were drawn, cut off at its edge.

    Args:
        root: The folder of the list.
        ids: Case by file name without suffix.

    Raises:
        DataError: As of `boxes`, or a box lies outside of its image.
    """
    found = []
    for row in boxes(root).itertuples(index=False):
        left, top, right, bottom = (
            NOMINAL_PX * min(1.0, edge) for edge in (row.x, row.y, row.x + row.w, row.y + row.h)
        )
        if left >= right or top >= bottom:
            raise DataError(f"{root / BOX_LIST}: the box of {row.label} in {row.id} lies outside of its image.")
        if row.id in ids:
            found.append(Box(ids[row.id], row.label, left, top, right - left, bottom - top, NOMINAL_PX, NOMINAL_PX))
    return tuple(found)


def beside_own_table(csv: Layout) -> Layout:
    """Return the layout of a table of one's own, which a list of boxes beside it belongs to."""

    def recognise(root: Path) -> bool:
        return csv.recognise(root if _own_table(root) is None else _own_table(root))

    return csv._replace(recognise=recognise, read=_with_boxes(csv.read))


def _with_boxes(read: Callable[..., tuple[pd.DataFrame, tuple[str, ...]]]) -> Callable[..., tuple]:
    @functools.wraps(read)
    def reading(root: str | Path, **options: object) -> tuple[pd.DataFrame, tuple[str, ...]]:
        path = _own_table(Path(root)) or Path(root)
        table, labels = read(path, **options)
        folder = path if path.is_dir() else path.parent
        if (folder / BOX_LIST).is_file() and path.name != BOX_LIST:
            _add_boxes(folder, table, labels)
        return table, labels

    return reading


def _add_boxes(folder: Path, table: pd.DataFrame, labels: tuple[str, ...]) -> None:
    """Hand on the listed boxes of a table's images and labels, and note what became of the list."""
    if "boxes" in table.attrs:
        note(table, f"{BOX_LIST} beside the table was left out: the table has boxes of its own.")
        return
    ids = dict(zip(table["path"].map(lambda file: Path(file).stem), table["id"], strict=True))
    found = boxes_of(folder, ids)
    kept = tuple(box for box in found if box.label in labels)
    if kept:
        table.attrs["boxes"] = kept
        note(
            table, f"{len(kept):,} boxes of {len({box.id for box in kept}):,} images, by {BOX_LIST}, go into boxes.csv."
        )
    if len(found) > len(kept):
        others = ", ".join(sorted({box.label for box in found} - set(labels)))
        note(table, f"{len(found) - len(kept):,} boxes of {BOX_LIST}: no label here ({others}), left out.")


def _own_table(root: Path) -> Path | None:
    """Return the one table in a folder that holds a list of boxes too; None where that is not what is there."""
    if not root.is_dir() or not (root / BOX_LIST).is_file():
        return None
    others = [path for path in tables_in(root) if path.name != BOX_LIST]
    return others[0] if len(others) == 1 else None


def stem(names: pd.Series) -> pd.Series:
    """Return file names without their suffix."""
    return names.str.strip().str.replace(r"\.\w+$", "", regex=True)
