"""All tiles of a slide, read by processes: the right pixels in order; one that kills its reader has a reason."""

from dataclasses import replace

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.slides import tile_reading
from clinvit.datasets.slides.settings import Stain
from clinvit.datasets.slides.tile_reading import Tiles
from clinvit.datasets.slides.tiles import TileGrid
from clinvit.tests.reliability.deadly import DeadlyNormaliser

SIDE, COUNT = 32, 70  # more tiles than a process reads at once


@pytest.fixture
def slide(tmp_path, tiff):
    """A slide of 70 tiles in rows of 10, and their grid."""
    width, height = 10 * SIDE, COUNT // 10 * SIDE
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    coords = np.array([(x, y) for y in range(0, height, SIDE) for x in range(0, width, SIDE)], np.int64)
    grid = TileGrid(coords, np.ones(COUNT, np.float32), SIDE, SIDE * 0.5, 0.0, SIDE, 0.5, width, height)
    return tiff(tmp_path / "s.tif", pixels), grid, pixels


@pytest.mark.parametrize("size, workers", [(1, 1), (10, 2), (64, 1), (65, 2), (COUNT, 1), (1000, 2)])
def test_batches_are_the_tiles_in_order(slide, size, workers):
    path, grid, pixels = slide
    batches = list(Tiles(path, None, grid).batches(size, workers))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1) and len(batches) == -(-COUNT // size)
    expected = [pixels[y : y + SIDE, x : x + SIDE] for x, y in grid.coords.tolist()]
    np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_of_several_scales_the_finest_is_read(slide):
    path, grid, pixels = slide
    coarse = replace(grid, tile_px=SIDE // 2)
    (batch,) = Tiles(path, None, coarse, 2).batches(COUNT)
    assert batch.shape == (COUNT, SIDE, SIDE, 3) and np.array_equal(batch[0], pixels[:SIDE, :SIDE])
    with pytest.raises(DataError, match=r"s\.tif: scale 3 reads tiles at 0\.333 microns per px.*finest have 0\.5"):
        Tiles(path, None, coarse, 3)


def test_a_slide_that_takes_its_reader_down_says_so(slide, monkeypatch):
    path, grid, pixels = slide
    tiles = Tiles(path, None, grid)
    tiles.normalise = DeadlyNormaliser(pixels[-SIDE:, -SIDE:].copy())
    batches = tiles.batches(10, 2)
    np.testing.assert_array_equal(next(batches)[0], pixels[:SIDE, :SIDE])
    with pytest.raises(DataError, match=r"s\.tif: reading it took the process down \(SIGABRT\)"):
        list(batches)
    monkeypatch.setenv("CLINVIT_SLIDE_SECONDS", "0.001")
    with pytest.raises(DataError, match=r"s\.tif: reading it took longer than 0\.001 s \(CLINVIT_SLIDE_SECONDS\)"):
        Tiles(path, None, grid, stain=Stain("macenko"))


def test_a_tile_outside_of_the_slide_is_named(slide):
    path, grid, _ = slide
    grid.coords[-1] += 32
    with pytest.raises(DataError, match=r"s\.tif: the tile of 32 px at x = 320, y = 224 begins outside"):
        list(Tiles(path, None, grid).batches(tile_reading.RUN))
