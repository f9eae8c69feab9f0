"""Where on a slide there is tissue: Otsu's threshold on an overview, with its traps closed.

Otsu always splits in two. On an empty slide it splits noise, on a slide full of tissue it splits the tissue;
so the threshold is kept within limits, and both are stated. Ink and black borders take no part in it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .reading import Slide
from .settings import Tissue

# Saturation of 0..255. Glass and the noise of its compression stay below the first; pale tissue lies above
# the second, so that Otsu may not put it higher.
_SATURATION_LIMITS = (15, 40)
# Least difference of the mean grey levels of what Otsu calls tissue and glass; an empty slide has less.
_LEAST_GREY_STEP = 15
_GREY_SHRINK = 256
_MEDIAN_PX = 5
# Ink in OpenCV's HSV (hue 0..179): darker than any tissue; or green; or blue with next to no red.
_BLACK_VALUE = 50
_GREEN_HUES, _GREEN_SATURATION = (35, 95), 60
_BLUE_HUES, _BLUE_SATURATION, _BLUE_RED = (95, 128), 130, 90
_LEAST_INK_UM2 = 2_000.0
_INK_FRINGE_PX = 3
# Masson's blue, methyl green, alcian blue, light green and Giemsa have the colours of ink. A stain lies within tissue
# and is much of it; a pen is drawn on glass, or across. Of what is coloured: from the first share on it is said; a
# stain has the second at least, and so much tissue around it; where nearly all has such a colour, it is the tissue.
_SAID, _STAIN, _STAIN_SURROUNDED, _EVERYTHING = 0.1, 0.2, 0.6, 0.9
_SURROUNDINGS_PX = 2


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Tissue on the overview of a slide.

    Attributes:
        mask: (h, w) bool.
        downsample: Level-0 px per px of the mask.
        method: `saturation` (tissue above the threshold) or `grey` (below).
        threshold: What was applied, of 0..255.
        otsu: What Otsu's method gave before the limits.
        ink: Share of what is coloured that has the colour of ink.
        ink_kept: Whether that was taken for a stain of the tissue.
    """

    mask: np.ndarray
    downsample: float
    method: str
    threshold: float
    otsu: float
    ink: float = 0.0
    ink_kept: bool = False

    @property
    def warning(self) -> str:
        """Return what should be looked at; empty where the slide is as slides are."""
        if self.ink < _SAID:
            return ""
        share = f"{100 * self.ink:.0f} % of what is coloured has the colour of ink (green or blue)"
        if self.ink_kept:
            return f"{share}; it was taken for a special stain and kept. If it is ink, leave the slide out."
        return f"{share} and was left out. If it is a stain, say tissue.remove_ink false."

    @property
    def fraction(self) -> float:
        """Return share of the slide that is tissue."""
        return float(self.mask.mean())

    def __str__(self) -> str:
        side = "above" if self.method == "saturation" else "below"
        return (
            f"{100 * self.fraction:.2g} % tissue ({self.method} {side} {self.threshold:g} of 255; Otsu's method gave "
            f"{self.otsu:g})"
        )


def find_tissue(slide: Slide, recipe: Tissue) -> TissueMask:
    """Find the tissue of a slide.

    Args:
        slide: The slide.
        recipe: How.

    Returns:
        The mask; empty where there is no tissue.

    Raises:
        DataError: The slide cannot be read.
    """
    if recipe.method == "grey":
        return _by_grey(slide)
    longest = max(slide.width_px, slide.height_px)
    rgb = slide.overview(max(1, round(longest * slide.mpp / recipe.overview_mpp)))
    downsample = longest / max(rgb.shape[:2])
    px_um2 = (downsample * slide.mpp) ** 2
    saturation = cv2.medianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 1], _MEDIAN_PX)
    black, ink = _inks(rgb, px_um2)
    share, is_stain = ink_share(rgb, saturation, ink)
    ink = black | (ink & (not is_stain)) if recipe.remove_ink else np.zeros(rgb.shape[:2], bool)
    otsu = _otsu(saturation[~ink])
    threshold = float(np.clip(otsu, *_SATURATION_LIMITS))
    mask = (saturation > threshold) & ~ink
    mask = _without_pieces(mask, recipe.min_island_um2 / px_um2)
    mask = ~_without_pieces(~mask, recipe.max_hole_um2 / px_um2) & ~ink
    if not recipe.remove_ink:
        return TissueMask(mask, downsample, recipe.method, threshold, otsu)
    return TissueMask(mask, downsample, recipe.method, threshold, otsu, share, is_stain)


def ink_warning(rgb: np.ndarray, um_per_px: float) -> str:
    """Return what `find_tissue` would say of ink, from any overview; '' for nothing.

    Args:
        rgb: (h, w, 3) uint8, the whole slide.
        um_per_px: Its scale.
    """
    _, ink = _inks(rgb, um_per_px**2)
    found = ink_share(rgb, cv2.medianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 1], _MEDIAN_PX), ink)
    return TissueMask(ink, 1.0, "saturation", 0.0, 0.0, *found).warning


def ink_mask(rgb: np.ndarray, um_per_px: float) -> np.ndarray:
    """Return (h, w) bool: what has the colour of ink and is not taken for a stain of the tissue.

    Args:
        rgb: (h, w, 3) uint8 overview.
        um_per_px: Its scale.
    """
    black, ink = _inks(rgb, um_per_px**2)
    saturation = cv2.medianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 1], _MEDIAN_PX)
    return black if ink_share(rgb, saturation, ink)[1] else black | ink


def ink_share(rgb: np.ndarray, saturation: np.ndarray, ink: np.ndarray) -> tuple[float, bool]:
    """Return the share of what is coloured that has the colour of ink, and whether that is a stain of the tissue.

    Args:
        rgb: (h, w, 3) uint8 overview.
        saturation: (h, w) of 0..255, noise removed.
        ink: (h, w) bool.
    """
    coloured = (saturation > _SATURATION_LIMITS[1]) & (rgb.max(axis=2) >= _BLACK_VALUE)
    if not (ink & coloured).any():
        return 0.0, False
    share = float((ink & coloured).sum() / coloured.sum())
    around = _grown(ink, _SURROUNDINGS_PX) & ~ink
    surrounded = float((around & (saturation > _SATURATION_LIMITS[0])).sum() / max(1, around.sum()))
    return share, share > _EVERYTHING or (share > _STAIN and surrounded > _STAIN_SURROUNDED)


def _by_grey(slide: Slide) -> TissueMask:
    """Find tissue as Self-ViT-MIL, `extract_patches.py`: grey below Otsu's threshold on an overview of 1/256.

    The code there takes the threshold alone from the overview, as `tile_grid` does; the mask is for looking at.
    """
    longest = max(slide.width_px, slide.height_px)
    grey = cv2.cvtColor(slide.overview(max(1, round(longest / _GREY_SHRINK))), cv2.COLOR_RGB2GRAY)
    threshold = _otsu(grey) + 1  # OpenCV's is the last grey of the darker part
    mask = grey < threshold
    if mask.all() or not mask.any() or grey[~mask].mean() - grey[mask].mean() < _LEAST_GREY_STEP:
        mask = np.zeros_like(mask)
    return TissueMask(mask, longest / max(grey.shape), "grey", threshold, threshold - 1)


def _otsu(levels: np.ndarray) -> float:
    """Return Otsu's threshold of uint8 levels: the last level of the lower part; 0 where there is none."""
    if not levels.size:
        return 0.0
    return cv2.threshold(levels.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)[0]


def _inks(rgb: np.ndarray, px_um2: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (h, w) bool of black ink and borders, and of what has the colour of green or blue ink, with fringes."""
    hue, saturation, value = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))
    green = _within(hue, _GREEN_HUES) & (saturation > _GREEN_SATURATION)
    blue = _within(hue, _BLUE_HUES) & (saturation > _BLUE_SATURATION) & (rgb[..., 0] < _BLUE_RED)
    black = value < _BLACK_VALUE
    # Together, as a pen is black in its middle: pieces are judged whole.
    ink = _without_pieces(black | green | blue, _LEAST_INK_UM2 / px_um2)
    return _grown(ink & black, _INK_FRINGE_PX), _grown(ink & (green | blue) & ~black, _INK_FRINGE_PX)


def _grown(mask: np.ndarray, px: int) -> np.ndarray:
    fringe = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * px + 1,) * 2)
    return cv2.dilate(mask.astype(np.uint8), fringe).astype(bool)


def _within(hue: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    return (hue >= limits[0]) & (hue <= limits[1])


def _without_pieces(mask: np.ndarray, least_px: float) -> np.ndarray:
    """Return the mask without its connected pieces of fewer than `least_px` px."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= least_px
    keep[0] = False
    return keep[labels]
