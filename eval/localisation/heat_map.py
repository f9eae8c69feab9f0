"""Tile scores as an image: put on a grid, smoothed if wanted, coloured.

The grid lies on the tiles where they lie on a lattice (then each cell is a tile, or an exact part of one where they
overlap); tiles that start anywhere, as CLAM's and TRIDENT's do for each piece of tissue, are shared out to the cells
by area.
"""

from dataclasses import dataclass, replace

import numpy as np

from ...core.errors import DataError
from .tiles import checked_tiles

COLOURS = "inferno"  # perceptually uniform, and its bright end stands out from pink and violet tissue
_MOST_PARTS = 8  # of a tile's side, on a lattice of overlapping tiles
_LOOSE_PARTS = 4  # where there is no lattice


@dataclass(frozen=True)
class ScoreMap:
    """Scores on a grid.

    Attributes:
        values: (h, w) float32 in 0..1, the mean of the tiles that cover a cell; NaN where none does.
        x0, y0: Level-0 px of the grid's top left corner.
        cell_px: Side of a cell in level-0 px.
    """

    values: np.ndarray
    x0: float
    y0: float
    cell_px: float

    def sampled(self, width: int, height: int, downsample: float) -> np.ndarray:
        """Return (height, width) the map as seen by the pixels of the slide at a downsample; NaN outside."""
        rows, columns = (
            np.floor(((np.arange(size) + 0.5) * downsample - origin) / self.cell_px).astype(int)
            for size, origin in ((height, self.y0), (width, self.x0))
        )
        out = np.full((height, width), np.nan, dtype=np.float32)
        inside = [np.flatnonzero((at >= 0) & (at < size)) for at, size in zip((rows, columns), self.values.shape)]
        out[np.ix_(*inside)] = self.values[np.ix_(rows[inside[0]], columns[inside[1]])]
        return out


def score_map(coords: np.ndarray, scores: np.ndarray, tile_level0_px: int) -> ScoreMap:
    """Put tile scores on a grid; where tiles overlap, their mean by area.

    Args:
        coords: (N, 2) top left corners x, y in level-0 px.
        scores: (N,) in 0..1.
        tile_level0_px: Side of a tile.

    Raises:
        DataError: There is no tile, numbers of coordinates and scores differ, or a score is not in 0..1.
    """
    coords, scores = checked_tiles(coords, scores)
    if not len(coords):
        raise DataError("no tile, so no map. Look at the slide's tissue mask.")
    origin = coords.min(axis=0)
    offsets = coords - origin
    parts = _parts(offsets, tile_level0_px)
    cell = tile_level0_px / parts
    width, height = (np.ceil((offsets.max(axis=0) + tile_level0_px) / cell - 1e-6)).astype(int)
    total, weight = (np.zeros((height + 1, width + 1)) for _ in range(2))  # one more, for shares that are 0
    first = np.floor(offsets / cell + 1e-9).astype(int)
    share = np.clip(1 - (offsets / cell - first), 0, 1)  # of the first cell; the last gets the rest
    for dy in range(parts + 1):
        for dx in range(parts + 1):
            own = _share(share[:, 0], dx, parts) * _share(share[:, 1], dy, parts)
            at = (first[:, 1] + dy, first[:, 0] + dx)
            np.add.at(total, at, own * scores)
            np.add.at(weight, at, own)
    total, weight = total[:height, :width], weight[:height, :width]
    values = np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 1e-6)
    return ScoreMap(np.clip(values, 0, 1).astype(np.float32), float(origin[0]), float(origin[1]), cell)


def smoothed(found: ScoreMap, sigma_px: float) -> ScoreMap:
    """Return the map blurred by a Gaussian of `sigma_px` level-0 px, among the cells that have a score only."""
    from scipy import ndimage

    known = ~np.isnan(found.values)
    sigma = sigma_px / found.cell_px
    blurred = ndimage.gaussian_filter(np.nan_to_num(found.values).astype(np.float64), sigma, mode="constant")
    weight = ndimage.gaussian_filter(known.astype(np.float64), sigma, mode="constant")
    values = np.divide(blurred, weight, out=np.full(blurred.shape, np.nan), where=known)
    return replace(found, values=values.astype(np.float32))


def colour_table() -> np.ndarray:
    """Return (256, 3) uint8 colours of scores 0 to 1."""
    import matplotlib

    return (matplotlib.colormaps[COLOURS](np.arange(256), bytes=True))[:, :3]


def coloured(values: np.ndarray) -> np.ndarray:
    """Return (..., 3) uint8 of scores (...); NaN is white."""
    places = np.rint(np.nan_to_num(values) * 255).astype(np.uint8)
    return np.where(np.isnan(values)[..., None], np.uint8(255), colour_table()[places])


def _parts(offsets: np.ndarray, tile: int) -> int:
    """Return how many cells lie along a tile's side: as few as put every tile on whole cells."""
    for parts in range(1, _MOST_PARTS + 1):
        cells = offsets * parts / tile
        if np.abs(cells - np.rint(cells)).max() < 1e-6:
            return parts
    return _LOOSE_PARTS


def _share(first: np.ndarray, step: int, parts: int) -> np.ndarray:
    """Return what share of the cell `step` cells on from a tile's first one the tile covers, along one side."""
    if step == 0:
        return first
    return 1 - first if step == parts else np.ones(len(first))
