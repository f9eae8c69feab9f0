"""Tiles of many slides as a source of training, read straight from the slides: no tile is ever written to disk."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import DataError, UserError
from ..loading import TrainBatches

if TYPE_CHECKING:
    from .reading import Slide
    from .stain import Normaliser
    from .tiles import TileGrid

Fit = Callable[["Slide", "TileGrid"], "Normaliser"]


class TileSource:
    """uint8 tiles by row, a source for `Cases`. A row is a tile; slide after slide, in the order of the grids.

    Each process keeps a few slides open, the least used is closed first; nothing open is sent to workers.

    Args:
        slides: S pairs of file and microns per pixel (None: as the file says).
        grids: Their S tile grids.
        stain: The normalisations of the S slides, None for a slide as it is.
        names: S ids of the slides; default: their file names without suffix.
        keep_open: Slides that a process holds open.
    """

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
        """(tile_px, tile_px, 3) uint8.

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
        """(S,) int64: tiles of each slide."""
        return np.diff(self.ends, prepend=0)

    @property
    def ids(self) -> "TileIds":
        """N ids `slide@x,y`, made when they are asked for."""
        return TileIds(self)

    def slide_of(self, row: int) -> int:
        """Which slide a row belongs to."""
        return int(np.searchsorted(self.ends, row, side="right"))

    def reasons(self) -> list[str]:
        """N empty texts: slides that cannot be opened were sorted out before (`SlideSet`)."""
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
        fit: Makes the stain normalisation of a slide.
    """

    def __init__(
        self, ids: Sequence[str], files: Sequence[Path], mpps: Sequence[float | None], folder: Path,
        fit: Fit | None = None,
    ):  # fmt: skip
        self.ids, self.files, self.mpps = list(ids), list(files), list(mpps)
        self.grids: list[TileGrid | None] = []
        self.stains: list[Normaliser | None] = []
        self._reasons: list[str] = []
        for name, file, mpp in zip(self.ids, self.files, self.mpps, strict=True):
            try:
                (grid, stain), reason = _tried(file, mpp, Path(folder) / f"{name}.h5", fit), ""
            except DataError as error:
                grid, stain, reason = None, None, str(error)
            self.grids.append(grid)
            self.stains.append(stain)
            self._reasons.append(reason)

    def __len__(self) -> int:
        return len(self.ids)

    def reasons(self) -> list[str]:
        """N texts: why a slide cannot be used, empty where it can."""
        return self._reasons

    def source(self, rows: Sequence[int]) -> TileSource:
        """The tiles of the slides `rows`, all of them usable."""
        return TileSource(
            [(self.files[row], self.mpps[row]) for row in rows], [self.grids[row] for row in rows],
            [self.stains[row] for row in rows], names=[self.ids[row] for row in rows],
        )  # fmt: skip

    def fingerprint(self) -> str:
        """SHA-256 over the tiles of all usable slides: what a run draws from."""
        digest = hashlib.sha256()
        for name, grid in zip(self.ids, self.grids):
            if grid is not None:
                digest.update(f"{name} {grid.tile_um} {grid.tile_px} ".encode() + grid.coords.astype("<i8").tobytes())
        return digest.hexdigest()


class TileBatches(TrainBatches):
    """Batches that are mixed over all slides, with as many tiles of each slide in every epoch.

    Tiles of one slide in a row, as a sampler that does not shuffle gives them, would make each batch one stain and one
    patient, and DINO's centre with it.

    Args:
        counts: (S,) tiles of each slide, which lie one slide after the other.
        tiles_per_slide: Drawn of each for an epoch, without replacement, with it where a slide has fewer; None for all.
        batch, seed, rank, world, parts: As of `TrainBatches`.
    """

    def __init__(
        self, counts: np.ndarray, tiles_per_slide: int | None, batch: int, seed: int, rank: int = 0, world: int = 1,
        parts: int = 1,
    ):  # fmt: skip
        if tiles_per_slide is not None and tiles_per_slide < 1:
            raise UserError(f"tiles_per_slide {tiles_per_slide}: at least 1, or null for all.")
        self.counts, self.tiles_per_slide = np.asarray(counts), tiles_per_slide
        cases = int(self.counts.sum()) if tiles_per_slide is None else tiles_per_slide * len(self.counts)
        super().__init__(cases, batch, seed, rank, world, parts)

    def order(self, draw: np.random.Generator) -> np.ndarray:
        """(cases,) rows of an epoch, in the order of their use."""
        share = self.tiles_per_slide
        if share is None:
            return super().order(draw)
        starts = np.cumsum(self.counts) - self.counts
        drawn = [start + draw.choice(count, share, replace=count < share) for start, count in zip(starts, self.counts)]
        return draw.permutation(np.concatenate(drawn))


def _tried(file: Path, mpp: float | None, tiles: Path, fit: Fit | None) -> tuple["TileGrid", "Normaliser | None"]:
    """The tiles of a slide that opens, and its stain normalisation.

    Raises:
        DataError: No tile file, no tiles, tiles of another slide, or the slide does not open.
    """
    from .hdf5 import read_tiles
    from .reading import open_slide

    if not tiles.is_file():
        raise DataError(f"{tiles}: no tiles of {file}. `clinvit tile` makes them; status.csv beside may say why.")
    slide = open_slide(file, mpp)
    try:
        grid = read_tiles(tiles, slide.mpp)
        if not len(grid.coords):
            raise DataError(f"{tiles}: there is no tile in it: no tissue was found on {file}.")
        if (slide.width_px, slide.height_px) != (grid.width_px, grid.height_px):
            raise DataError(
                f"{tiles}: made from a slide of {grid.width_px} x {grid.height_px} px, but {file} has "
                f"{slide.width_px} x {slide.height_px}. Make the tiles again."
            )
        return grid, None if fit is None else fit(slide, grid)
    finally:
        slide.close()
