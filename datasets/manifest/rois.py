"""Boxes of the regions of interest of clips, `roi.csv` beside a manifest: `id,x_px,y_px,width_px,height_px`.

`frame_width_px` and `frame_height_px`, the size of the frame in which a box was drawn, may stand beside them; without,
the px are those of the clip's file. By NumPy alone, for `clinvit-runtime` too.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import DataError, UserError
from .plain_cells import nearest
from .plain_table import plain_table

ROI = "roi.csv"
ROIS = "rois"  # column of cases: the table of their boxes, '' where there is none
_BOX = ("x_px", "y_px", "width_px", "height_px")
_FRAME = ("frame_width_px", "frame_height_px")
_BEYOND = 1e-6  # share of the frame by which rounding may put an edge outside


class RoiBox(NamedTuple):
    """A region of interest.

    Attributes:
        left, top, right, bottom: In px of the frame in which it was drawn.
        frame: Width and height of that; None for the clip's own.
    """

    left: float
    top: float
    right: float
    bottom: float
    frame: tuple[float, float] | None = None

    def shares(self, path: object, width: int, height: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom in shares of the sides of a clip's frame.

        Raises:
            DataError: The box ends outside of the frame.
        """
        across, down = self.frame or (width, height)
        if self.right > across * (1 + _BEYOND) or self.bottom > down * (1 + _BEYOND):
            raise DataError(
                f"{path}: its box in {ROI} ends at {self.right:g}, {self.bottom:g} px, outside of its frame of "
                f"{across:g} x {down:g} px. frame_width_px and frame_height_px are the size of the frame in which it "
                "was drawn."
            )
        return self.left / across, self.top / down, min(1.0, self.right / across), min(1.0, self.bottom / down)


def rois_beside(manifest: Path) -> str:
    """Return the table of boxes beside a manifest; '' where there is none."""
    path = manifest.parent / ROI
    return str(path) if path.is_file() else ""


def case_boxes(cases: Mapping[str, Any]) -> dict[str, RoiBox | None]:
    """Return by path the box of each case, None where it has none.

    Args:
        cases: Columns or DataFrame with `id`, `path` and `ROIS`.

    Raises:
        UserError: There is no table of boxes.
        DataError: It is damaged, has a box of none of the cases, or a file is two cases with different boxes.
    """
    tables = sorted({str(table) for table in cases[ROIS] if table}) if ROIS in cases else []
    if not tables:
        raise UserError(
            f"clips are read cropped to the boxes of a table (data.clip.roi boxes), and there is none: give a manifest "
            f"with {ROI} beside it (id,{','.join(_BOX)}; {' and '.join(_FRAME)} where the boxes were drawn in frames "
            "of another size)."
        )
    known: dict[str, RoiBox] = {}
    for table in tables:
        known |= read_rois(Path(table))
    found: dict[str, RoiBox | None] = {}
    for case, path in zip(cases["id"], cases["path"], strict=True):
        box = known.get(case)
        if found.setdefault(str(path), box) != box:
            raise DataError(f"{tables[0]}: the file of case {case!r} is another case, too, with another box.")
    if found and not any(found.values()):
        raise DataError(f"{tables[0]}: no box of any of the {len(found):,} cases; its `id` is that of the manifest.")
    return found


def read_rois(path: Path) -> dict[str, RoiBox]:
    """Return the boxes of a table by case; several of one case, as of its frames, become the box around them all.

    Raises:
        DataError: A column is missing, a number is none, or a box has no area. The message names the row as a
            spreadsheet counts it.
    """
    table = plain_table(path)
    for column in ("id", *_BOX):
        if column not in table:
            raise DataError(
                f"{path}: no column {column!r}{nearest(column, table)}. It has id, {', '.join(_BOX)}, and "
                f"{' and '.join(_FRAME)} where the boxes were drawn in frames of another size."
            )
    if (_FRAME[0] in table) != (_FRAME[1] in table):
        raise DataError(f"{path}: {' and '.join(_FRAME)} stand together, or neither does.")
    found: dict[str, RoiBox] = {}
    for row, case in enumerate(table["id"]):
        if not any(table[column][row].strip() for column in _BOX):
            continue  # a frame in which a detector found nothing
        box = _box(path, table, row)
        found[case] = box if case not in found else _around(path, row, found[case], box)
    return found


def _box(path: Path, table: Mapping[str, Sequence[str]], row: int) -> RoiBox:
    left, top, width, height = (_number(path, table, column, row) for column in _BOX)
    if width <= 0 or height <= 0:
        raise DataError(f"{path}: row {row + 2}: a box without area; width_px and height_px are above 0.")
    if left < -1e-3 or top < -1e-3:
        raise DataError(f"{path}: row {row + 2}: the box begins at {left:g}, {top:g} px, outside of its frame.")
    frame = None
    if _FRAME[0] in table and any(table[column][row].strip() for column in _FRAME):
        across, down = (_number(path, table, column, row) for column in _FRAME)
        if across <= 0 or down <= 0:
            raise DataError(f"{path}: row {row + 2}: a frame of {across:g} x {down:g} px.")
        frame = across, down
    return RoiBox(max(0.0, left), max(0.0, top), left + width, top + height, frame)


def _number(path: Path, table: Mapping[str, Sequence[str]], column: str, row: int) -> float:
    try:
        value = float(table[column][row])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: row {row + 2}: {column} is {table[column][row]!r}, not a number of px.")
    return value


def _around(path: Path, row: int, one: RoiBox, two: RoiBox) -> RoiBox:
    """Return the box around two of one case."""
    if one.frame != two.frame:
        raise DataError(f"{path}: row {row + 2}: the boxes of a case are in frames of one size.")
    left, top = min(one.left, two.left), min(one.top, two.top)
    return RoiBox(left, top, max(one.right, two.right), max(one.bottom, two.bottom), one.frame)
