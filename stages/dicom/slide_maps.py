"""Where the image of a slide's map lies: a coarse grid over the whole slide, in the slide's own coordinates."""

import math
from typing import NamedTuple

import numpy as np
from highdicom import CoordinateSystemNames, PixelMeasuresSequence, PlanePositionSequence
from pydicom import Dataset
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

_LONGEST_PX = 1024
_NEEDED = ("FrameOfReferenceUID", "ImageOrientationSlide", "TotalPixelMatrixOriginSequence", "TotalPixelMatrixRows")


class Canvas(NamedTuple):
    """The pixels of a map over a slide.

    Attributes:
        rows, columns: Of the map.
        covered_px: Width and height that it covers in px of the slide's level, which may reach beyond it by a pixel.
        settings: Of `highdicom`: spacing and place.
    """

    rows: int
    columns: int
    covered_px: tuple[float, float]
    settings: dict


def is_slide(source: Dataset) -> bool:
    """Return whether a source is a level of a whole slide."""
    return source.SOPClassUID == VLWholeSlideMicroscopyImageStorage


def canvas(source: Dataset) -> Canvas | None:
    """Return the pixels of a map over a slide; None where the file does not say where it lies."""
    spacing = _spacing_mm(source)
    if spacing is None or any(name not in source for name in _NEEDED):
        return None
    width, height = int(source.TotalPixelMatrixColumns), int(source.TotalPixelMatrixRows)
    shrink = max(1, math.ceil(max(width, height) / _LONGEST_PX))
    rows, columns = math.ceil(height / shrink), math.ceil(width / shrink)
    row_mm, column_mm = spacing
    origin = source.TotalPixelMatrixOriginSequence[0]
    corner = np.array(
        [
            float(origin.XOffsetInSlideCoordinateSystem),
            float(origin.YOffsetInSlideCoordinateSystem),
            float(origin.get("ZOffsetInSlideCoordinateSystem") or 0),
        ]
    )
    along, down = np.reshape([float(value) for value in source.ImageOrientationSlide], (2, 3))
    # Places are of the middles of pixels: that of a coarse one lies in the middle of those that it covers.
    middle = corner + (shrink - 1) / 2 * (along * column_mm + down * row_mm)
    settings = {
        "pixel_measures": PixelMeasuresSequence((row_mm * shrink, column_mm * shrink), slice_thickness=0.001),
        "plane_positions": [PlanePositionSequence(CoordinateSystemNames.SLIDE, middle.tolist(), (1, 1))],
    }
    return Canvas(rows, columns, (columns * shrink, rows * shrink), settings)


def _spacing_mm(source: Dataset) -> tuple[float, float] | None:
    """Return the distances of rows and of columns by the shared functional groups."""
    try:
        row, column = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        return float(row), float(column)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
