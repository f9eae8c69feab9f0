"""Tiles of many slides as a source of training, read straight from the slides: no tile is ever written to disk.

Nothing here needs PyTorch: processes that read tiles import it.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import DataError
from ..loading.isolation import isolated
from ..loading.limits import SLIDE_SECONDS
from .places import tiles_file

if TYPE_CHECKING:
    from .reading import Slide
    from .stain import Normaliser
    from .tiles import TileGrid

Fit = Callable[["Slide", "TileGrid"], "Normaliser"]


class TileSource:
    """uint8 tiles by row, a source for `Cases`. A row is a tile; slide after slide, in the order of the grids.

    Each process keeps a few slides open, the least used is closed first; nothing open is sent to workers.

    Attributes:
        apart: See `Files`.

    Args:
        slides: S pairs of file and microns per pixel (None: as the file says).
        grids: Their S tile grids.
        stain: The normalisations of the S slides, None for a slide as it is.
        names: S ids of the slides; default: their file names without suffix.
        keep_open: Slides that a process holds open.
    """

    apart = "pixels"

    def __init__(
        self, slides: Sequence[tuple[Path, float | None]], grids: Sequence["TileGrid"],
        stain: Sequence["Normaliser | None"] | None = None, *, names: Sequence[str] | None = None, keep_open: int = 16,
    ):  # fmt: skip
        self.slides = [(Path(path), mpp) for path, mpp in slides]
        self.names = list(names or [path.stem for path, _ in self.slides])
        self.stains = list(stain or [None] * len(self.slides))
        self.keep_open = keep_open
        self.sizes = [(grid.tile_um, grid.tile_px) for grid in grids]
        self.ends = np.cumsum([len(grid.coords) for grid in grids], dtype=np.int64)
        # Half the bytes of the grids': millions of tiles are sent to every worker.
        self.coords = np.concatenate([grid.coords for grid in grids]).astype(np.int32)
        self._open: OrderedDict[int, Slide] = OrderedDict()

    def __len__(self) -> int:
        return len(self.coords)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return (tile_px, tile_px, 3) uint8.

        Raises:
            DataError: The slide cannot be opened or this part of it cannot be read.
        """
        number = self.slide_of(row)
        x, y = self.coords[row].tolist()
        try:
            tile = self._slide(number).tile(x, y, *self.sizes[number])
        except DataError:
            # A handle that has failed once may fail for ever: the next tile gets a new one.
            self._forget(number)
            raise
        stain = self.stains[number]
        return tile if stain is None else stain(tile)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": OrderedDict()}

    @property
    def counts(self) -> np.ndarray:
        """Return (S,) int64: tiles of each slide."""
        return np.diff(self.ends, prepend=0)

    @property
    def ids(self) -> "TileIds":
        """Return N ids `slide@x,y`, made when they are asked for."""
        return TileIds(self)

    def slide_of(self, row: int) -> int:
        """Return which slide a row belongs to."""
        return int(np.searchsorted(self.ends, row, side="right"))

    def file(self, row: int) -> Path:
        """Return the slide that a row is read from."""
        return self.slides[self.slide_of(row)][0]

    def reasons(self) -> list[str]:
        """Return N empty texts: slides that cannot be opened were sorted out before (`SlideSet`)."""
        return [""] * len(self)

    def close(self) -> None:
        """Close what is open in this process."""
        while self._open:
            self._open.popitem()[1].close()

    def _slide(self, number: int) -> "Slide":
        from .reading import open_slide

        if number in self._open:
            self._open.move_to_end(number)
        else:
            if len(self._open) >= self.keep_open:
                self._open.popitem(last=False)[1].close()
            self._open[number] = open_slide(*self.slides[number])
        return self._open[number]

    def _forget(self, number: int) -> None:
        slide = self._open.pop(number, None)
        if slide is not None:
            slide.close()


class TileIds(Sequence):
    """The ids of a source's tiles.

    Args:
        source: The source.
    """

    def __init__(self, source: TileSource):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: int) -> str:
        x, y = self.source.coords[row].tolist()
        return f"{self.source.names[self.source.slide_of(row)]}@{x},{y}"


class SlideSet:
    """Slides with their tile files, each tried once, so that a bad one is known before training.

    Args:
        ids: N ids.
        files: Their N slides.
        mpps: N microns per pixel as the manifest has them; None: as the file says.
        folder: Holds `<id>.h5` for each, written by `write_tiles`.
        fit: Makes the stain normalisation of a slide; importable.
        workers: Reading processes.
    """

    def __init__(
        self, ids: Sequence[str], files: Sequence[Path], mpps: Sequence[float | None], folder: Path,
        fit: Fit | None = None, workers: int = 1,
    ):  # fmt: skip
        self.ids, self.files, self.mpps = list(ids), list(files), list(mpps)
        self.grids: list[TileGrid | None] = []
        self.stains: list[Normaliser | None] = []
        self._reasons: list[str] = []
        slides = [
            _Slide(file, mpp, tiles_file(folder, name))
            for name, file, mpp in zip(self.ids, self.files, self.mpps, strict=True)
        ]
        for found in isolated(partial(_tried, fit=fit), slides, workers, time=SLIDE_SECONDS):
            grid, stain, reason = (None, None, str(found)) if isinstance(found, DataError) else (*found, "")
            self.grids.append(grid)
            self.stains.append(stain)
            self._reasons.append(reason)

    def __len__(self) -> int:
        return len(self.ids)

    def reasons(self) -> list[str]:
        """Return N texts: why a slide cannot be used, empty where it can."""
        return self._reasons

    def source(self, rows: Sequence[int] | np.ndarray) -> TileSource:
        """Return the tiles of the slides `rows`, all of them usable."""
        return TileSource(
            [(self.files[row], self.mpps[row]) for row in rows], [self.grids[row] for row in rows],
            [self.stains[row] for row in rows], names=[self.ids[row] for row in rows],
        )  # fmt: skip

    def tiles(self, per_slide: int | None) -> int:
        """Return how many tiles an epoch has: all of the usable slides, or so many of each."""
        return sum(len(grid.coords) if per_slide is None else per_slide for grid in self.grids if grid is not None)

    def fingerprint(self) -> str:
        """Return SHA-256 over the tiles of all usable slides: what a run draws from."""
        digest = hashlib.sha256()
        for name, grid in zip(self.ids, self.grids):
            if grid is not None:
                digest.update(f"{name} {grid.tile_um} {grid.tile_px} ".encode() + grid.coords.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Slide:
    """A slide, its microns per pixel if they are not its own word, and the file of its tiles; as text, the slide."""

    file: Path
    mpp: float | None
    tiles: Path

    def __str__(self) -> str:
        return str(self.file)


def _tried(slide: _Slide, fit: Fit | None) -> tuple["TileGrid", "Normaliser | None"]:
    """Return the tiles of a slide that opens, and its stain normalisation.

    Raises:
        DataError: No tile file, no tiles, tiles of another slide, or the slide does not open.
    """
    from .hdf5 import read_tiles
    from .reading import open_slide

    file, tiles = slide.file, slide.tiles
    if not tiles.is_file():
        raise DataError(f"{tiles}: no tiles of {file}. `clinvit tile` makes them; status.csv beside may say why.")
    opened = open_slide(file, slide.mpp)
    try:
        grid = read_tiles(tiles, opened.mpp, (opened.width_px, opened.height_px))
        if not len(grid.coords):
            raise DataError(f"{tiles}: there is no tile in it: no tissue was found on {file}.")
        if (opened.width_px, opened.height_px) != (grid.width_px, grid.height_px):
            raise DataError(
                f"{tiles}: made from a slide of {grid.width_px} x {grid.height_px} px, but {file} has "
                f"{opened.width_px} x {opened.height_px}. Make the tiles again."
            )
        return grid, None if fit is None else fit(opened, grid)
    finally:
        opened.close()
