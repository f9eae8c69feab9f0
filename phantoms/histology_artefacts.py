"""What goes wrong between the microtome and the scanner: folds, blur, air bubbles and pen, with the truth of where.

Each is drawn as light sees it: a fold is three layers of tissue, whose transmittances multiply; what lies out of focus
is blurred; the rim of an air bubble refracts the light away, and what is below it is pale and out of focus; ink is a
filter on the coverslip.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..core.errors import UserError

if TYPE_CHECKING:
    from .histology_anatomy import Anatomy

ARTEFACTS = ("fold", "blur", "bubble", "pen")
INKS = ((0.35, 0.75, 0.55), (0.25, 0.40, 0.85), (0.12, 0.12, 0.14))  # what green, blue and black pens let through
FOLD_UM, PEN_UM, RIM_UM = 140.0, 240.0, 24.0
DEFOCUS_UM = 3.0  # standard deviation of what is out of focus
MARGIN_PX = 128  # of tissue around a block that blurring and folding need
_RIM_LIGHT, _BUBBLE_LIGHT = 0.3, 0.3  # what passes the rim; how much of the glass is mixed into what is below
_APART = 0.36  # of the slide's shorter side, between two artefacts
_SHIFT_UM = 60.0  # between two layers of a fold


class Artefacts:
    """The artefacts of one slide.

    Attributes:
        outlines: By kind, (K, 2) float64 in level-0 px each: where they are.

    Args:
        kinds: Of `ARTEFACTS`, one of each.
        anatomy: Whose tissue they lie on.
        width_px: Of level 0.
        height_px: Of level 0.
        mpp: Microns per px.
        seed: Everything random follows from it.

    Raises:
        UserError: No such kind.
    """

    def __init__(
        self, kinds: Sequence[str], anatomy: "Anatomy", width_px: int, height_px: int, mpp: float, seed: int
    ):  # fmt: skip
        for kind in kinds:
            if kind not in ARTEFACTS:
                raise UserError(f"artefact {kind!r}: one of {', '.join(ARTEFACTS)}.")
        rng = np.random.default_rng((seed, 1))
        self.mpp, self.margin_px = mpp, MARGIN_PX if kinds else 0
        self.ink = np.array(INKS[rng.integers(len(INKS))], np.float32)
        shortest = min(width_px, height_px)
        self.outlines: dict[str, list[np.ndarray]] = {}
        for kind, middle in zip(kinds, _apart_on_tissue(anatomy, len(kinds), (width_px, height_px)), strict=True):
            if kind in ("fold", "pen"):
                width = min((FOLD_UM if kind == "fold" else PEN_UM) / mpp, shortest / 6)
                self.outlines[kind] = [_band(middle, shortest * 0.14, width, rng)]
            else:
                radius = shortest * (0.12 if kind == "blur" else 0.09)
                self.outlines[kind] = [_round(middle, radius, 1.25 if kind == "blur" else 1.0)]

    def drawn(self, image: np.ndarray, left: int, top: int, glass: np.ndarray) -> np.ndarray:
        """Return (H, W, 3) uint8 with the artefacts on it.

        Args:
            image: (H, W, 3) uint8, a part of the slide.
            left: Level-0 px of its left edge.
            top: Of its upper edge.
            glass: (3,) colour of the glass.
        """
        seen = image
        for kind in ARTEFACTS:
            for outline in self.outlines.get(kind, ()):
                here = outline - (left, top)
                share = _covered(here, seen.shape[:2])
                if share.any():
                    seen = getattr(self, f"_{kind}")(seen.astype(np.float32), share[..., None], glass, here)
        return seen if seen is image else np.rint(seen).clip(0, 255).astype(np.uint8)

    def _fold(self, image, share, glass, outline) -> np.ndarray:
        # The layers below are the tissue beside, on either side: the same image, shifted.
        shift = min(round(_SHIFT_UM / self.mpp), MARGIN_PX)
        below = np.roll(image, shift, axis=0) / glass * np.roll(image, -shift, axis=0) / glass
        return image * (1 - share + share * below)

    def _blur(self, image, share, glass, outline) -> np.ndarray:
        soft = cv2.GaussianBlur(share[..., 0], (0, 0), min(8 / self.mpp, MARGIN_PX / 4))[..., None]
        return image + soft * (self._defocused(image) - image)

    def _bubble(self, image, share, glass, outline) -> np.ndarray:
        pale = self._defocused(image) * (1 - _BUBBLE_LIGHT) + glass * _BUBBLE_LIGHT
        image = image + share * (pale - image)
        rim = np.zeros(image.shape[:2], np.uint8)
        points = np.rint(outline * 16).astype(np.int32)
        cv2.polylines(rim, [points], True, 255, max(1, round(RIM_UM / self.mpp)), cv2.LINE_AA, 4)
        return image * (1 - (1 - _RIM_LIGHT) * (rim / np.float32(255))[..., None])

    def _pen(self, image, share, glass, outline) -> np.ndarray:
        return image * (1 - share + share * self.ink)

    def _defocused(self, image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(image, (0, 0), DEFOCUS_UM / self.mpp)


def _covered(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return (h, w) float32 share of each px that lies within an outline."""
    covered = np.zeros(shape, np.uint8)
    points = np.rint(outline * 16).astype(np.int32)
    cv2.fillPoly(covered, [points], 255, cv2.LINE_AA, 4)
    return covered / np.float32(255)


def _apart_on_tissue(anatomy: "Anatomy", count: int, size_px: tuple[int, int]) -> list[np.ndarray]:
    """Return so many (2,) places in level-0 px, deep within the tissue and apart from each other."""
    cells = np.asarray(anatomy.tissue)
    depth = cv2.distanceTransform((cells > 0).astype(np.uint8), cv2.DIST_L2, 5)
    found = []
    for _ in range(count):
        row, column = np.unravel_index(np.argmax(depth), depth.shape)
        found.append((np.array([column, row]) + 0.5) / cells.shape[::-1] * size_px)
        cv2.circle(depth, (int(column), int(row)), round(_APART * min(cells.shape)), 0, -1)
    return found


def _band(middle: np.ndarray, half: float, width: float, rng: np.random.Generator) -> np.ndarray:
    """Return (K, 2) outline of a curved band of this half length and width."""
    along = np.linspace(-1, 1, 40)
    angle = rng.uniform(0, np.pi)
    line = np.stack([along * half, 0.12 * half * np.sin(3 * along + rng.uniform(0, 6))], axis=1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    line = line @ turn + middle
    return np.concatenate([line + across, (line - across)[::-1]])


def _round(middle: np.ndarray, radius: float, stretch: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return middle + radius * np.stack([stretch * np.cos(angle), np.sin(angle)], axis=1)
