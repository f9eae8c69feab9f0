"""What lies around the image of an ultrasound clip: names, logos, scales and grey wedges do not move.

The scanned sector does, and so it is found. What is written *inside* the sector stays.
"""

import cv2
import numpy as np

from ...core.errors import DataError

_LOOKS = 32  # frames that are compared
_LEAST_CHANGE = 3.0  # grey levels: more than compression makes of what stands still
_LEAST_SHARE = 0.02  # of the image's area
_PIECE = 0.1  # of the largest piece


def moving_region(frames: np.ndarray) -> np.ndarray:
    """Find the part of a clip that changes over time, as one convex region.

    Args:
        frames: (n, H, W) or (n, H, W, 3) uint8; up to 32 of them, spread evenly, are looked at.

    Returns:
        (H, W) bool.

    Raises:
        DataError: Nothing that is large enough moves (also a single frame), so that the image cannot be told
            from what is written around it. Nothing is kept then, for what is not known may be a name.
    """
    height, width = frames.shape[1:3]
    reach = max(3, round(min(height, width) / 50)) | 1
    moving = _change(frames) > _LEAST_CHANGE
    # A clock's digits and a cursor are thin; speckle that moves leaves no holes of this reach.
    dense = cv2.blur(moving.astype(np.float32), (2 * reach + 1, 2 * reach + 1)) > 0.5
    joined = cv2.morphologyEx(dense.astype(np.uint8), cv2.MORPH_OPEN, _disc(reach))
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(joined)
    areas = statistics[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # what stands still
    if areas.max() < _LEAST_SHARE * height * width:
        raise DataError(
            f"no moving region in {len(frames)} frames: the image cannot be told from what is written around it. "
            "Mark the region by hand, or leave the clip out."
        )
    # Black fluid may part the sector into a near and a far piece.
    pieces = np.isin(labels, np.flatnonzero(areas >= _PIECE * areas.max()))
    outline = np.argwhere(pieces)[:, ::-1].astype(np.int32)
    region = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), cv2.convexHull(outline), 1)
    return region.astype(bool)


def black_out(frames: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Copy frames (n, H, W) or (n, H, W, 3), 0 outside of a region (H, W)."""
    return np.where(region[..., None] if frames.ndim == 4 else region, frames, np.zeros((), frames.dtype))


def _change(frames: np.ndarray) -> np.ndarray:
    """Return (H, W) standard deviation over time of the grey levels."""
    looks = frames[np.unique(np.linspace(0, len(frames) - 1, min(_LOOKS, len(frames))).astype(int))]
    looks = looks.astype(np.float32)
    return (looks.mean(axis=3) if looks.ndim == 4 else looks).std(axis=0)


def _disc(reach: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
