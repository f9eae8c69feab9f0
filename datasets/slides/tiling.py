"""One slide tiled: its grid found, with an image of it, and written. No torch: a process is started for every slide."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...core.files import written_aside
from .hdf5 import write_tiles
from .reading import open_slide
from .settings import Tiling
from .shared_work import slide_file
from .tiles import TileGrid, draw_grid, tile_grid
from .tissue import find_tissue

IMAGES = "images"


class Tiled(NamedTuple):
    """A slide that has been tiled.

    Attributes:
        grid: Its tiles.
        image: (H, W, 3) uint8, the slide with its tiles drawn.
        facts: For its row of the status table.
    """

    grid: TileGrid
    image: np.ndarray
    facts: dict


def tile_slide(path: Path, recipe: Tiling, mpp: float | None) -> Tiled:
    """Return the tiles of a slide; nothing is written, which processes that read may not.

    Args:
        path: The slide's file.
        recipe: How.
        mpp: Microns per level-0 px by the manifest; None: as the file says.

    Raises:
        DataError: The slide cannot be read, or has no tissue.
    """
    with open_slide(path, mpp) as opened:
        tissue = find_tissue(opened, recipe.tissue)
        grid = tile_grid(opened, recipe, tissue)
        facts = {
            "tiles": len(grid.coords),
            "tissue_percent": round(100 * tissue.fraction, 2),
            "ink_percent": round(100 * tissue.ink, 2),
            "warning": tissue.warning,
            "threshold": tissue.threshold,
            "mpp": opened.mpp,
            "mpp_from": opened.mpp_source,
            "width_px": opened.width_px,
            "height_px": opened.height_px,
        }
        return Tiled(grid, draw_grid(opened, grid, tissue), facts)


def write_tiled(found: Tiled, out: Path, slide: str) -> dict:
    """Write `out/<slide>.h5` and `out/images/<slide>.jpg` of a slide; return the facts."""
    with written_aside(slide_file(out / IMAGES, slide, ".jpg")) as aside:
        Image.fromarray(found.image).save(aside, quality=85)
    write_tiles(slide_file(out, slide), found.grid)
    return found.facts
