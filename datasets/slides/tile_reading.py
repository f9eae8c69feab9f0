"""All tiles of a slide, read by processes of their own: a decoder that dies over a slide costs this slide.

What the processes import is here, and no torch with it: they are started anew for every slide.
"""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...core.errors import DataError
from ..loading.isolation import isolated, read_alone
from ..loading.limits import SLIDE_SECONDS
from .hdf5 import read_tiles, states_slide
from .reading import Slide, open_slide
from .scale import TOLERANCE
from .settings import Stain
from .stain import Normaliser, stain_normaliser
from .tiles import TileGrid

# Tiles that a process reads at once: neighbours share what the slide is stored in, which each process decodes alone.
RUN = 64
# Runs per process that are read ahead.
AHEAD = 3


class Tiles:
    """The tiles of a slide, finer ones than the grid's for several scales; may be sent to other processes.

    Args:
        path: The slide.
        mpp: Microns per level-0 px by the manifest; None: as the file says.
        grid: Where the tiles lie.
        scale: Pixels of a tile's side over the grid's.
        stain: Stain normalisation.

    Raises:
        DataError: The slide cannot be read or took the process down, is coarser than `scale` asks for, or has too
            little stain.
    """

    def __init__(self, path: Path, mpp: float | None, grid: TileGrid, scale: int = 1, stain: Stain | None = None):
        self.path, self.mpp, self.grid, self.scale = path, mpp, grid, scale
        prepare = partial(_normaliser, mpp=mpp, grid=grid, scale=scale, stain=stain or Stain())
        self.normalise: Normaliser = read_alone(prepare, path, SLIDE_SECONDS)

    def __len__(self) -> int:
        return len(self.grid.coords)

    def batches(self, size: int, workers: int = 1) -> Iterator[np.ndarray]:
        """Yield all of them in batches (B, S, S, 3) uint8, in order, read ahead.

        Args:
            size: B of all but the last batch.
            workers: Reading processes.

        Raises:
            DataError: A tile cannot be read, or took its process down, or a run of them longer than
                CLINVIT_SLIDE_SECONDS.
        """
        runs = [
            _Run(self.path, start, min(start + RUN, first + size, len(self)))
            for first in range(0, len(self), size)
            for start in range(first, min(first + size, len(self)), RUN)
        ]
        parts: list[np.ndarray] = []
        with closing(isolated(_Reader(self), runs, workers, ahead=AHEAD, time=SLIDE_SECONDS)) as results:
            for run, tiles in zip(runs, results, strict=True):
                if isinstance(tiles, DataError):
                    raise tiles
                parts.append(tiles)
                if run.stop % size == 0 or run.stop == len(self):
                    yield np.concatenate(parts)
                    parts.clear()


def slide_tiles(tiles: Path, file: Path, mpp: float | None, tile_level0_px: int | None = None) -> TileGrid:
    """Return the tiles of a slide; what their file does not say is asked of the slide. Both by a process of its own.

    Args:
        tiles: The file of tiles.
        file: The slide.
        mpp: Microns per level-0 px by the manifest; None: as the slide's file says.
        tile_level0_px: Side of a tile, for files that do not say.

    Raises:
        DataError: The tiles or the slide cannot be read, or what is needed is said nowhere.
    """
    return read_alone(partial(_slide_tiles, file=file, mpp=mpp, tile_level0_px=tile_level0_px), tiles, SLIDE_SECONDS)


def _slide_tiles(tiles: Path, *, file: Path, mpp: float | None, tile_level0_px: int | None) -> TileGrid:
    if states_slide(tiles):
        return read_tiles(tiles, tile_level0_px=tile_level0_px)
    with open_slide(file, mpp) as slide:
        return read_tiles(tiles, slide.mpp, (slide.width_px, slide.height_px), tile_level0_px)


class _Run(NamedTuple):
    """Tiles from `start` to before `stop`; an error names the slide."""

    path: Path
    start: int
    stop: int

    def __str__(self) -> str:
        return str(self.path)


class _Reader:
    """Reads runs of tiles; each process opens the slide once."""

    def __init__(self, tiles: Tiles):
        self.tiles = tiles
        self.slide: Slide | None = None

    def __call__(self, run: _Run) -> np.ndarray:
        tiles, grid = self.tiles, self.tiles.grid
        if self.slide is None:
            self.slide = open_slide(tiles.path, tiles.mpp)
        side_px = grid.tile_px * tiles.scale
        out = np.empty((run.stop - run.start, side_px, side_px, 3), np.uint8)
        for place, (x, y) in zip(out, grid.coords[run.start : run.stop].tolist(), strict=True):
            place[:] = tiles.normalise(self.slide.tile(x, y, grid.tile_um, side_px))
        return out


def _normaliser(path: Path, *, mpp: float | None, grid: TileGrid, scale: int, stain: Stain) -> Normaliser:
    with open_slide(path, mpp) as slide:
        finest = grid.tile_um / (grid.tile_px * scale)
        if scale > 1 and finest < slide.mpp * (1 - TOLERANCE):
            raise DataError(
                f"{path}: scale {scale} reads tiles at {finest:.3g} microns per px, the slide's finest have "
                f"{slide.mpp:.3g}: leave this scale out, or tile with a larger --tile_um."
            )
        return stain_normaliser(slide, grid, stain)
