"""Where the pixels of pre-training come from: images and clips by way of the cache, or tiles straight from slides."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..datasets.loading.cache import Files, PixelCache, open_pixels
from ..datasets.loading.loaders import readable_rows, reading_workers
from ..datasets.loading.readers import Reader, make_reader
from ..datasets.loading.shards.pixels import ShardPixels, Shards
from ..datasets.manifest.tables import Manifest
from ..datasets.slides.settings import Stain
from ..datasets.slides.stream import SlideSet, TileSource
from ..engine.run_folder import rank
from .recipe import Dino, Pretrain


@dataclass(frozen=True, eq=False)
class Source:
    """The cases of pre-training.

    Attributes:
        pixels: By row.
        rows: The rows that can be read.
        ids: Of all rows.
        bad: Why files of the manifest cannot be read.
        manifest: The files: images, clips or slides.
        slides: Rows of the manifest whose tiles these are, slide after slide; None where a row is a file itself.
    """

    pixels: PixelCache | Files | ShardPixels | TileSource
    rows: np.ndarray
    ids: Sequence[str]
    bad: list[str]
    manifest: Manifest
    slides: np.ndarray | None = None

    @property
    def windowed(self) -> bool:
        """Whether rows must be taken in the order of their shards."""
        return isinstance(self.pixels, ShardPixels) and self.pixels.window > 0

    def case_of(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the manifest that rows of the pixels belong to."""
        if self.slides is None:
            return rows
        return self.slides[np.searchsorted(self.pixels.ends, rows, side="right")]


def reader_of(recipe: Pretrain | Dino) -> Reader:
    """What makes pixels of the files of a recipe."""
    data, model = recipe.data, recipe.model
    return make_reader(
        data.clip, frames=model.frames, size_px=model.image_size, cache_px=data.cache_px, channels=model.channels
    )


def open_files(recipe: Pretrain | Dino, chosen: Manifest, place: Path | Shards) -> Source:
    """Images or clips, from shards, or from the cache if the recipe wants one; it is filled first."""
    for name, unset in (("tiles_per_slide", None), ("stain", Stain())):
        if getattr(recipe, name) != unset:
            raise UserError(f"{name} is for tiles of slides: name the folder of tiles, or leave it out.")
    reader = reader_of(recipe)
    if isinstance(place, Shards):
        pixels = place.pixels(chosen, reader)
    else:
        pixels = open_pixels(chosen.files(), recipe.data, place, reader, reading_workers(recipe.run.workers, True))
    if rank() == 0 and (note := pixels.colour_note()):
        print(f"note: {note}")
    rows, bad = readable_rows(pixels, range(len(chosen)), recipe.run.max_bad, str(chosen.path))
    source = Source(pixels, rows, chosen.table["id"].tolist(), bad, chosen)
    if source.windowed and isinstance(recipe, Dino) and recipe.monitor:
        raise UserError("monitor looks at cases of all shards: set it to 0, or let all shards fit (--cache-gb).")
    return source


def try_slides(recipe: Pretrain | Dino, chosen: Manifest, tiles: Path) -> SlideSet:
    """Open every slide and its tile file once.

    Args:
        tiles: Folder of `<id>.h5` tile coordinates.
    """
    if recipe.model.frames != 1 or recipe.model.channels != 3:
        raise UserError("tiles of slides are images in colour: set model.channels 3 and model.frames 1.")
    from ..datasets.slides.stain import stain_normaliser

    fit = None if recipe.stain.method == "none" else partial(stain_normaliser, recipe=recipe.stain)
    workers = reading_workers(recipe.run.workers, True)
    return SlideSet(chosen.table["id"], chosen.files(), chosen.microns_per_px(), tiles, fit, workers)


def open_tiles(recipe: Pretrain | Dino, chosen: Manifest, slides: SlideSet) -> Source:
    """The tiles of all slides that can be opened."""
    usable, bad = readable_rows(slides, range(len(slides)), recipe.run.max_bad, str(chosen.path))
    pixels = slides.source(usable)
    return Source(pixels, np.arange(len(pixels)), pixels.ids, bad, chosen, usable)
