"""Masks of findings: files of the size of an image, 0 where the finding is not and another value where it is."""

from pathlib import Path

import numpy as np

from ...core.errors import DataError
from .radiographs import read_radiograph
from .resampling import area_averaged

MOST_PX = 1024  # of a mask's shorter side that are kept; no model sees more of an image


def read_mask(path: str | Path) -> np.ndarray:
    """Return (H, W) bool: where the finding is; larger masks than `MOST_PX` are shrunk.

    Raises:
        DataError: No readable image, or one of more than two values: nothing says where the finding ends.
    """
    levels = read_radiograph(path)
    highest = levels.max()
    if ((levels > 0) & (levels < highest)).any():
        raise DataError(
            f"{path}: holds more than two values; a mask has two, 0 and another. Save it as a PNG (a JPEG blurs its "
            "edges), one file per finding."
        )
    return fitted(levels > 0, *_within(levels.shape))


def fitted(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a mask (H, W) bool at another size: a pixel is in it by at least half of its area."""
    if mask.shape == (height, width):
        return mask
    if height > mask.shape[0] or width > mask.shape[1]:
        rows = np.minimum(np.arange(height) * mask.shape[0] // height, mask.shape[0] - 1)
        columns = np.minimum(np.arange(width) * mask.shape[1] // width, mask.shape[1] - 1)
        return mask[rows[:, None], columns]
    return area_averaged(mask.astype(np.float32), height, width) >= 0.5


def _within(shape: tuple[int, ...]) -> tuple[int, int]:
    share = min(1.0, MOST_PX / min(shape))
    return round(shape[0] * share), round(shape[1] * share)
