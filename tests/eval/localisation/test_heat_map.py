"""Score maps, their polygons with exact edges, the overlay, GeoJSON, and the TIFF that OpenSlide opens."""

import io
import json

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.eval.localisation.heat_files import write_geojson, write_heat_tiff, write_tiles_geojson
from clinvit.eval.localisation.heat_map import colour_table, coloured, score_map, smoothed
from clinvit.eval.localisation.overlay import nice_length, over_slide, slide_png
from clinvit.eval.localisation.regions import regions
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image


def inside(ring, x, y):
    """Even-odd rule, for points that lie on no edge."""
    odd = np.zeros(x.shape, bool)
    for (x0, y0), (_, y1) in zip(ring, np.roll(ring, -1, axis=0)):
        if y0 != y1:
            odd ^= (x < x0) & (y > min(y0, y1)) & (y < max(y0, y1))
    return odd


DIAGONAL_HOLES = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], bool)
TOUCHING_ITSELF = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1]], bool)


@settings(max_examples=200, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.booleans()))
@example(DIAGONAL_HOLES)
@example(TOUCHING_ITSELF)
def test_polygons_cover_exactly_the_cells(mask):
    found = regions(mask)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    covered = np.zeros(mask.shape, int)
    for region in found:
        filled = inside(region.outer, x, y)
        for hole in region.holes:
            assert filled[inside(hole, x, y)].all()  # a hole lies in its outer line, and holes do not overlap
            filled &= ~inside(hole, x, y)
        assert np.flatnonzero(filled).tolist() == region.cells.tolist()
        covered += filled
        for ring in (region.outer, *region.holes):
            assert len({tuple(point) for point in ring}) == len(ring) >= 4  # no point twice
            assert ((np.diff(ring, axis=0) != 0).sum(axis=1) == 1).all()
    assert (covered == mask).all()


def test_holes_that_touch_are_two():
    (region,) = regions(DIAGONAL_HOLES)
    assert len(region.holes) == 2


def test_tiles_on_a_lattice_are_cells():
    coords = np.array([[130, 50], [230, 50], [130, 150]])
    found = score_map(coords, [0.1, 0.5, 1], 100)
    assert (found.x0, found.y0, found.cell_px) == (130, 50, 100)
    assert found.values == pytest.approx(np.array([[0.1, 0.5], [1, np.nan]], np.float32), nan_ok=True)


def test_overlapping_tiles_are_averaged():
    found = score_map(np.array([[0, 0], [50, 0]]), [0.2, 0.8], 100)
    assert found.cell_px == 50
    assert found.values == pytest.approx(np.array([[0.2, 0.5, 0.8]] * 2), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 40), st.sampled_from([64, 100, 101]))
def test_tiles_anywhere_are_shared_out_by_area(seed, count, tile):
    rng = np.random.default_rng(seed)
    coords, scores = rng.integers(0, 700, (count, 2)), rng.random(count)
    found = score_map(coords, scores, tile)
    # Every level-0 px by itself, then the mean over a cell, weighted by how many tiles lie on each.
    total, weight = np.zeros((2, 900, 900))
    for (x, y), score in zip(coords, scores):
        total[y : y + tile, x : x + tile] += score
        weight[y : y + tile, x : x + tile] += 1
    if found.cell_px.is_integer():
        cell, (height, width) = int(found.cell_px), found.values.shape
        window = (
            slice(int(found.y0), int(found.y0) + height * cell),
            slice(int(found.x0), int(found.x0) + width * cell),
        )
        sums = [a[window].reshape(height, cell, width, cell).sum((1, 3)) for a in (total, weight)]
        expected = np.divide(*sums, out=np.full((height, width), np.nan), where=sums[1] > 0)
        assert found.values == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert np.nanmin(found.values) >= scores.min() - 1e-6
    assert np.nanmax(found.values) <= scores.max() + 1e-6


def test_smoothing_keeps_a_constant_and_what_is_missing():
    coords = np.array([[x, y] for x in range(0, 1000, 100) for y in range(0, 800, 100) if (x, y) != (300, 300)])
    found = smoothed(score_map(coords, np.full(len(coords), 0.4), 100), 150)
    assert np.isnan(found.values[3, 3])
    assert np.nanmin(found.values) == pytest.approx(np.nanmax(found.values)) == pytest.approx(0.4)


@pytest.mark.parametrize("coords, scores, words", [
    (np.zeros((0, 2)), [], "no tile"), (np.zeros((2, 2)), [0.5], "2 tiles"), (np.zeros((1, 2)), [-0.1], "0..1"),
])  # fmt: skip
def test_bad_tiles_are_refused(coords, scores, words):
    with pytest.raises(DataError, match=words):
        score_map(coords, scores, 100)


def test_colours_rise_in_lightness():
    lightness = colour_table() @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > -1).all()
    assert lightness[-1] - lightness[0] > 200
    assert coloured(np.array([np.nan, 0, 1])).tolist() == [[255] * 3, *colour_table()[[0, -1]].tolist()]


def test_overlay_is_the_overview_where_there_is_no_tile():
    overview = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    found = score_map(np.array([[200, 100]]), [1.0], 100)
    image = over_slide(overview, found, downsample=10, opacity=1)
    changed = (image != overview).any(axis=2)
    assert not np.delete(np.delete(changed, slice(10, 20), 0), slice(20, 30), 1).any()
    assert (image[10:20, 20:30] == colour_table()[-1]).all()


def test_overlay_png_with_everything():
    overview = np.full((300, 500, 3), 230, np.uint8)
    found = score_map(np.array([[1000, 800]]), [0.9], 400)
    outline = np.array([[500, 500], [2000, 500], [2000, 1500]])
    options = {"downsample": 8, "outlines": [outline], "title": "a title much too long " * 9}
    pixels = np.asarray(Image.open(io.BytesIO(slide_png(overview, found, 0.5, **options))))
    assert pixels.shape[0] > 300
    assert pixels.shape[1] == 500
    green = (pixels[:300].astype(int) == (0, 130, 60)).all(axis=2)
    y, x = np.nonzero(green)
    assert (x.min(), x.max(), y.min()) == pytest.approx((62, 250, 62), abs=4)


@pytest.mark.parametrize(
    "longest, nice", [(1, 1), (1.9, 1), (4.9, 2), (700, 500), (0.03, 0.02), (10, 10), (1000, 1000)]
)
def test_nice_lengths(longest, nice):
    assert nice_length(longest) == pytest.approx(nice)


def test_geojson_for_qupath(tmp_path):
    y, x = np.nonzero(np.pad(DIAGONAL_HOLES, ((0, 2), (0, 0))) | (np.arange(6) == 5)[:, None])
    found = score_map(np.column_stack([x, y]) * 100 + 7, np.linspace(0.6, 1, len(x)), 100)
    assert write_geojson(tmp_path / "r.geojson", found, 0.5, (390, 590), "msi") == 2
    told = json.loads((tmp_path / "r.geojson").read_text())
    assert told["type"] == "FeatureCollection"
    first, second = told["features"]
    assert [len(feature["geometry"]["coordinates"]) for feature in (first, second)] == [3, 1]
    for feature in (first, second):
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert (np.array(ring) <= (390, 590)).all()  # cut at the edge of the slide
        properties = feature["properties"]
        assert properties["objectType"] == "annotation"
        assert properties["classification"]["name"] == "msi" and properties["name"].startswith("msi ")
        assert all(isinstance(value, int | float) for value in properties["measurements"].values())
    assert first["properties"]["measurements"]["Area px^2"] == 383 * 400 - 2 * 100**2
    outer, *holes = (np.array(ring) for ring in first["geometry"]["coordinates"])
    areas = [(ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1]).sum() for ring in (outer, *holes)]
    assert [area > 0 for area in areas] == [
        True,
        False,
        False,
    ]  # RFC 7946: outer lines and holes run against each other
    assert (outer.min(axis=0).tolist(), outer.max(axis=0).tolist()) == ([7, 7], [390, 407])
    assert write_geojson(tmp_path / "none.geojson", found, 1.1, (390, 590), "msi") == 0
    assert json.loads((tmp_path / "none.geojson").read_text())["features"] == []


def test_tiles_as_geojson(tmp_path):
    write_tiles_geojson(tmp_path / "t.geojson", np.array([[10, 20], [110, 20]]), [0.25, 1], 100, "msi", 0.5)
    features = json.loads((tmp_path / "t.geojson").read_text())["features"]
    assert features[0]["geometry"]["coordinates"] == [[[10, 20], [110, 20], [110, 120], [10, 120], [10, 20]]]
    assert [f["properties"]["objectType"] for f in features] == ["tile", "tile"]
    assert [f["properties"]["measurements"] for f in features] == [{"msi score": 0.25}, {"msi score": 1}]
    classes = [f["properties"].get("classification", {}).get("name") for f in features]
    assert classes == [None, "msi"], "a tile below the threshold is of no class"
    assert features[0]["properties"]["color"] != features[1]["properties"]["color"]


def test_tiff_is_a_pyramid_that_lies_over_the_slide(tmp_path):
    openslide = pytest.importorskip("openslide")
    pytest.importorskip("tifffile")
    width, height, mpp = 20_001, 12_000, 0.25
    found = score_map(np.array([[4000, 2000], [4448, 2000]]), [1.0, 0.5], 448)
    write_heat_tiff(tmp_path / "h.tif", found, (width, height), mpp, downsample=16)
    with openslide.OpenSlide(tmp_path / "h.tif") as slide:
        assert slide.dimensions == (1251, 750)
        assert slide.level_count == 4
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp * 16)
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        coarse = np.asarray(slide.read_region((0, 0), 2, slide.level_dimensions[2]).convert("RGB"))
    high = (pixels == colour_table()[-1]).all(axis=2)
    y, x = np.nonzero(high)
    assert (x.min() * 16, y.min() * 16, (x.max() + 1) * 16, (y.max() + 1) * 16) == (4000, 2000, 4448, 2448)
    assert (pixels[0, 0] == 255).all()
    assert (coarse[(2000 + 224) // 64, (4000 + 224) // 64] == colour_table()[-1]).all()
