"""The range of grey levels that an image spans, which a few odd pixels do not set."""

import numpy as np

_FEW = 1e-4  # of the pixels: dead ones, or what a device has written into a corner
_LEAST = 4
_FAR = 0.5  # of the range of all others


def robust_range(values: np.ndarray) -> tuple[float, float]:
    """Return the least and the greatest value, but for a few pixels that lie far from all others.

    Args:
        values: Any shape. Without any value, the range is (0, 0).
    """
    if not values.size:
        return 0.0, 0.0
    low, high = float(values.min()), float(values.max())
    few = max(_LEAST, int(values.size * _FEW))
    if values.size <= 4 * few or not np.isfinite(high - low):
        return low, high
    inner = np.partition(values, (few, values.size - 1 - few), axis=None)[[few, values.size - 1 - few]]
    first, last = float(inner[0]), float(inner[1])
    reach = _FAR * (last - first)
    if reach == 0 or (low >= first - reach and high <= last + reach):
        return low, high
    kept = values[(values >= first - reach) & (values <= last + reach)]
    return float(kept.min()), float(kept.max())


def robust_most(values: np.ndarray) -> float:
    """Return the greatest value, but for a few pixels far above all others."""
    return robust_range(values)[1]
