"""The cases of a pre-training as its recipe wants them."""

from pathlib import Path

from ..core.errors import UserError
from ..datasets.loading.readers import Reader, make_reader
from ..datasets.loading.source import Place, Source, open_files, open_tiles, try_slides
from ..datasets.manifest.tables import Manifest
from ..datasets.slides.settings import Stain
from ..datasets.slides.stream import SlideSet
from .recipe import PretrainRecipe


def reader_of(recipe: PretrainRecipe) -> Reader:
    """Return what makes pixels of the files of a recipe."""
    data, model = recipe.data, recipe.model
    return make_reader(
        data.clip, frames=model.frames, size_px=model.image_size, cache_px=data.cache_px, channels=model.channels
    )


def open_slides(recipe: PretrainRecipe, chosen: Manifest, tiles: Path) -> SlideSet:
    """Open every slide and its file of tile coordinates once (`try_slides`).

    Raises:
        UserError: The model is not for images in colour.
    """
    if recipe.model.frames != 1 or recipe.model.channels != 3:
        raise UserError("tiles of slides are images in colour: set model.channels 3 and model.frames 1.")
    return try_slides(chosen, tiles, recipe.stain, recipe.run.workers)


def open_source(recipe: PretrainRecipe, chosen: Manifest, place: Place, slides: SlideSet | None) -> Source:
    """Open the tiles of slides, or images and clips (`open_files`).

    Raises:
        UserError: A setting is for tiles of slides.
    """
    run = recipe.run
    if slides is not None:
        return open_tiles(chosen, slides, run.max_bad)
    for name, unset in (("tiles_per_slide", None), ("stain", Stain())):
        if getattr(recipe, name) != unset:
            raise UserError(f"{name} is for tiles of slides: name the folder of tiles, or leave it out.")
    return open_files(chosen, place, reader_of(recipe), recipe.data, workers=run.workers, max_bad=run.max_bad)
