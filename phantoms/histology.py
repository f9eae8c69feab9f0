"""Invented slides that look like haematoxylin and eosin, with tumour regions that are true by construction.

Nothing here is a patient, and nothing learned here is a claim about one. The tumour has larger, more irregular nuclei
with coarser chromatin, in nests instead of glands; its colour is that of healthy tissue, in which follicles are as
dark, and differs less than two laboratories do.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from ..core.errors import UserError
from .histology_anatomy import Anatomy, Shapes, draw_anatomy
from .histology_artefacts import Artefacts
from .histology_fields import CELL_UM, TEXTURE_PX, fibres, grain, scanner_noise
from .histology_nuclei import DENSITY, press, stamps
from .histology_stain import Stain, colours

BLOCK_PX = 512
FINEST_MPP, COARSEST_MPP = 0.1, 2.0  # finer, a block is wider than the textures; coarser, no nucleus is left
INKS = ((0.35, 0.75, 0.55), (0.25, 0.40, 0.85), (0.30, 0.30, 0.32))  # what green, blue and black pens let through
LEAST_UM = 400.0  # along the shorter side: less has no room for a tumour


class Histology:
    """One slide, drawn block by block: its memory does not grow with its area.

    Attributes:
        width_px, height_px: Of level 0.
        mpp: Microns per pixel.
        tumour, spared: Lists of (K, 2) float64 outlines in level-0 pixels: tumour, and healthy islands within it.
        artefacts: What was planted on the tissue, and where (`Artefacts.outlines`).
    """

    def __init__(
        self,
        width_px: int,
        height_px: int,
        *,
        seed: int,
        mpp: float = 0.5,
        tumours: int = 0,
        centre: int = 0,
        pen: bool = False,
        artefacts: Sequence[str] = (),
        mimics: bool = False,
    ):
        """Draw the anatomy; pixels come with `rows`.

        Args:
            width_px: Of level 0.
            height_px: Of level 0.
            seed: Everything random follows from it.
            mpp: Microns per pixel.
            tumours: Number of tumour regions.
            centre: The laboratory, 0 or 1, whose stain it has.
            pen: There is a pen mark beside the tissue.
            artefacts: What lies on the tissue, of `histology_artefacts.ARTEFACTS`.
            mimics: There are benign nests, as dense and as dark as the tumour's.

        Raises:
            UserError: The slide is too small, or its scale that of no slide; no such artefact.
        """
        if not FINEST_MPP <= mpp <= COARSEST_MPP or min(width_px, height_px) * mpp < LEAST_UM:
            raise UserError(
                f"{width_px} x {height_px} px at {mpp} µm: a phantom slide is {LEAST_UM:g} µm wide and high at "
                f"least, with {FINEST_MPP} to {COARSEST_MPP} µm per pixel."
            )
        rng = np.random.default_rng(seed)
        self.width_px, self.height_px, self.mpp = width_px, height_px, mpp
        self._anatomy = draw_anatomy(width_px * mpp, height_px * mpp, mpp, tumours, rng, mimics)
        self.tumour = [outline / mpp for outline in self._anatomy.tumour]
        self.spared = [outline / mpp for outline in self._anatomy.spared]
        self._tables = Stain.draw(centre, rng).tables()
        self._pen = _pen_stroke(self._anatomy, rng) / mpp if pen else None
        self._ink = INKS[rng.integers(len(INKS))]
        self.artefacts = Artefacts(artefacts, self._anatomy, width_px, height_px, mpp, seed)

    def strips(self) -> Iterator[np.ndarray]:
        """Yield the slide from top to bottom: (BLOCK_PX, width_px, 3) uint8 each, the last one perhaps lower."""
        for top in range(0, self.height_px, BLOCK_PX):
            yield self.rows(top, min(top + BLOCK_PX, self.height_px))

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Return (bottom - top, width_px, 3) uint8, rows of level 0."""
        steps = range(0, self.width_px, BLOCK_PX)
        return np.hstack([self.region(x, top, min(BLOCK_PX, self.width_px - x), bottom - top) for x in steps])

    def region(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Return (height, width, 3) uint8 of at most BLOCK_PX either way."""
        margin = self.artefacts.margin_px
        image = self._tissue(left - margin, top - margin, width + 2 * margin, height + 2 * margin)
        image = self.artefacts.drawn(image, left - margin, top - margin, self._tables[0, :, 0])
        image = image[margin : margin + height, margin : margin + width]
        if self._pen is not None:
            image = self._marked(image, left, top)
        y, x = top % TEXTURE_PX, left % TEXTURE_PX
        noise = scanner_noise()[y : y + height, x : x + width]
        return np.clip(image.astype(np.int16) + noise, 0, 255).astype(np.uint8)

    def _tissue(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Return (height, width, 3) uint8 as it came from the microtome."""
        block = _Block(self._anatomy, self.mpp, left, top, width, height)
        if block.is_empty():
            return np.broadcast_to(self._tables[0, :, 0], (height, width, 3))
        return colours(*block.stains(), self._tables)

    def _marked(self, image: np.ndarray, left: int, top: int) -> np.ndarray:
        covered = np.zeros(image.shape[:2], np.uint8)
        points = np.rint((self._pen - (left, top)) * 16).astype(np.int32)
        cv2.polylines(covered, [points], False, 255, round(70 / self.mpp), cv2.LINE_AA, 4)
        if not covered.any():
            return image
        share = (covered / np.float32(255))[..., None]
        return np.rint(image * (1 - share + share * np.array(self._ink, np.float32))).astype(np.uint8)


class _Block:
    """One part of the slide with a margin for nuclei that reach into it."""

    def __init__(self, anatomy: Anatomy, mpp: float, left: int, top: int, width: int, height: int):
        self.anatomy, self.mpp = anatomy, mpp
        self.margin = int(np.ceil(22 / mpp))
        self.left, self.top = left - self.margin, top - self.margin
        self.width, self.height = width + 2 * self.margin, height + 2 * self.margin

    def is_empty(self) -> bool:
        """Return whether there is glass only."""
        step = CELL_UM / self.mpp
        rows = slice(max(0, int(self.top / step) - 1), int((self.top + self.height) / step) + 2)
        columns = slice(max(0, int(self.left / step) - 1), int((self.left + self.width) / step) + 2)
        return bool((self.anatomy.tissue[rows, columns] < -0.08).all())

    def stains(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (height, width) uint8 each, of haematoxylin and eosin in 1 / DENSITY, without the margin."""
        anatomy = self.anatomy
        fine, fibre = self._texture(grain(self.mpp)), self._bent(fibres(self.mpp))
        tissue = _edge(self._map(anatomy.tissue) + 0.005 * fibre, 0.02)
        nest = _edge(self._map(anatomy.nests) + 0.08 * fibre, 0.25)
        gland, open_ = self._drawn(anatomy.glands), self._drawn(anatomy.openings)
        cells = np.maximum(nest, gland)
        follicle = _edge(self._map(anatomy.follicle) + 0.1, 0.15)
        gaps = 1 - 0.8 * _edge(-fibre - 1.45, 0.7)  # clefts between the fibres
        stroma = (0.42 + 0.10 * fibre + 0.025 * fine) * self._map(anatomy.eosin) * gaps * (1 - 0.45 * follicle)
        eosin = stroma + cells * (0.44 + 0.06 * fine - stroma)
        haematoxylin = 0.05 + cells * (0.13 + 0.04 * fine) + 0.12 * follicle
        solid = tissue * (1 - 0.97 * open_)
        nuclear = np.zeros((self.height, self.width), np.uint8)
        press(nuclear, anatomy.nuclei, stamps(self.mpp), self.left, self.top)
        nuclear = nuclear * (tissue / DENSITY)
        eosin = solid * eosin * (1 - 0.35 * np.minimum(nuclear, 1))
        haematoxylin = np.maximum(solid * haematoxylin, nuclear)
        inner = slice(self.margin, -self.margin)
        return _stored(haematoxylin[inner, inner]), _stored(eosin[inner, inner])

    def _map(self, values: np.ndarray) -> np.ndarray:
        """Sample a map of the slide at the pixels of this block, between its cells."""
        step = self.mpp / CELL_UM
        offset = [(start + 0.5) * step - 0.5 for start in (self.left, self.top)]
        matrix = np.array([[step, 0, offset[0]], [0, step, offset[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = self.width, self.height
        return cv2.warpAffine(np.float32(values), matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def _texture(self, texture: np.ndarray) -> np.ndarray:
        y, x = self.top % TEXTURE_PX, self.left % TEXTURE_PX
        return (texture[y : y + self.height, x : x + self.width] - np.float32(128)) / np.float32(48)

    def _bent(self, texture: np.ndarray) -> np.ndarray:
        """Return the fibres, bent as the anatomy bends them."""
        maps = [self._map(swing) / np.float32(self.mpp) for swing in self.anatomy.swing]
        maps[0] += np.arange(self.width, dtype=np.float32) + self.left % TEXTURE_PX
        maps[1] += np.arange(self.height, dtype=np.float32)[:, None] + self.top % TEXTURE_PX
        for values in maps:  # whole periods, so that as little as possible is read beyond the edge
            values -= TEXTURE_PX * np.floor(values.min() / TEXTURE_PX)
        bent = cv2.remap(texture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        return (bent - np.float32(128)) / np.float32(48)

    def _drawn(self, shapes: Shapes) -> np.ndarray:
        """Return (H, W) float32: the share of each pixel that is covered."""
        mask = np.zeros((self.height, self.width), np.uint8)
        corner, size = np.array([self.left, self.top]), np.array([self.width, self.height])
        for outline in shapes.near(corner * self.mpp, (corner + size) * self.mpp):
            points = np.rint((outline / self.mpp - corner) * 16)  # in sixteenths of a pixel
            cv2.fillPoly(mask, [points.astype(np.int32)], 255, cv2.LINE_AA, 4)
        return mask / np.float32(255)


def _edge(values: np.ndarray, width: float) -> np.ndarray:
    """Return 0 below 0, 1 above `width`, smooth between."""
    ramp = np.clip(values / np.float32(width), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _stored(amount: np.ndarray) -> np.ndarray:
    return np.clip(amount * DENSITY + 0.5, 0, 255).astype(np.uint8)


def _pen_stroke(anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Return (K, 2) µm: a curve beside the tissue, along its longer side."""
    height, width = (side * CELL_UM for side in anatomy.tissue.shape)
    along = np.linspace(0.15, 0.15 + rng.uniform(0.25, 0.6), 60)
    across = (0.06 if rng.random() < 0.5 else 0.94) + 0.015 * np.sin(along * 9 + rng.uniform(0, 6))
    points = np.stack([along, across], axis=1) if width >= height else np.stack([across, along], axis=1)
    return points * (width, height)
