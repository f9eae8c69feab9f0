"""A grid of tiles in microns over the tissue of a slide, and an image of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from PIL import Image

from ...core.errors import DataError
from .reading import Slide
from .settings import Tiling
from .tissue import TissueMask, find_tissue

# A tile may have so many times the pixels that were scanned along its side, and no more: the rest is invented.
_MOST_ENLARGED = 2.0
_STEPS = 16  # of the colours that quality is drawn in
QUALITY = ("sharpness", "fold", "pen", "bubble")  # columns of a tile, where it was measured (`quality`)
_OUTLINE, _TILE, _LEFT_OUT = (0, 110, 60), (20, 60, 200), (200, 20, 20)


@dataclass(frozen=True, eq=False)
class TileGrid:
    """The tiles of a slide.

    Attributes:
        coords: (N, 2) int64: x and y of the upper left corners, level-0 px, row by row.
        tissue: (N,) float32 share of tissue in each; NaN where a file does not say.
        tile_px: Side of a tile's image.
        tile_um: Its side in microns.
        overlap_um: What neighbours share, microns; NaN where a file does not say.
        tile_level0_px: Its side in level-0 px.
        mpp: Microns per level-0 px.
        width_px: Width of the slide, level-0 px.
        height_px: Its height.
        quality: (N,) float32 by column (of `QUALITY`) where it was measured.
    """

    coords: np.ndarray
    tissue: np.ndarray
    tile_px: int
    tile_um: float
    overlap_um: float
    tile_level0_px: int
    mpp: float
    width_px: int
    height_px: int
    quality: dict[str, np.ndarray] = field(default_factory=dict)

    def only(self, chosen: np.ndarray) -> "TileGrid":
        """Return some of the tiles: a (N,) bool mask."""
        quality = {name: values[chosen] for name, values in self.quality.items()}
        return replace(self, coords=self.coords[chosen], tissue=self.tissue[chosen], quality=quality)


def tile_grid(slide: Slide, tiling: Tiling, mask: TissueMask | None = None) -> TileGrid:
    """Lay the grid: it begins at the upper left corner; tiles that stick out of the slide are left out.

    Args:
        slide: The slide.
        tiling: How.
        mask: Its tissue where it is known already; else it is looked for.

    Returns:
        The tiles with more than `min_tissue` of tissue.

    Raises:
        DataError: A tile is larger than the slide or much finer than it was scanned, there is no tissue, or no
            tile has enough of it.
    """
    side = round(tiling.tile_um / slide.mpp)
    _refuse_size(slide, tiling, side)
    mask = mask or find_tissue(slide, tiling.tissue)
    if not mask.mask.any():
        raise DataError(
            f"{slide.path}: no tissue: {mask}. If there is some, try tissue.method "
            f"{'grey' if mask.method == 'saturation' else 'saturation'}, a smaller tissue.min_island_um2, or "
            "tissue.remove_ink false; else take the slide out of the list."
        )
    stride = (tiling.tile_um - tiling.overlap_um) / slide.mpp
    xs, ys = _starts(slide.width_px, side, stride), _starts(slide.height_px, side, stride)
    if mask.method == "grey":
        share = _dark_shares(slide, tiling, mask.otsu, xs, ys)
    else:
        share = _shares(mask.mask, mask.downsample, xs, ys, side)
    rows, columns = np.nonzero(share > tiling.min_tissue)
    if not len(rows):
        raise DataError(
            f"{slide.path}: no tile has more than {100 * tiling.min_tissue:g} % tissue (most: "
            f"{100 * share.max():.2g} %; {mask}). Ask for less (min_tissue) or smaller tiles (tile_um)."
        )
    return TileGrid(
        coords=np.stack([xs[columns], ys[rows]], axis=1),
        tissue=share[rows, columns].astype(np.float32),
        tile_px=tiling.tile_px,
        tile_um=tiling.tile_um,
        overlap_um=tiling.overlap_um,
        tile_level0_px=side,
        mpp=slide.mpp,
        width_px=slide.width_px,
        height_px=slide.height_px,
    )


def draw_grid(
    slide: Slide, grid: TileGrid, mask: TissueMask | None = None, longest_px: int = 1600,
    left_out: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:  # fmt: skip
    """Draw the overview with the outline of the tissue (green) and the tiles (blue), with those left out in red.

    Args:
        slide: The slide.
        grid: Its tiles.
        mask: Its tissue, if it is to be outlined.
        longest_px: The longer side of the image.
        left_out: By reason, (M, 2) corners of tiles that are no part of the grid; crossed out and counted below.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        DataError: The slide cannot be read.
    """
    image = slide.overview(longest_px)
    scale = max(image.shape[:2]) / max(slide.width_px, slide.height_px)
    if mask is not None:
        height, width = image.shape[:2]
        tissue = cv2.resize(mask.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(tissue, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, _OUTLINE, 2)
    side = max(1.0, grid.tile_level0_px * scale)
    tinted = image.copy()
    _draw_squares(tinted, grid.coords * scale, side, _TILE)
    for coords in (left_out or {}).values():
        _draw_squares(tinted, coords * scale, side, _LEFT_OUT, crossed=True)
    drawn = cv2.addWeighted(tinted, 0.6, image, 0.4, 0)
    if not left_out:
        return drawn
    words = ", ".join(f"{len(coords)} {reason}" for reason, coords in left_out.items())
    return _with_caption(drawn, f"left out (red): {words}")


def draw_quality(slide: Slide, grid: TileGrid, longest_px: int = 900) -> np.ndarray:
    """Draw each column of quality over the overview, yellow (good) to red (bad), with its range.

    Args:
        slide: The slide.
        grid: Its tiles, measured.
        longest_px: The longer side of each of the images, of which two stand in a row.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        DataError: The slide cannot be read.
    """
    overview = slide.overview(longest_px)
    scale = max(overview.shape[:2]) / max(slide.width_px, slide.height_px)
    side = max(1.0, grid.tile_level0_px * scale)
    panels = []
    for name, values in grid.quality.items():
        tinted = overview.copy()
        bad = _badness(name, values)
        for part in range(_STEPS):
            chosen = np.minimum((bad * _STEPS).astype(int), _STEPS - 1) == part
            colour = (230, round(210 * (1 - part / (_STEPS - 1))), 30)
            _draw_squares(tinted, grid.coords[chosen] * scale, side, colour, filled=True)
        drawn = cv2.addWeighted(tinted, 0.45, overview, 0.55, 0)
        panels.append(_with_caption(drawn, f"{name}: {values.min():.3g} to {values.max():.3g}"))
    padded = [np.pad(panel, ((0, 8), (0, 8), (0, 0)), constant_values=255) for panel in panels]
    return np.vstack([np.hstack(padded[row : row + 2]) for row in range(0, len(padded), 2)])


def _badness(name: str, values: np.ndarray) -> np.ndarray:
    """Return (N,) in 0..1 for a colour: of sharpness 1 at 0 and 0 from the median on, of a share itself."""
    if name == "sharpness":
        return (1 - values / max(float(np.median(values)), 1e-9)).clip(0, 1)
    return values.clip(0, 1)


def _draw_squares(
    image: np.ndarray, corners: np.ndarray, side: float, colour: tuple[int, int, int], crossed: bool = False,
    filled: bool = False,
) -> None:  # fmt: skip
    """Draw squares by their upper left corners (N, 2), px of the image; small ones filled."""
    around = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (side - 1)
    squares = list(np.rint(corners[:, None] + around).astype(np.int32))
    if filled or side < 6:
        cv2.fillPoly(image, squares, colour)
        return
    cv2.polylines(image, squares, True, colour, 2 if crossed else 1)
    if crossed:
        for diagonal in ((0, 2), (1, 3)):
            cv2.polylines(image, [square[list(diagonal)] for square in squares], False, colour, 1, cv2.LINE_AA)


def _with_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Return the image with a line of text on a white strip below."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(0.6, image.shape[1] / 1800)
    wide = cv2.getTextSize(text, font, size, 1)[0][0]
    size = size * min(1.0, (image.shape[1] - 16) / wide)
    strip = np.full((round(16 + 26 * size), image.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (8, round(6 + 24 * size)), font, size, (20, 20, 20), 1, cv2.LINE_AA)
    return np.vstack([image, strip])


def _refuse_size(slide: Slide, tiling: Tiling, side: int) -> None:
    """Raise DataError unless tiles of `side` level-0 px fit the slide and its resolution."""
    if side > min(slide.width_px, slide.height_px):
        raise DataError(
            f"{slide.path}: a tile of {tiling.tile_um:g} microns ({side} px) is larger than the slide "
            f"({slide.width_px} x {slide.height_px} px of {slide.mpp:.4g} microns). Ask for smaller tiles "
            "(tile_um), or take the slide out of the list."
        )
    if tiling.tile_px > _MOST_ENLARGED * side:
        raise DataError(
            f"{slide.path}: scanned at {slide.mpp:.4g} microns per pixel; tiles of {tiling.tile_um:g} microns in "
            f"{tiling.tile_px} px would be enlarged more than {_MOST_ENLARGED:g} times. Ask for larger tiles "
            "(tile_um) or fewer px (tile_px)."
        )


def _dark_shares(slide: Slide, tiling: Tiling, threshold: float, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Return (rows, columns) share of each tile's own pixels that are darker than a threshold (Self-ViT-MIL)."""
    shares = np.empty((len(ys), len(xs)))
    for row, y in enumerate(ys.tolist()):
        for column, x in enumerate(xs.tolist()):
            tile = slide.tile(x, y, tiling.tile_um, tiling.tile_px)
            # Pillow's grey, as there: OpenCV's rounds otherwise.
            shares[row, column] = (np.asarray(Image.fromarray(tile).convert("L")) < threshold).mean()
    return shares


def _starts(length: int, side: int, stride: float) -> np.ndarray:
    """Return (n,) int64: where tiles begin along one axis, each rounded by itself so that no error adds up."""
    starts = np.floor(np.arange(int((length - side) / stride) + 2) * stride + 0.5).astype(np.int64)
    return np.unique(starts[starts + side <= length])


def shares(mask: np.ndarray, downsample: float, coords: np.ndarray, side: int) -> np.ndarray:
    """Return (N,) the share of each tile that a mask covers.

    Args:
        mask: (h, w) bool over the whole slide.
        downsample: Level-0 px per px of it.
        coords: (N, 2) upper left corners, level-0 px.
        side: Of a tile, level-0 px.
    """
    (xs, column), (ys, row) = (np.unique(coords[:, axis], return_inverse=True) for axis in (0, 1))
    return _shares(mask, downsample, xs, ys, side)[row, column]


def _shares(mask: np.ndarray, downsample: float, xs: np.ndarray, ys: np.ndarray, side: int) -> np.ndarray:
    """Return (len(ys), len(xs)) share of a mask in each tile, px that are cut counted by the part inside."""
    sums = cv2.integral(mask.astype(np.uint8))
    rows = _along(sums, (ys + side) / downsample) - _along(sums, ys / downsample)
    columns = _along(rows.T, (xs + side) / downsample) - _along(rows.T, xs / downsample)
    return (columns.T * (downsample / side) ** 2).clip(0, 1)


def _along(sums: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return rows of an integral image at fractional places, linearly between."""
    places = places.clip(0, len(sums) - 1)
    low = np.minimum(places.astype(np.int64), len(sums) - 2)
    part = (places - low)[:, None]
    return sums[low] * (1 - part) + sums[low + 1] * part
