"""Stain normalisation against a plain reference written from the method's description."""

import pickle

import numpy as np
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.slides.stain import (
    LEAST_DENSITY,
    LIGHT,
    REFERENCE_DENSITIES,
    REFERENCE_MEAN,
    REFERENCE_STAINS,
    REFERENCE_STD,
    Macenko,
    Reinhard,
    Stain,
    log_colour_statistics,
    stain_normaliser,
)
from clinvit.datasets.slides.tiles import Tiling, tile_grid


def stained(seed: int = 0, stains=((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)), strength=(0.9, 0.7), side: int = 64):
    """(side, side, 3) uint8: two stains of varying density, by Beer and Lambert, and a corner of glass."""
    rng = np.random.default_rng(seed)
    density = rng.gamma(2, 0.5, (side, side, 2)) * strength
    density[: side // 8, : side // 8] = 0
    stains = np.array(stains) / np.linalg.norm(stains, axis=1, keepdims=True)
    return (LIGHT * np.exp(-density @ stains)).clip(0, 255).astype(np.uint8)


def macenko_by_hand(tile: np.ndarray) -> np.ndarray:
    """Self-ViT-MIL's steps in their order, in double precision, pixel rows as columns (3, N)."""
    pixels = tile.reshape(-1, 3).astype(float)
    od = -np.log((pixels + 1) / 240)
    dense = od[~np.any(od < 0.15, axis=1)]
    _, vectors = np.linalg.eigh(np.cov(dense.T))
    first, second = vectors[:, 2], vectors[:, 1]
    if first.sum() < 0:
        first = -first
    angles = np.arctan2(dense @ first, dense @ second)
    ends = [np.cos(angle) * second + np.sin(angle) * first for angle in np.percentile(angles, [1, 99])]
    h, e = ends if ends[0][0] > ends[1][0] else ends[::-1]
    density = np.linalg.lstsq(np.stack([h, e], axis=1), od.T, rcond=None)[0]
    greatest = np.percentile(density, 99, axis=1)
    density *= (np.array([1.9705, 1.0308]) / greatest)[:, None]
    reference = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
    light = 240 * np.exp(-reference @ density)
    light[light > 255] = 254
    return light.T.reshape(tile.shape)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [(0.9, 0.7), (0.3, 1.2)])
def test_macenko_is_the_papers(seed, strength):
    tile = stained(seed, strength=strength)
    ours = Macenko(tile.reshape(-1, 3), "a")(tile).astype(float)
    theirs = np.floor(macenko_by_hand(tile))
    assert np.abs(ours - theirs).max() <= 1 and (ours != theirs).mean() < 0.002


def test_two_scanners_come_to_one_look():
    """The same tissue in two stainings; after normalisation they agree far better than before."""
    one = stained(1)
    two = stained(1, ((0.55, 0.75, 0.37), (0.20, 0.95, 0.24)), (0.55, 0.5))
    for kind in (Macenko, Reinhard):
        first, second = (kind(tile.reshape(-1, 3), "a")(tile).astype(float) for tile in (one, two))
        assert np.abs(first - second).mean() < 0.4 * np.abs(one.astype(float) - two).mean()


def test_macenko_reaches_the_reference_densities():
    tile = stained(2)
    done = Macenko(tile.reshape(-1, 3), "a")(tile).reshape(-1, 3)
    density = np.linalg.pinv(REFERENCE_STAINS) @ -np.log((done + 1.0) / LIGHT).T
    assert np.percentile(density, 99, axis=1) == pytest.approx(REFERENCE_DENSITIES, rel=0.05)


def test_reinhard_reaches_the_reference_statistics():
    tile = stained(3, strength=(0.6, 0.5), side=128)
    done = Reinhard(tile.reshape(-1, 3), "a")(tile).reshape(-1, 3)
    kept = (-np.log((tile.reshape(-1, 3) + 1.0) / LIGHT) >= LEAST_DENSITY).all(axis=1)
    rgb_to_lms = [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
    red, green, blue = np.log(np.array(rgb_to_lms) @ (done[kept].T + 1.0))
    axes = (red + green + blue) / 3**0.5, (red + green - 2 * blue) / 6**0.5, (red - green) / 2**0.5
    assert np.mean(axes, axis=1) == pytest.approx(REFERENCE_MEAN, abs=0.03)
    assert np.std(axes, axis=1) == pytest.approx(REFERENCE_STD, rel=0.1)


@pytest.mark.parametrize("kind", [Macenko, Reinhard])
@pytest.mark.parametrize(
    "tile, words",
    [
        (np.full((64, 64, 3), 255, np.uint8), "only 0 of 4096 pixels are stained"),
        (np.full((64, 64, 3), 120, np.uint8), "one stain|two stains|all alike"),
    ],
    ids=["white", "flat"],
)
def test_what_cannot_be_normalised(kind, tile, words):
    with pytest.raises(DataError, match=words) as raised:
        kind(tile.reshape(-1, 3), "a.svs: a tile")
    assert "a.svs" in str(raised.value) and "stain.method none" in str(raised.value)


def test_one_stain_is_not_two():
    rng = np.random.default_rng(0)
    tile = 240 * np.exp(-rng.gamma(2, 0.5, (4096, 1)) * [[0.5626, 0.7201, 0.4062]])
    with pytest.raises(DataError, match=r"one stain|two stains"):
        Macenko(tile.round().clip(30, 255).astype(np.uint8)[:, [0, 0, 0]], "a")


@pytest.fixture
def slide(tmp_path, tiff):
    pixels = np.concatenate(
        [np.concatenate([stained(10 * row + n, side=128) for n in range(6)], 1) for row in range(5)]
    )
    with open_slide(tiff(tmp_path / "a.tif", pixels)) as opened:
        yield opened


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_per_slide_is_one_estimate_and_stable(slide, method):
    grid = tile_grid(slide, Tiling(tile_um=32, tile_px=64, min_tissue=0.5))
    tiles = [slide.tile(x, y, 32, 64) for x, y in grid.coords[:4].tolist()]
    one, two = (stain_normaliser(slide, grid, Stain(method)) for _ in range(2))
    again = pickle.loads(pickle.dumps(one))
    for tile in tiles:
        assert np.array_equal(one(tile), two(tile)) and np.array_equal(one(tile), again(tile))
        assert one(tile).dtype == np.uint8 and not np.array_equal(one(tile), tile)
    assert np.array_equal(one(np.stack(tiles)), np.stack([one(tile) for tile in tiles]))
    everything = log_colour_statistics(one(slide.overview(10_000)).reshape(-1, 3), "a")[0]
    assert everything == pytest.approx(REFERENCE_MEAN, abs=0.35)


def test_per_tile_estimates_from_each(slide):
    grid = tile_grid(slide, Tiling(tile_um=32, tile_px=64, min_tissue=0.5))
    normalise = stain_normaliser(slide, grid, Stain("macenko", "tile"))
    tile = slide.tile(64, 64, 32, 64)
    assert np.array_equal(normalise(tile), Macenko(tile.reshape(-1, 3), "a")(tile))
    with pytest.raises(DataError, match=r"a\.tif: a tile: only 0 of"):
        normalise(np.full((64, 64, 3), 255, np.uint8))


def test_none_changes_nothing(slide):
    grid = tile_grid(slide, Tiling(tile_um=32, tile_px=64, min_tissue=0.5))
    tile = slide.tile(64, 64, 32, 64)
    assert np.array_equal(stain_normaliser(slide, grid, Stain())(tile), tile)


@pytest.mark.parametrize(
    "settings", [{"method": "vahadane"}, {"method": "macenko", "scope": "batch"}, {"scope": "tile"}]
)
def test_bad_recipes(settings):
    with pytest.raises(UserError, match=r"stain\."):
        Stain(**settings)
