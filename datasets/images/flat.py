"""Whether an image shows anything: black ones and such of one grey level are read well, and no model can judge them."""

import numpy as np

FLAT = "shows one grey level throughout (a window or rescale beside all values, or an empty image)"
_SHARE = 0.999  # of the pixels


def is_flat(pixels: np.ndarray) -> bool:
    """Return whether nearly all pixels have one value.

    Args:
        pixels: Any shape, uint8, or floats in 0..1.
    """
    levels = pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255).astype(np.uint8)
    if not levels.size:
        return True
    return bool(np.bincount(levels.ravel(), minlength=256).max() >= _SHARE * levels.size)
