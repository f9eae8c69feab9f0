"""Images in another number of pixels: averaged over areas when they shrink, between neighbours when they are stretched.

OpenCV does it quickest. Where it is not installed (`clinvit-runtime`, 153 MB less), NumPy gives the same numbers to the
bit: OpenCV's order of additions, in float32.
"""

from types import ModuleType

import numpy as np

from ...core.errors import DataError
from ...core.extras import optional

cv2: ModuleType | None = optional("cv2")

_SLIVER = 1e-3  # of a pixel: what OpenCV leaves out at the rim of an area


def area_averaged(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the means over areas of (H, W) or (H, W, 3) float32, in fewer pixels along both sides (INTER_AREA)."""
    if cv2 is not None:
        return cv2.resize(levels, (width, height), interpolation=cv2.INTER_AREA)
    levels = np.ascontiguousarray(levels, np.float32)
    down, right = levels.shape[0] / height, levels.shape[1] / width
    if down.is_integer() and right.is_integer():
        return _block_means(levels, int(down), int(right))
    return _along_first(_along_first(levels.swapaxes(0, 1), width).swapaxes(0, 1), height)


def stretched(levels: np.ndarray, height: int, width: int, what: object) -> np.ndarray:
    """Return the levels in other proportions, linearly between neighbours.

    Args:
        levels: (H, W) or (H, W, 3) float32.
        height: Of the result, pixels.
        width: The same.
        what: The file, for messages.

    Raises:
        DataError: OpenCV is not installed.
    """
    if cv2 is None:
        raise without_opencv(what, "its pixels are not square")
    return cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR)


def without_opencv(what: object, why: str) -> DataError:
    """Return the error of a file that only OpenCV reads."""
    return DataError(f"{what}: {why}, for which OpenCV is needed: pip install opencv-python-headless.")


def _block_means(levels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return the means of blocks of whole pixels, four pixels at a time."""
    height, width = levels.shape[0] // down, levels.shape[1] // right
    blocks = levels.reshape(height, down, width, right, *levels.shape[2:])
    pixels = [blocks[:, row, :, column] for row in range(down) for column in range(right)]
    if down == right == 2 and levels.ndim == 2:
        return ((pixels[0] + pixels[1]) + (pixels[2] + pixels[3])) * np.float32(0.25)
    total, last = np.zeros_like(pixels[0]), len(pixels) - len(pixels) % 4
    for first in range(0, last, 4):
        total += ((pixels[first] + pixels[first + 1]) + pixels[first + 2]) + pixels[first + 3]
    for pixel in pixels[last:]:
        total += pixel
    return total * np.float32(1 / len(pixels))


def _along_first(levels: np.ndarray, size: int) -> np.ndarray:
    """Return the means along the first axis, in `size` pixels."""
    index, weight, count = _parts(levels.shape[0], size)
    levels, shape = np.ascontiguousarray(levels), (-1, *[1] * (levels.ndim - 1))
    total = levels[index[:, 0]] * weight[:, 0].reshape(shape)
    for part in range(1, index.shape[1]):
        has = np.flatnonzero(count > part)
        total[has] += levels[index[has, part]] * weight[has, part].reshape(shape)
    return total


def _parts(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which pixels each of `size` areas covers, (size, K), their float32 shares, and how many they are."""
    scale, parts = length / size, []
    for place in range(size):
        low = place * scale
        cell = min(scale, length - low)
        high = low + scale
        last = min(int(np.floor(high)), length - 1)
        first = min(int(np.ceil(low)), last)
        part = [(first - 1, (first - low) / cell)] if first - low > _SLIVER else []
        part += [(pixel, 1 / cell) for pixel in range(first, last)]
        part += [(last, min(high - last, 1.0, cell) / cell)] if high - last > _SLIVER else []
        parts.append(part)
    count = np.array([len(part) for part in parts])
    index, weight = np.zeros((size, count.max()), np.int64), np.zeros((size, count.max()), np.float32)
    for place, part in enumerate(parts):
        index[place, : len(part)], weight[place, : len(part)] = zip(*part)
    return index, weight, count
