"""The region of interest of a clip: the part that moves, or a box of a table, with a margin; and what is read of it."""

from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import DataError
from .region import Region

if TYPE_CHECKING:
    from .clips import Clip

Box = tuple[float, float, float, float]  # left, top, right, bottom in shares of the frame's sides

_LOOKS = 32  # frames, evenly over the clip, by which the moving region is found
_LOOK_PX = 256  # shorter side of these: speckle that is much finer than this is noise
_LEAST_PX = 4  # a crop's side
NO_MOTION = "no region of interest: nothing large enough moves; the whole frame was read"
NO_BOX = "no region of interest: the clip has no box; the whole frame was read"
TOO_SMALL = "no region of interest: the box has less than 4 px of the frame; the whole frame was read"


def moving_box(clip: "Clip") -> Box | None:
    """Return the box around the part of a clip that moves (`overlay.moving_region`); None where nothing does.

    Raises:
        DataError: A frame cannot be decoded.
    """
    from .overlay import moving_region

    small = clip.shrunk_to(_LOOK_PX)
    looks = small[np.unique(np.linspace(0, len(small) - 1, _LOOKS).round().astype(int))]
    try:
        region = moving_region(looks)
    except DataError:  # it says nothing but that there is none
        return None
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    height, width = region.shape
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def region_of(size: tuple[int, int], box: Box | None, margin: float, why: str) -> Region:
    """Return what is read of frames: a box with a margin, whole px, within the frame; the whole frame without a box.

    Args:
        size: Height and width of the frame, px.
        box: The box.
        margin: Added on each side, as a share of the box's side.
        why: Said where there is no box.
    """
    height, width = size
    if box is None:
        return Region(0, 0, width, height, width, height, why)
    left, right = _with_margin(box[0] * width, box[2] * width, margin, width)
    top, bottom = _with_margin(box[1] * height, box[3] * height, margin, height)
    if min(right - left, bottom - top) < _LEAST_PX:
        return Region(0, 0, width, height, width, height, TOO_SMALL)
    return Region(left, top, right, bottom, width, height)


def _with_margin(start: float, stop: float, margin: float, side: int) -> tuple[int, int]:
    """Return whole px that hold start to stop with a margin; a rounding error does not add a px."""
    more = margin * (stop - start)
    return max(0, int(np.floor(start - more + 1e-6))), min(side, int(np.ceil(stop + more - 1e-6)))
