"""Where a training's pixels come from: files by way of a cache, shards of them, or tiles straight from slides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..manifest.tables import Manifest
from ..settings import Data
from ..slides.batches import TileBatches
from ..slides.settings import Stain
from ..slides.stream import SlideSet, TileSource
from ..video.region import Region
from .cache import Files, PixelCache, open_pixels
from .loaders import TrainBatches, readable_rows, reading_workers
from .own import OwnPixels
from .readers import Reader
from .regions import for_manifest, refuse_cropped
from .shards.batches import ShardBatches
from .shards.pixels import ShardPixels, Shards

Place = Path | Shards | OwnPixels


@dataclass(frozen=True, eq=False)
class Source:
    """The cases of a training.

    Attributes:
        pixels: By row.
        rows: The rows to train on, all of them readable.
        ids: Of all rows.
        bad: Rows of the manifest that cannot be read, and why.
        manifest: The files: images, clips or slides.
        slides: Rows of the manifest whose tiles these are, slide after slide; None where a row is a file itself.
        reports: What a text encoder says of the reports of the rows (`pretrain.report_features`); None without reports.
    """

    pixels: PixelCache | Files | ShardPixels | OwnPixels | TileSource
    rows: np.ndarray
    ids: Sequence[str]
    bad: dict[int, str]
    manifest: Manifest
    slides: np.ndarray | None = None
    reports: Any = None

    @property
    def windowed(self) -> bool:
        """Whether rows must be taken in the order of their shards."""
        return isinstance(self.pixels, ShardPixels) and self.pixels.window > 0

    def colour_note(self) -> str:
        """Say how many files are in colour and read as grey; empty where none is, or where no file is read."""
        return "" if isinstance(self.pixels, OwnPixels | TileSource) else self.pixels.colour_note()

    def regions(self) -> list[Region | None]:
        """Return of each row which part of a clip is read, None where it is read whole unasked or cannot be read."""
        return self.pixels.regions() if isinstance(self.pixels, PixelCache | Files) else [None] * len(self.ids)

    def rate_warning(self, data: Data, frames: int) -> str:
        """Warn if samples of so many frames span unequal times; empty where they do not, or span whole clips."""
        if frames == 1 or data.clip.fps is not None or data.clip.sampling not in ("strided", "dense"):
            return ""
        if isinstance(self.pixels, OwnPixels):
            return ""
        from ..video.rates import rate_warning

        files = self.manifest.files()
        return rate_warning([files[row] for row in self.rows])

    def case_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of the manifest that rows of the pixels belong to."""
        if self.slides is None or not isinstance(self.pixels, TileSource):
            return rows
        return self.slides[np.searchsorted(self.pixels.ends, rows, side="right")]

    def left_out(self, unread: Mapping[int, str]) -> dict[int, str]:
        """Return the rows of the manifest that were left out before and while training, with reasons.

        Args:
            unread: Row of the pixels to why it could not be read.
        """
        rows = self.case_of(np.array(list(unread), dtype=np.int64)) if unread else ()
        return dict(zip(map(int, rows), unread.values())) | self.bad

    def readable(self, rows: Sequence[int] | np.ndarray, max_bad: float) -> tuple[np.ndarray, dict[int, str]]:
        """Return those of some rows that can be read, and the others with their reasons (`readable_rows`)."""
        return readable_rows(self.pixels, rows, max_bad, str(self.manifest.path))

    def batches(self, share: tuple[int, int, int, int, int, bool], tiles_per_slide: int | None = None) -> TrainBatches:
        """Return the shuffled batches of this process.

        Args:
            share: `batch, seed, rank, world, parts, drop_last` of `TrainBatches`.
            tiles_per_slide: Of slides (`TileBatches`).
        """
        if isinstance(self.pixels, ShardPixels) and self.windowed:
            return ShardBatches(self.pixels, self.rows, *share)
        if isinstance(self.pixels, TileSource):
            return TileBatches(self.pixels.counts, tiles_per_slide, *share)
        return TrainBatches(len(self.rows), *share)


def open_files(
    manifest: Manifest, place: Place, reader: Reader, data: Data, *, workers: int, max_bad: float,
    rows: Sequence[int] | np.ndarray | None = None,
) -> Source:  # fmt: skip
    """Open images or clips: of one's own, from shards, or from the cache if the recipe wants one, filled first.

    Args:
        manifest: The files.
        place: Folder of caches, shards, or items of one's own.
        reader: Gives the pixels of a file.
        data: The recipe's settings of data.
        workers: `run.workers`.
        max_bad: Share of the rows that may be unreadable.
        rows: Rows of the manifest to train on; None for all.

    Raises:
        DataError: More of the rows cannot be read.
    """
    pixels: PixelCache | Files | ShardPixels | OwnPixels
    if isinstance(place, OwnPixels):
        refuse_cropped(reader, "items of your own come as they are: crop them yourself, and set it none")
        pixels = place
    elif isinstance(place, Shards):
        pixels = place.pixels(manifest, reader)
    else:
        reader = for_manifest(reader, manifest)
        pixels = open_pixels(manifest.files(), data, place, reader, reading_workers(workers, decoding=True))
    rows = range(len(manifest)) if rows is None else rows
    good, bad = readable_rows(pixels, rows, max_bad, str(manifest.path))
    return Source(pixels, good, manifest.table["id"].tolist(), bad, manifest)


def try_slides(manifest: Manifest, tiles: Path, stain: Stain, workers: int) -> SlideSet:
    """Open every slide and its tile file once.

    Args:
        manifest: The slides.
        tiles: Folder of `<id>.h5` tile coordinates.
        stain: Normalisation of the tiles.
        workers: `run.workers`.
    """
    from ..slides.stain import stain_normaliser

    fit = None if stain.method == "none" else partial(stain_normaliser, recipe=stain)
    workers = reading_workers(workers, decoding=True)
    return SlideSet(manifest.table["id"], manifest.files(), manifest.microns_per_px(), tiles, fit, workers)


def open_tiles(manifest: Manifest, slides: SlideSet, max_bad: float) -> Source:
    """Open the tiles of all slides that can be opened.

    Raises:
        DataError: A larger share than `max_bad` cannot.
    """
    usable, bad = readable_rows(slides, range(len(slides)), max_bad, str(manifest.path))
    pixels = slides.source(usable)
    return Source(pixels, np.arange(len(pixels)), pixels.ids, bad, manifest, usable)
