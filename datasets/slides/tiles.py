"""A grid of tiles in microns over the tissue of a slide, and an image of it."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from ...core.errors import DataError
from .reading import Slide
from .settings import Tiling
from .tissue import TissueMask, find_tissue

# A tile may have so many times the pixels that were scanned along its side, and no more: the rest is invented.
_MOST_ENLARGED = 2.0
_OUTLINE, _TILE = (0, 110, 60), (20, 60, 200)


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
        share = _shares(mask, xs, ys, side)
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


def draw_grid(slide: Slide, grid: TileGrid, mask: TissueMask | None = None, longest_px: int = 1600) -> np.ndarray:
    """Draw the overview with the outline of the tissue (green) and the tiles (blue).

    Args:
        slide: The slide.
        grid: Its tiles.
        mask: Its tissue, if it is to be outlined.
        longest_px: The longer side of the image.

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
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (side - 1)
    squares = np.rint(grid.coords[:, None] * scale + corners).astype(np.int32)
    tinted = image.copy()
    cv2.fillPoly(tinted, list(squares), _TILE) if side < 6 else cv2.polylines(tinted, list(squares), True, _TILE, 1)
    return cv2.addWeighted(tinted, 0.6, image, 0.4, 0)


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


def _shares(mask: TissueMask, xs: np.ndarray, ys: np.ndarray, side: int) -> np.ndarray:
    """Return (len(ys), len(xs)) share of tissue in each tile, px that are cut counted by the part inside."""
    sums = cv2.integral(mask.mask.astype(np.uint8))
    rows = _along(sums, (ys + side) / mask.downsample) - _along(sums, ys / mask.downsample)
    columns = _along(rows.T, (xs + side) / mask.downsample) - _along(rows.T, xs / mask.downsample)
    return (columns.T * (mask.downsample / side) ** 2).clip(0, 1)


def _along(sums: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return rows of an integral image at fractional places, linearly between."""
    places = places.clip(0, len(sums) - 1)
    low = np.minimum(places.astype(np.int64), len(sums) - 2)
    part = (places - low)[:, None]
    return sums[low] * (1 - part) + sums[low + 1] * part
