"""Tile coordinates of every slide: one HDF5 per slide, an image of the grid, a status table."""

from functools import partial
from pathlib import Path

import pandas as pd

from ...datasets.loading.isolation import read_alone
from ...datasets.loading.limits import SLIDE_SECONDS
from ...datasets.manifest.tables import Manifest
from ...datasets.slides.settings import Tiling
from ...datasets.slides.shared_work import SharedWork, work_through
from ...datasets.slides.tiling import tile_slide, write_tiled
from ...engine.run_folder import run_folder


def tile_slides(recipe: Tiling, manifest: Manifest, out: Path) -> pd.DataFrame:
    """Write `out/<id>.h5`, `out/images/<id>.jpg` and `out/status.csv`; no tile is copied out of its slide.

    Any number of processes may be given the same command; what was done is not done again.

    Args:
        recipe: The resolved recipe.
        manifest: The slides; labels and splits are never looked at.
        out: Folder to write.

    Returns:
        The status table: per slide its tiles, share of tissue, threshold, scale; or why there are none.
    """
    scales = dict(zip(manifest.table["id"], manifest.microns_per_px(), strict=True))
    with run_folder(out, recipe, {}, shared=True) as folder:
        work = SharedWork(folder, dict(zip(scales, manifest.files(), strict=True)))

        def do(slide: str) -> dict:
            # By a process of its own: OpenSlide and its decoders may die or hang over a slide.
            tile = partial(tile_slide, recipe=recipe, mpp=scales[slide])
            return write_tiled(read_alone(tile, work.files[slide], SLIDE_SECONDS), folder, slide)

        return work_through(work, do, "tiles")
