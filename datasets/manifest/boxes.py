"""Boxes around findings, `boxes.csv` beside a manifest: `id,label,x_px,y_px,width_px,height_px`, and their frame.

`frame_width_px` and `frame_height_px` are the size of the image in which a box was drawn. ChestX-ray14's are drawn at
1024 x 1024 px and are handed on with copies of any size; with the frame beside them no image has to be opened to
write the table, and it stays right when the images are shrunk later.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.errors import DataError
from ...core.files import written_aside
from .tables import Manifest, nearest, read_csv

BOXES = "boxes.csv"
_BEYOND = 1e-6  # share of the frame by which rounding may put an edge outside


class Box(NamedTuple):
    """One box around one finding.

    Attributes:
        id: Of the case, as in the manifest.
        label: A label of the manifest.
        x_px, y_px: Upper left corner, in px of the frame.
        width_px, height_px: Above 0.
        frame_width_px, frame_height_px: Size of the whole image in the px of the box.
    """

    id: str
    label: str
    x_px: float
    y_px: float
    width_px: float
    height_px: float
    frame_width_px: float
    frame_height_px: float

    def within(self, width_px: float, height_px: float) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom in a copy of the image that has this size."""
        across, down = width_px / self.frame_width_px, height_px / self.frame_height_px
        left, top = self.x_px * across, self.y_px * down
        return left, top, left + self.width_px * across, top + self.height_px * down


def write_boxes(path: str | Path, boxes: Iterable[Box]) -> None:
    """Write a table of boxes atomically; numbers keep three decimals at least."""
    table = pd.DataFrame(boxes, columns=list(Box._fields))
    with written_aside(path) as aside:
        table.to_csv(aside, index=False, lineterminator="\n", float_format="%.9g")


def read_boxes(path: str | Path, manifest: Manifest, others: bool = False) -> list[Box]:
    """Read and check the boxes of a manifest's cases, in file order.

    Args:
        path: The CSV file.
        manifest: The cases and labels.
        others: Whether there may be boxes of further cases and labels; they are left out.

    Raises:
        DataError: The file or a column is missing, an id or a label is not the manifest's, a number is none, or a box
            has no area or lies outside of its frame. The message names the row as a spreadsheet counts it.
    """
    path = Path(path)
    table = read_csv(path)
    for column in Box._fields:
        if column not in table.columns:
            hint = nearest(column, table.columns)
            raise DataError(f"{path}: no column {column!r}{hint}. A table of boxes has {', '.join(Box._fields)}.")
    if others:  # of a manifest of which some cases or labels were taken
        table = table[table["id"].isin(manifest.table["id"]) & table["label"].isin(manifest.labels)]
        table = table.reset_index(drop=True)
    _refuse_unknown(path, table["id"], "case", set(manifest.table["id"]), f"{manifest.path} has no such row")
    known = ", ".join(manifest.labels)
    _refuse_unknown(path, table["label"], "finding", manifest.labels, f"the labels of {manifest.path} are {known}")
    measures = list(Box._fields[2:])
    numbers = table[measures].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    for row, column in np.argwhere(~np.isfinite(numbers)):
        cell = table[measures[column]].iloc[row]
        raise DataError(f"{path}: row {row + 2}: {measures[column]} is {cell!r}, not a number of px.")
    _refuse_outside(path, numbers)
    rows = zip(table["id"], table["label"], numbers.tolist(), strict=True)
    return [Box(case, label, *values) for case, label, values in rows]


def _refuse_unknown(path: Path, cells: pd.Series, what: str, known: Iterable[str], why: str) -> None:
    wrong = np.flatnonzero(~cells.isin(list(known)))
    if len(wrong):
        cell = cells.iloc[wrong[0]]
        hint = nearest(cell, known) if what == "finding" else ""
        raise DataError(f"{path}: row {wrong[0] + 2}: unknown {what} {cell!r}{hint}; {why}.")


def _refuse_outside(path: Path, numbers: np.ndarray) -> None:
    """Raise unless all of (N, 6) x, y, width, height, frame's width and height are boxes within their frames."""
    start, size, frame = np.split(numbers, 3, axis=1)
    flat = np.flatnonzero((size <= 0).any(axis=1))
    if len(flat):
        raise DataError(f"{path}: row {flat[0] + 2}: a box without area; width_px and height_px are above 0.")
    slack = _BEYOND * frame
    outside = np.flatnonzero(((start < -slack) | (start + size > frame + slack)).any(axis=1))
    if len(outside):
        x, y, width, height, *whole = numbers[outside[0]]
        raise DataError(
            f"{path}: row {outside[0] + 2}: the box from ({x:g}, {y:g}) to ({x + width:g}, {y + height:g}) lies "
            f"outside of its frame of {whole[0]:g} x {whole[1]:g} px. frame_width_px and frame_height_px are the size "
            "of the image in which it was drawn."
        )
