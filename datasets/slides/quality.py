"""Tiles that are spoilt: blurred, folded, under ink or an air bubble; measured by plain, well-known means.

Four columns per tile. None is a diagnosis of the slide: pale fat has little to be sharp about, keratin and blood are as
dark as a fold. What they are on the slides at hand is seen in the images of `quality/` before a limit is set.

- `sharpness`: variance of the Laplacian of the grey tile (Pech-Pacheco et al., ICPR 2000; LAPV of Pertuz et al.,
  Pattern Recognition 2013), squared grey levels at the tile's own pixels. Blur of any cause makes it small, and what
  the scanner had out of focus too.
- `fold`: share of the tile where saturation minus value (both 0..1, of the overview, median over 40 microns) exceeds
  that of the slide's tissue (its median) by 0.4. Layers over each other are darker and more saturated than any of them
  (Palokangas et al., EMBC 2007; Bautista and Yagi, J Biomed Opt 2010; relative to the slide as in Kothari et al.,
  IEEE JBHI 2013).
- `pen`: share that has the colour of ink, as `tissue` finds it (green, blue, black by hue, saturation and value; the
  way of HistoQC, Janowczyk et al., JCO CCI 2019). Red ink has the colour of eosin and is not found.
- `bubble`: share within the rim of a round air bubble: circles by the Hough transform (Duda and Hart, CACM 1972;
  OpenCV's HOUGH_GRADIENT_ALT) of 60 to 1,500 microns radius whose rim is darker than both of its sides nearly all
  around. A bubble that is not round, or reaches over the edge of the slide, is not found.
"""

import cv2
import numpy as np

from ...core.errors import DataError
from .reading import Slide
from .settings import Quality
from .tiles import QUALITY, TileGrid, shares
from .tissue import TissueMask, ink_mask

# Why a tile is left out, by the column that says so.
REASONS = {"sharpness": "blurred", "fold": "folded", "pen": "pen", "bubble": "bubble"}
OVERVIEW_MPP = 8.0
_FOLD_STEP, _MEDIAN_PX, _TISSUE_SATURATION = 0.4, 5, 0.1
_BUBBLE_UM = (60.0, 1500.0)
# Canny's higher threshold and how round a circle must be, of OpenCV; how much darker a rim is, of 0..1, on which share
# of its length; radial px of an overview that the rim may be off by, and that its sides lie away.
_CANNY, _ROUNDNESS, _DARKER, _AROUND = 250, 0.7, 0.25, 0.75
_OFF_PX, _SIDE_PX = 2, 4
_ANGLES = 90


def measure_quality(slide: Slide, grid: TileGrid, mask: TissueMask) -> dict[str, np.ndarray]:
    """Return (N,) float32 of each of `QUALITY` for the tiles of a slide.

    Args:
        slide: The slide; every tile is read once.
        grid: Its tiles.
        mask: Its tissue.

    Raises:
        DataError: A tile cannot be read.
    """
    longest = max(slide.width_px, slide.height_px)
    overview = slide.overview(max(1, round(longest * slide.mpp / OVERVIEW_MPP)))
    downsample = longest / max(overview.shape[:2])
    um_per_px = downsample * slide.mpp
    found = {
        "fold": folds(overview, _on(mask, overview)),
        "pen": ink_mask(overview, um_per_px),
        "bubble": bubbles(overview, um_per_px),
    }
    columns = {name: shares(each, downsample, grid.coords, grid.tile_level0_px) for name, each in found.items()}
    columns["sharpness"] = np.array(
        [sharpness(slide.tile(x, y, grid.tile_um, grid.tile_px)) for x, y in grid.coords.tolist()]
    )
    return {name: columns[name].astype(np.float32) for name in QUALITY}


def spoilt(quality: dict[str, np.ndarray], limits: Quality) -> dict[str, np.ndarray]:
    """Return by reason a (N,) bool mask of the tiles that are left out; a tile has the first reason that it gives."""
    bounds = {
        "sharpness": limits.min_sharpness, "fold": limits.max_fold, "pen": limits.max_pen, "bubble": limits.max_bubble
    }  # fmt: skip
    taken = np.zeros(len(quality["sharpness"]), bool)
    found: dict[str, np.ndarray] = {}
    # Ink and bubbles first, as a tile below them is blurred too.
    for name in reversed(QUALITY):
        if (bound := bounds[name]) is not None:
            beyond = quality[name] < bound if name == "sharpness" else quality[name] > bound
            found[REASONS[name]] = beyond & ~taken
            taken |= beyond
    return found


def refuse_all_spoilt(slide: Slide, found: dict[str, np.ndarray]) -> None:
    """Raise DataError if no tile is left."""
    count = {reason: int(mask.sum()) for reason, mask in found.items()}
    if found and sum(count.values()) == len(next(iter(found.values()))):
        words = ", ".join(f"{number} {reason}" for reason, number in count.items() if number)
        raise DataError(
            f"{slide.path}: all of its tiles are left out ({words}). Look at the slide; loosen the limits of quality "
            "(quality.min_sharpness, max_fold, max_pen, max_bubble), or take it out of the list."
        )


def sharpness(tile: np.ndarray) -> float:
    """Return the variance of the Laplacian of a (S, S, 3) uint8 tile in grey, squared grey levels."""
    return float(cv2.Laplacian(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def folds(overview: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Return (h, w) bool: tissue that is much darker and more saturated than the slide's tissue is.

    Args:
        overview: (h, w, 3) uint8 RGB at about 8 microns per px.
        tissue: (h, w) bool.
    """
    hsv = cv2.cvtColor(cv2.medianBlur(overview, _MEDIAN_PX).astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    step = hsv[..., 1] - hsv[..., 2]
    tissue = tissue & (hsv[..., 1] > _TISSUE_SATURATION)
    if not tissue.any():
        return tissue
    return tissue & (step > np.median(step[tissue]) + _FOLD_STEP)


def bubbles(overview: np.ndarray, um_per_px: float) -> np.ndarray:
    """Return (h, w) bool: what lies within the dark rim of a round bubble.

    Args:
        overview: (h, w, 3) uint8 RGB.
        um_per_px: Its scale.
    """
    inside = np.zeros(overview.shape[:2], np.uint8)
    value = cv2.GaussianBlur(overview.max(axis=2), (3, 3), 0)
    least, most = (max(4, round(radius / um_per_px)) for radius in _BUBBLE_UM)
    circles = cv2.HoughCircles(
        value, cv2.HOUGH_GRADIENT_ALT, 1.5, 2 * least, param1=_CANNY, param2=_ROUNDNESS, minRadius=least, maxRadius=most
    )
    for x, y, radius in [] if circles is None else circles[0]:
        rim = _rim(value, float(x), float(y), float(radius))
        if rim is not None:
            cv2.circle(inside, (round(float(x)), round(float(y))), round(rim), 1, -1)
    return inside.astype(bool)


def _rim(value: np.ndarray, x: float, y: float, radius: float) -> float | None:
    """Return the radius to the outside of the rim if there is a dark one around a circle; None if there is none."""
    reach = np.arange(-_SIDE_PX - _OFF_PX, _SIDE_PX + _OFF_PX + 1)
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    radii = radius + reach[:, None]
    column, row = x + radii * np.cos(angles), y + radii * np.sin(angles)
    height, width = value.shape
    if column.min() < 0 or row.min() < 0 or column.max() > width - 1 or row.max() > height - 1:
        return None
    around = cv2.remap(value, np.float32(column), np.float32(row), cv2.INTER_LINEAR).astype(np.float32) / 255
    middle = slice(_SIDE_PX, len(reach) - _SIDE_PX)
    sides = np.minimum(around[:_SIDE_PX].max(axis=0), around[-_SIDE_PX:].max(axis=0))
    darker = around[middle].min(axis=0) < sides - _DARKER
    return radius + _OFF_PX if darker.mean() >= _AROUND else None


def _on(mask: TissueMask, overview: np.ndarray) -> np.ndarray:
    height, width = overview.shape[:2]
    return cv2.resize(mask.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
