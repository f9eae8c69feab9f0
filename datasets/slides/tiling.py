"""One slide tiled: its grid found and written, with an image of it. No torch: a process is started for every slide."""

from pathlib import Path

from PIL import Image

from ...core.files import written_aside
from .hdf5 import write_tiles
from .reading import open_slide
from .settings import Tiling
from .shared_work import slide_file
from .tiles import draw_grid, tile_grid
from .tissue import find_tissue

IMAGES = "images"


def tile_slide(path: Path, recipe: Tiling, mpp: float | None, out: Path, slide: str) -> dict:
    """Write `out/<slide>.h5` and `out/images/<slide>.jpg`; gives the facts for its row of the status table.

    Args:
        path: The slide's file.
        recipe: How.
        mpp: Microns per level-0 px by the manifest; None: as the file says.
        out: Folder of tile coordinates.
        slide: Its id.

    Raises:
        DataError: The slide cannot be read, or has no tissue.
    """
    with open_slide(path, mpp) as opened:
        tissue = find_tissue(opened, recipe.tissue)
        grid = tile_grid(opened, recipe, tissue)
        with written_aside(slide_file(out / IMAGES, slide, ".jpg")) as aside:
            Image.fromarray(draw_grid(opened, grid, tissue)).save(aside, quality=85)
        write_tiles(slide_file(out, slide), grid)
        return {
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
