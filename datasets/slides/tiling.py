"""One slide tiled: its grid found, with an image of it, and written. No torch: a process is started for every slide."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...core.files import write_text, written_aside
from .hdf5 import write_tiles
from .quality import measure_quality, refuse_all_spoilt, spoilt
from .reading import Slide, open_slide
from .settings import Quality, Tiling
from .shared_work import slide_file
from .tiles import TileGrid, draw_grid, draw_quality, tile_grid
from .tissue import TissueMask, find_tissue

IMAGES, QUALITY = "images", "quality"


class Tiled(NamedTuple):
    """A slide that has been tiled.

    Attributes:
        grid: Its tiles.
        image: (H, W, 3) uint8, the slide with its tiles drawn.
        facts: For its row of the status table.
        measured: All tiles that were judged, those left out too; None where none was.
        reasons: Of each of these why it is left out; '' where it is not.
        quality: (H, W, 3) uint8, the measures drawn; None where there are none.
    """

    grid: TileGrid
    image: np.ndarray
    facts: dict
    measured: TileGrid | None = None
    reasons: tuple[str, ...] = ()
    quality: np.ndarray | None = None


def tile_slide(path: Path, recipe: Tiling, mpp: float | None) -> Tiled:
    """Return the tiles of a slide; nothing is written, which processes that read may not.

    Args:
        path: The slide's file.
        recipe: How.
        mpp: Microns per level-0 px by the manifest; None: as the file says.

    Raises:
        DataError: The slide cannot be read, has no tissue, or no tile that is good enough.
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
        if recipe.quality.asked:
            return _judged(opened, grid, tissue, recipe.quality, facts)
        return Tiled(grid, draw_grid(opened, grid, tissue), facts)


def write_tiled(found: Tiled, out: Path, slide: str) -> dict:
    """Write `out/<slide>.h5` and `out/images/<slide>.jpg` of a slide; return the facts.

    Where tiles were judged also `out/quality/<slide>.csv` and `.jpg`.
    """
    images = {IMAGES: found.image} | ({} if found.quality is None else {QUALITY: found.quality})
    for folder, image in images.items():
        with written_aside(slide_file(out / folder, slide, ".jpg")) as aside:
            Image.fromarray(image).save(aside, quality=85)
    if found.measured is not None:
        write_text(slide_file(out / QUALITY, slide, ".csv"), _csv(found.measured, found.reasons))
    write_tiles(slide_file(out, slide), found.grid)
    return found.facts


def _judged(slide: Slide, grid: TileGrid, tissue: TissueMask, limits: Quality, facts: dict) -> Tiled:
    """Return the tiles that are good enough, and what was measured of all."""
    grid = replace(grid, quality=measure_quality(slide, grid, tissue))
    masks = spoilt(grid.quality, limits)
    refuse_all_spoilt(slide, masks)
    reasons = np.full(len(grid.coords), "", dtype="U16")
    for reason, mask in masks.items():
        reasons[mask] = reason
    left_out = {reason: grid.coords[mask] for reason, mask in masks.items() if mask.any()}
    kept = grid.only(reasons == "")
    medians = {f"median_{name}": round(float(np.median(values)), 4) for name, values in grid.quality.items()}
    counts = {f"left_out_{reason}": int(mask.sum()) for reason, mask in masks.items()}
    facts = facts | {"tiles": len(kept.coords), "tiles_judged": len(grid.coords)} | counts | medians
    image = draw_grid(slide, kept, tissue, left_out=left_out)
    return Tiled(kept, image, facts, grid, tuple(reasons.tolist()), draw_quality(slide, grid))


def _csv(grid: TileGrid, reasons: tuple[str, ...]) -> str:
    """Return all tiles that were judged as a table."""
    lines = [",".join(("x", "y", "tissue", *grid.quality, "left_out"))]
    columns = np.stack([grid.tissue, *grid.quality.values()], axis=1)
    for (x, y), values, reason in zip(grid.coords.tolist(), columns.tolist(), reasons, strict=True):
        lines.append(",".join((str(x), str(y), *(f"{value:.6g}" for value in values), reason)))
    return "\n".join(lines) + "\n"
