"""All tissue tiles of a slide at 20x (112 um in 224 px), as `clinvit extract` reads them, against OpenSlide one by one.

    uv run --group bench python benchmarks/tiles.py

Two slides of 20,480 px side (pyramidal TIFF of JPEG tiles; a phantom of 5,120 px, repeated): scanned at 0.25 um per px,
where 20x lies a level below, and at 0.5.
The peers call `read_region` tile by tile and convert to RGB: CLAM's method reads level 0 and lets Pillow shrink it, the
other reads the level that we read too. Every pixel of ours is compared with theirs.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import openslide
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.slides.settings import Tiling
from clinvit.datasets.slides.tile_reading import Tiles
from clinvit.datasets.slides.tiles import TileGrid, tile_grid
from clinvit.mil.extract import reading_processes
from clinvit.mil.extract_recipe import Extract
from clinvit.phantoms.histology import Histology
from clinvit.phantoms.slides import write_pyramid
from PIL import Image
from side_by_side import machine

PHANTOM_PX, REPEATS, ROUNDS = 5120, 4, 3


def strips(mpp: float, repeats: int = REPEATS) -> Iterator[np.ndarray]:
    """A slide from top to bottom: a phantom beside and below itself."""
    drawn = list(Histology(PHANTOM_PX, PHANTOM_PX, seed=0, mpp=mpp, tumours=1).strips())
    for _ in range(repeats):
        for strip in drawn:
            yield np.tile(strip, (1, repeats, 1))


def clam(path: Path, grid: TileGrid) -> Iterable[np.ndarray]:
    """Tiles of level 0, shrunk where they are larger than asked."""
    slide, side, px = openslide.OpenSlide(path), grid.tile_level0_px, grid.tile_px
    for corner in grid.coords.tolist():
        tile = slide.read_region(corner, 0, (side, side)).convert("RGB")
        yield np.asarray(tile if side == px else tile.resize((px, px), Image.Resampling.BILINEAR))


def same_level(path: Path, grid: TileGrid) -> Iterable[np.ndarray]:
    """Tiles of the level that has them in the size asked for."""
    slide = openslide.OpenSlide(path)
    level = slide.get_best_level_for_downsample(grid.tile_level0_px / grid.tile_px + 0.01)
    for corner in grid.coords.tolist():
        yield np.asarray(slide.read_region(corner, level, (grid.tile_px, grid.tile_px)).convert("RGB"))


def ours(path: Path, grid: TileGrid) -> Iterable[np.ndarray]:
    """Tiles in batches, as `clinvit extract` takes them."""
    recipe = Extract()
    for batch in Tiles(path, None, grid).batches(recipe.batch_size, reading_processes(recipe)):
        yield from batch


def seconds(read: Callable[[Path, TileGrid], Iterable[np.ndarray]], path: Path, grid: TileGrid) -> float:
    """To read all tiles of a slide that was just opened."""
    start = time.perf_counter()
    for _ in read(path, grid):
        pass
    return time.perf_counter() - start


def main() -> None:
    """Write the slides, time everybody in turn, compare pixels and print a table."""
    print(machine("openslide-python", "openslide-bin", "pillow"), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for mpp in (0.25, 0.5):
            path = Path(folder) / f"{mpp}.tif"
            write_pyramid(path, strips(mpp), mpp=mpp)
            with open_slide(path) as slide:
                grid = tile_grid(slide, Tiling())
            report(path, grid)


def report(path: Path, grid: TileGrid) -> None:
    """The rows of one slide."""
    print(f"{grid.width_px} px wide at {grid.mpp} um, {path.stat().st_size / 1e6:.0f} MB, {len(grid.coords)} tiles")
    methods = {"openslide, level 0 as CLAM": clam, "openslide, our level": same_level, "ours": ours}
    times: dict[str, list[float]] = {name: [] for name in methods}
    for timed in [False] + [True] * ROUNDS:
        for name, method in methods.items():
            taken = seconds(method, path, grid)
            times[name] += [taken] * timed
    mine = statistics.median(times["ours"])
    for name, method in methods.items():
        taken = statistics.median(times[name])
        apart = [np.abs(a.astype(np.int16) - b) for a, b in zip(method(path, grid), ours(path, grid))]
        most, mean = max(map(np.max, apart)), np.mean([pixels.mean() for pixels in apart])
        print(f"  {name:28}{taken:7.2f} s{taken / mine:7.2f}x   from ours by {most} at most, {mean:.3f} on average")


if __name__ == "__main__":
    main()
