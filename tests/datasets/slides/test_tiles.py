"""The tile grid: microns, no drift, exact shares of tissue; its image; and a slide of eight gigapixels."""

import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.slides.tiles import Tiling, draw_grid, tile_grid
from clinvit.datasets.slides.tissue import Tissue, TissueMask
from hypothesis import given, settings
from hypothesis import strategies as st


def mask_of(mask: np.ndarray, downsample: float) -> TissueMask:
    return TissueMask(mask, downsample, "saturation", 20, 20)


@pytest.fixture
def blank(drawn):
    """`blank(width, height, mpp)`: a white slide."""
    return lambda width, height, mpp: drawn(np.full((height, width, 3), 255, np.uint8), mpp)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(40, 300), st.integers(40, 300), st.floats(0.2, 2.0), st.floats(4, 30), st.floats(0, 0.8),
    st.floats(0, 0.95), st.floats(1, 9), st.integers(0, 99),
)  # fmt: skip
def test_grid_against_the_plain_way(width, height, mpp, tile_um, overlap, least, downsample, seed):
    """Every tile by a double loop, its share of tissue pixel by pixel on the mask enlarged to level 0."""
    from clinvit.datasets.slides.tiles import _shares, _starts

    side, stride = round(tile_um / mpp), tile_um * (1 - overlap) / mpp
    if not 1 <= side <= min(width, height):
        return
    downsample = round(downsample)
    rng = np.random.default_rng(seed)
    small = rng.random((-(-height // downsample), -(-width // downsample))) < 0.7
    full = np.kron(small, np.ones((downsample, downsample)))[:height, :width]
    xs, ys = _starts(width, side, stride), _starts(height, side, stride)
    assert xs.tolist() == sorted({int(i * stride + 0.5) for i in range(1000) if int(i * stride + 0.5) + side <= width})
    shares = _shares(small, downsample, xs, ys, side)
    for j, i in zip(rng.integers(0, len(ys), 20), rng.integers(0, len(xs), 20)):
        assert shares[j, i] == pytest.approx(full[ys[j] : ys[j] + side, xs[i] : xs[i] + side].mean(), abs=1e-9)


def test_no_drift_over_a_wide_slide(blank):
    """448.43 px from tile to tile: rounded each by itself, the last is as near as the first."""
    slide = blank(40_000, 300, 0.24976)
    grid = tile_grid(slide, Tiling(tile_um=56, tile_px=112), mask_of(np.ones((30, 4000), bool), 10))
    stride = 56 / 0.24976
    assert np.abs(grid.coords[:, 0] - np.arange(len(grid.coords)) * stride).max() <= 0.5
    assert len(grid.coords) == int((40_000 - 224) / stride) + 1 and (grid.coords[:, 1] == 0).all()


def test_facts_of_a_grid(blank):
    mask = np.zeros((100, 100), bool)
    mask[:50] = True
    grid = tile_grid(blank(1000, 1000, 0.5), Tiling(tile_um=60, tile_px=100, overlap_um=10), mask_of(mask, 10))
    assert (grid.tile_level0_px, grid.tile_px, grid.tile_um, grid.overlap_um) == (120, 100, 60, 10)
    assert (grid.mpp, grid.width_px, grid.height_px) == (0.5, 1000, 1000)
    assert grid.coords.dtype == np.int64 and grid.tissue.dtype == np.float32
    xs, ys = np.unique(grid.coords[:, 0]), np.unique(grid.coords[:, 1])
    assert xs.tolist() == list(range(0, 881, 100)) and ys.tolist() == [0, 100, 200, 300, 400]
    assert grid.tissue[grid.coords[:, 1] == 400] == pytest.approx(100 / 120)


@pytest.mark.parametrize("least, kept", [(0.0, 3), (0.5, 2), (0.75, 1), (0.999, 1)])
def test_a_tile_needs_more_than_the_least(blank, least, kept):
    """Tiles of 100, 75, 25 and 0 % tissue; 75 % is not more than 75 %."""
    mask = np.zeros((4, 16), bool)
    mask[:, :4] = mask[:3, 4:8] = mask[:1, 8:12] = True
    grid = tile_grid(blank(160, 40, 1), Tiling(40, 40, min_tissue=least), mask_of(mask, 10))
    assert grid.coords[:, 0].tolist() == [0, 40, 80][:kept]


def test_errors_say_what_to_do(blank):
    full = mask_of(np.ones((10, 10), bool), 10)
    cases = [
        (blank(100, 100, 0.5), Tiling(), full, "tile of 112 microns .224 px. is larger than the slide .100 x 100 px"),
        (blank(100, 100, 2), Tiling(), full, "enlarged more than 2 times"),
        (
            blank(500, 500, 0.5),
            Tiling(),
            None,
            r"no tissue: 0 % tissue \(saturation above 15 of 255.*tissue.method grey",
        ),
        (blank(500, 500, 0.5), Tiling(tissue=Tissue("grey")), None, "no tissue.*tissue.method saturation"),
        (
            blank(100, 100, 1),
            Tiling(20, 20, 0, 0.99),
            mask_of(np.eye(10) == 1, 10),
            "no tile has more than 99 %.*most: 50",
        ),
    ]
    for slide, tiling, mask, words in cases:
        with pytest.raises(DataError, match=words) as raised:
            tile_grid(slide, tiling, mask)
        assert "drawn.tif" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"tile_um": 0}, {"tile_px": 0}, {"overlap_um": -1}, {"overlap_um": 112.0}, {"min_tissue": 1.0},
        {"min_tissue": -0.1}, {"tile_um": float("nan")},
    ],
)  # fmt: skip
def test_bad_recipes(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Tiling(**settings)


def test_tiles_of_a_file_lie_on_its_tissue(tmp_path, tiff, tissue_pixels):
    with open_slide(tiff(tmp_path / "a.tif", tissue_pixels(1600, 1200), levels=4)) as slide:
        grid = tile_grid(slide, Tiling(tile_um=25, tile_px=50))
        assert len(grid.coords) == pytest.approx(16 * 12, rel=0.15)
        assert (grid.coords >= (380, 280)).all() and (grid.coords + 50 <= (1220, 920)).all()
        tile = slide.tile(*grid.coords[len(grid.coords) // 2].tolist(), grid.tile_um, grid.tile_px)
    assert tile.mean(axis=(0, 1)) == pytest.approx((191, 126, 178), abs=6)


@pytest.mark.parametrize("longest_px, drawn_as", [(800, "outlines"), (100, "areas")])
def test_the_image_shows_tiles_and_outline(tmp_path, tiff, tissue_pixels, longest_px, drawn_as):
    with open_slide(tiff(tmp_path / "a.tif", tissue_pixels(1600, 1200), levels=4)) as slide:
        grid = tile_grid(slide, Tiling(tile_um=25, tile_px=50))
        mask = np.zeros((75, 100), bool)
        mask[19:56, 25:75] = True
        plain, image = slide.overview(longest_px), draw_grid(slide, grid, mask_of(mask, 16), longest_px)
    assert image.shape == plain.shape == (longest_px * 3 // 4, longest_px, 3)
    changed = (image != plain).any(axis=2)
    scale = longest_px / 1600
    inside = np.zeros(changed.shape, bool)
    inside[int(280 * scale) - 2 : int(920 * scale) + 3, int(380 * scale) - 2 : int(1220 * scale) + 3] = True
    assert not changed[~inside].any()
    share = changed[inside].mean()
    assert 0.1 < share < 0.4 if drawn_as == "outlines" else share > 0.6


def test_real_slide(shared_data):
    with open_slide(shared_data / "slides" / "small_HE.svs") as slide:
        grid = tile_grid(slide, Tiling())
        assert 30 <= len(grid.coords) <= 42 and grid.tile_level0_px == 224
        assert all(slide.tile(x, y, 112, 224).mean() < 225 for x, y in grid.coords.tolist())


def write_gigapixels(path, width, height, levels, tile_px=512, mpp=0.25):
    """A sparse pyramid with an ellipse of tissue: three distinct tiles, and none where there is glass around."""
    rng = np.random.default_rng(0)
    tissue = np.tile(rng.normal((200, 130, 180), 12, (8, tile_px, 3)), (tile_px // 8, 1, 1)).astype(np.uint8)
    glass = np.full((tile_px, tile_px, 3), 243, np.uint8)
    tissue, glass = (zlib.compress(tile.tobytes(), 1) for tile in (tissue, glass))

    def tiles(level):
        rows, columns = -(-(height >> level) // tile_px), -(-(width >> level) // tile_px)
        y, x = np.mgrid[:rows, :columns] * tile_px * 2.0**level
        far = ((x - width / 2) / (0.3 * width)) ** 2 + ((y - height / 2) / (0.3 * height)) ** 2
        yield from (tissue if value < 1 else glass if value < 2 else b"" for value in far.ravel())

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for level in range(levels):
            writer.write(
                tiles(level), shape=(height >> level, width >> level, 3), dtype=np.uint8, tile=(tile_px, tile_px),
                photometric="rgb", compression="deflate", subfiletype=int(level > 0), metadata=None,
                resolution=(10_000 / mpp, 10_000 / mpp), resolutionunit="CENTIMETER",
            )  # fmt: skip
    return path


# The high-water mark of this program alone: `resource.getrusage` would count the parent's before the exec, too.
GIANT = """
import pathlib, re, sys
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.slides.tiles import Tiling, draw_grid, tile_grid
with open_slide(sys.argv[1]) as slide:
    grid = tile_grid(slide, Tiling())
    draw_grid(slide, grid)
    for x, y in grid.coords[:: len(grid.coords) // 50].tolist():
        slide.tile(x, y, grid.tile_um, grid.tile_px)
status = pathlib.Path("/proc/self/status").read_text()
print(len(grid.coords), int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "width, height, levels, most_gib",
    [
        pytest.param(100_000, 80_000, 8, 0.6, id="pyramid", marks=pytest.mark.slow),
        pytest.param(25_000, 24_000, 1, 0.6, id="one level", marks=pytest.mark.thorough),
    ],
)
def test_a_giant_slide_in_little_memory(tmp_path, width, height, levels, most_gib):
    path = write_gigapixels(tmp_path / "giant.tif", width, height, levels)
    done = subprocess.run([sys.executable, "-c", GIANT, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, gib = done.stdout.split()
    # Tiles of the coarse levels are large, and so is the ellipse's edge.
    assert int(count) == pytest.approx(np.pi * 0.09 * width * height / 448**2, rel=0.25)
    assert float(gib) < most_gib


def test_grey_counts_the_pixels_of_each_tile(blank, monkeypatch):
    """As Self-ViT-MIL: not what an overview of 1/256 shows of a tile, but how many of its own pixels are dark."""
    slide = blank(2048, 2048, 0.5)
    noise = np.random.default_rng(0)
    shares = {(0, 0): 0.9, (1024, 0): 0.6, (0, 1024): 0.76}

    def tile(x, y, tile_um, tile_px):
        dark = noise.permutation(tile_px**2) < shares.get((x, y), 0.0) * tile_px**2
        return np.where(dark.reshape(tile_px, tile_px, 1), np.uint8(100), np.uint8(240)).repeat(3, axis=2)

    monkeypatch.setattr(slide, "tile", tile)
    mask = TissueMask(np.ones((8, 8), bool), 256, "grey", 171, 170)
    grid = tile_grid(slide, Tiling(512, 224, tissue=Tissue("grey")), mask)
    assert grid.coords.tolist() == [[0, 0], [0, 1024]]
    assert grid.tissue == pytest.approx([0.9, 0.76], abs=1e-4)
