"""Where the pixels of pre-training come from: pictures and clips by way of the cache, or tiles straight from slides."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..datasets.cache import Files, PixelCache, open_pixels
from ..datasets.loading import readable_rows, reading_workers
from ..datasets.slides.recipe import Stain
from ..datasets.slides.stream import SlideSet, TileSource
from ..datasets.tables import Manifest
from ..errors import UserError
from .recipe import Dino, Pretrain


@dataclass(frozen=True, eq=False)
class Source:
    """The cases of pre-training.

    Attributes:
        pixels: By row.
        rows: The rows that can be read.
        ids: Of all rows.
        bad: Why files of the manifest cannot be read.
        manifest: The files: pictures, clips or slides.
        slides: Rows of the manifest whose tiles these are, slide after slide; None where a row is a file itself.
    """

    pixels: PixelCache | Files | TileSource
    rows: np.ndarray
    ids: Sequence[str]
    bad: list[str]
    manifest: Manifest
    slides: np.ndarray | None = None

    def case_of(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the manifest that rows of the pixels belong to."""
        if self.slides is None:
            return rows
        return self.slides[np.searchsorted(self.pixels.ends, rows, side="right")]


def open_files(recipe: Pretrain | Dino, chosen: Manifest, cache_folder: Path) -> Source:
    """Pictures or clips, from the cache if the recipe wants one; it is filled first."""
    for name, unset in (("tiles_per_slide", None), ("stain", Stain())):
        if getattr(recipe, name) != unset:
            raise UserError(f"{name} is for tiles of slides: name the folder of tiles, or leave it out.")
    pixels = open_pixels(
        chosen.files(), recipe.data, cache_folder, frames=recipe.model.frames, size_px=recipe.model.image_size,
        workers=reading_workers(recipe.run.workers, True),
    )  # fmt: skip
    if recipe.model.frames == 1 and recipe.model.channels != 1:
        raise UserError(f"model.channels {recipe.model.channels}: pictures are read in grey; set model.channels 1.")
    rows, bad = readable_rows(pixels, range(len(chosen)), recipe.run.max_bad, str(chosen.path))
    return Source(pixels, rows, chosen.table["id"].tolist(), bad, chosen)


def try_slides(recipe: Pretrain | Dino, chosen: Manifest, tiles: Path) -> SlideSet:
    """Open every slide and its tile file once.

    Args:
        tiles: Folder of `<id>.h5` tile coordinates.
    """
    if recipe.model.frames != 1 or recipe.model.channels != 3:
        raise UserError("tiles of slides are pictures in colour: set model.channels 3 and model.frames 1.")
    from ..datasets.slides.stain import stain_normaliser

    fit = None if recipe.stain.method == "none" else partial(stain_normaliser, recipe=recipe.stain)
    return SlideSet(chosen.table["id"], chosen.files(), chosen.microns_per_px(), tiles, fit)


def open_tiles(recipe: Pretrain | Dino, chosen: Manifest, slides: SlideSet) -> Source:
    """The tiles of all slides that can be opened."""
    usable, bad = readable_rows(slides, range(len(slides)), recipe.run.max_bad, str(chosen.path))
    pixels = slides.source(usable)
    return Source(pixels, np.arange(len(pixels)), pixels.ids, bad, chosen, usable)
