"""Tiles straight from slides: the right pixels, few open files, nothing open in a pickle, batches mixed over slides."""

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.loading.loaders import Cases, readable_rows, train_loader
from clinvit.datasets.settings import Clip
from clinvit.datasets.slides import reading
from clinvit.datasets.slides.batches import TileBatches
from clinvit.datasets.slides.hdf5 import write_tiles
from clinvit.datasets.slides.settings import Stain
from clinvit.datasets.slides.stain import stain_normaliser
from clinvit.datasets.slides.stream import SlideSet, TileSource
from clinvit.datasets.slides.tiles import TileGrid
from clinvit.datasets.transforms.augment import Augment
from clinvit.datasets.transforms.views import TrainView
from clinvit.tests.reliability.deadly import DeadlyNormaliser, die_over

SIDE = 32


def grid_of(width: int, height: int, count: int | None = None) -> TileGrid:
    """All whole squares of 32 px (at 0.5 microns) of a slide, or the first `count`."""
    corners = [(x, y) for y in range(0, height - SIDE + 1, SIDE) for x in range(0, width - SIDE + 1, SIDE)][:count]
    coords = np.array(corners, np.int64).reshape(-1, 2)
    return TileGrid(coords, np.ones(len(coords), np.float32), SIDE, SIDE * 0.5, 0.0, SIDE, 0.5, width, height)


@pytest.fixture
def slides(tmp_path, tiff):
    """Four slides of random pixels and of 8, 12, 16 and 20 tiles: files, pixels, grids."""
    rng, files, pixels, grids = np.random.default_rng(0), [], [], []
    for i in range(4):
        width, height = 128, 64 + 32 * i
        pixels.append(rng.integers(0, 255, (height, width, 3)).astype(np.uint8))
        files.append(tiff(tmp_path / f"s{i}.tif", pixels[-1]))
        grids.append(grid_of(width, height))
    return files, pixels, grids


@pytest.fixture
def opened(monkeypatch):
    """The slides that are open, by file name, in the order of their opening, and how often one was opened."""
    state = {"open": [], "count": 0}
    real_open, real_close = reading.open_slide, reading.Slide.close

    def open_slide(path, mpp=None):
        slide = real_open(path, mpp)
        state["open"].append(slide.path.name)
        state["count"] += 1
        return slide

    def close(self):
        state["open"].remove(self.path.name)
        real_close(self)

    monkeypatch.setattr(reading, "open_slide", open_slide)
    monkeypatch.setattr(reading.Slide, "close", close)
    return state


def test_every_row_is_its_tile(slides):
    files, pixels, grids = slides
    source = TileSource([(file, None) for file in files], grids)
    assert len(source) == 8 + 12 + 16 + 20 == len(source.reasons()) and source.counts.tolist() == [8, 12, 16, 20]
    row = 0
    for image, grid, file in zip(pixels, grids, files):
        for x, y in grid.coords.tolist():
            assert np.array_equal(source[row], image[y : y + SIDE, x : x + SIDE])
            assert source.ids[row] == f"{file.stem}@{x},{y}"
            row += 1
    source.close()


def test_few_slides_are_open_and_all_are_closed(slides, opened):
    files, _, grids = slides
    source = TileSource([(file, None) for file in files], grids, keep_open=2)
    firsts = [0, 8, 20, 36]
    for i in (0, 1, 0, 2):
        source[firsts[i]]
    assert opened["open"] == ["s0.tif", "s2.tif"] and opened["count"] == 3  # s1 was the least used
    source[firsts[0] + 3]
    assert opened["count"] == 3
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(copy[firsts[3]], source[firsts[3]])
    for each in (copy, source):
        each.close()
    assert opened["open"] == []


def test_a_failed_read_names_the_slide_and_lets_go_of_its_handle(slides, opened):
    files, _, grids = slides
    wrong = replace(grids[1], coords=grids[1].coords + 1000)
    source = TileSource([(files[0], None), (files[1], None)], [grids[0], wrong])
    with pytest.raises(DataError, match=r"s1\.tif"):
        source[8]
    assert opened["open"] == []
    assert source[0].shape == (SIDE, SIDE, 3)
    source.close()


def test_failing_tiles_are_left_out_up_to_the_cap(slides):
    files, _, grids = slides
    coords = grids[0].coords.copy()
    coords[0] = 5000
    source = TileSource([(files[0], None), (files[3], None)], [replace(grids[0], coords=coords), grids[3]])
    view = TrainView(Augment(size=16), Clip(), 1)
    batch = Cases(source, np.arange(28), view, max_bad=0.05).__getitems__([(0, 1), (1, 2), (20, 3)])
    assert batch["image"].shape == (2, 3, 16, 16) and batch["row"].tolist() == [1, 20]
    with pytest.raises(DataError, match=r"s0\.tif"):
        Cases(source, np.arange(28), view, max_bad=0.0).__getitems__([(0, 1)])
    source.close()


def test_a_tile_that_takes_its_reader_down_is_left_out(slides):
    files, pixels, grids = slides
    deadly = DeadlyNormaliser(pixels[1][:SIDE, :SIDE].copy())
    source = TileSource([(files[0], None), (files[1], None)], grids[:2], [None, deadly])
    cases = Cases(source, np.arange(20), TrainView(Augment(size=16), Clip(), 1), max_bad=0.05)
    for _ in range(2):
        assert cases.__getitems__([(7, 1), (8, 2), (9, 3)])["row"].tolist() == [7, 9]
    with pytest.raises(DataError, match=r"s1\.tif: reading it took the process down .SIGABRT"):
        Cases(source, np.arange(20), TrainView(Augment(size=16), Clip(), 1)).__getitems__([(8, 2)])


def test_a_slide_that_takes_its_reader_down_is_sorted_out_before(slides, folder):
    found = SlideSet(["s0", "s1"], slides[0][:2], [None] * 2, folder, die_over(slides[0][0]))
    assert "s0.tif: reading it took the process down (SIGABRT)" in found.reasons()[0] and found.reasons()[1] == ""


def test_workers_read_the_same(slides):
    files, _, grids = slides
    source = TileSource([(file, None) for file in files], grids)
    view = TrainView(Augment(size=16), Clip(), 1)
    seen = []
    for workers in (0, 1):
        batches = TileBatches(source.counts, 4, 8, seed=1)
        loader = train_loader(Cases(source, np.arange(len(source)), view), batches, workers)
        seen.append([(batch["row"].tolist(), int(batch["image"].sum())) for batch in loader])
    assert seen[0] == seen[1] and len(seen[0]) == 2
    source.close()


@pytest.fixture
def folder(tmp_path, slides):
    """Tile files of the four slides."""
    for file, grid in zip(slides[0], slides[2]):
        write_tiles(tmp_path / "tiles" / f"{file.stem}.h5", grid)
    return tmp_path / "tiles"


def test_bad_slides_are_sorted_out_before(slides, folder, tmp_path):
    files = list(slides[0])
    names = [file.stem for file in files]
    files[0].write_bytes(b"not a slide")
    (folder / "s1.h5").unlink()
    write_tiles(folder / "s2.h5", grid_of(128, 96))  # of a slide that is smaller
    found = SlideSet(names, files, [None] * 4, folder)
    reasons = found.reasons()
    assert "s0.tif" in reasons[0] and "clinvit tile" in reasons[1] and "128 x 96" in reasons[2] and reasons[3] == ""
    assert all("\n" not in reason for reason in reasons)
    usable, bad = readable_rows(found, range(4), 0.75, "manifest.csv")
    source = found.source(usable)
    assert len(bad) == 3 and len(source) == 20 and source.ids[0] == "s3@0,0"
    with pytest.raises(DataError, match="3 of 4 training files"):
        readable_rows(found, range(4), 0.5, "manifest.csv")
    source.close()


def test_fingerprint_is_that_of_the_tiles(slides, folder):
    def fingerprint():
        return SlideSet(["s0", "s1"], slides[0][:2], [None, 0.5], folder).fingerprint()

    before = fingerprint()
    assert before == fingerprint()
    write_tiles(folder / "s1.h5", grid_of(128, 96, 3))
    assert before != fingerprint()


def test_stain_is_that_of_the_slide(tmp_path, tiff, tissue_pixels):
    file = tiff(tmp_path / "a.tif", tissue_pixels(256, 256))
    grid = grid_of(256, 256)
    write_tiles(tmp_path / "a.h5", grid)
    fit = partial(stain_normaliser, recipe=Stain("reinhard"))
    source = SlideSet(["a"], [file], [None], tmp_path, fit).source([0])
    with reading.open_slide(file) as slide:
        normalise = fit(slide, grid)
        x, y = grid.coords[27].tolist()
        expected = normalise(slide.tile(x, y, grid.tile_um, SIDE))
    assert np.array_equal(pickle.loads(pickle.dumps(source))[27], expected)


def test_batches_draw_as_many_of_each_slide_without_repeats():
    counts = np.array([5, 40, 100])
    batches = TileBatches(counts, 20, 12, seed=3)
    rows = np.array([row for batch in batches for row, _ in batch])
    assert len(batches) == 5 and len(rows) == 60
    slide = np.searchsorted(np.cumsum(counts), rows, side="right")
    assert np.bincount(slide).tolist() == [20, 20, 20]
    assert len(set(rows[slide == 1])) == len(set(rows[slide == 2])) == 20
    assert set(rows[slide == 0]) <= set(range(5))  # with replacement: it has fewer


def test_batches_are_mixed_over_slides_and_new_in_every_epoch():
    batches = TileBatches(np.full(8, 500), 64, 64, seed=0)
    first = [[row // 500 for row, _ in batch] for batch in batches]
    assert min(len(set(batch)) for batch in first) >= 6
    rows = [sorted(row for batch in batches for row, _ in batch)]
    rows.append(sorted(row for batch in batches for row, _ in batch))
    batches.set_epoch(1)
    rows.append(sorted(row for batch in batches for row, _ in batch))
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize("tiles_per_slide", [None, 16])
def test_ranks_share_what_one_process_would_draw(tiles_per_slide):
    counts = [30, 10, 24]
    whole = list(TileBatches(counts, tiles_per_slide, 8, seed=5))
    shares = [list(TileBatches(counts, tiles_per_slide, 8, 5, rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*shares)] == whole
    if tiles_per_slide is None:
        assert sorted(row for batch in whole for row, _ in batch) == list(range(64))


def test_no_tiles_per_slide_is_refused():
    with pytest.raises(UserError, match="tiles_per_slide 0"):
        TileBatches([3], 0, 1, 0)


def test_views_of_colour_images_are_channels_first():
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[..., 1] = 200
    out = TrainView(Augment(size=16), Clip(), 1)(pixels, 0)
    assert out.shape == (1, 3, 16, 16) and torch.from_numpy(out).float().mean((0, 2, 3)).tolist() == [0, 200, 0]
