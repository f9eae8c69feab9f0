"""Spoilt tiles: what is planted on a phantom is found, clean tissue is left alone, limits are counted and stored."""

from dataclasses import replace

import cv2
import h5py
import numpy as np
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.loading.replies import packed, unpacked
from clinvit.datasets.manifest.tables import read_csv
from clinvit.datasets.slides.hdf5 import read_tiles, write_features
from clinvit.datasets.slides.quality import bubbles, folds, measure_quality, sharpness, spoilt
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.slides.settings import Quality, Tiling, Tissue
from clinvit.datasets.slides.tiles import QUALITY, shares, tile_grid
from clinvit.datasets.slides.tiling import tile_slide, write_tiled
from clinvit.datasets.slides.tissue import find_tissue
from clinvit.phantoms.histology import BLOCK_PX, Histology
from clinvit.phantoms.histology_artefacts import ARTEFACTS
from clinvit.phantoms.slides import write_pyramid

from .dicom_slides import write_dicom_slide

SIDE_PX, MPP = (2112, 1792), 0.5
LIMITS = Quality(min_sharpness=60, max_fold=0.3, max_pen=0.1, max_bubble=0.1)
# Ink stays tissue here, so that its tiles are there to be judged.
TILING = Tiling(tile_um=48, tile_px=96, min_tissue=0.5, tissue=Tissue(remove_ink=False), quality=LIMITS)
COLUMN = {"fold": "fold", "blur": "sharpness", "bubble": "bubble", "pen": "pen"}


def phantom(*artefacts, seed=2):
    return Histology(*SIDE_PX, seed=seed, mpp=MPP, tumours=1, artefacts=artefacts)


@pytest.fixture(scope="module")
def spoilt_slide(tmp_path_factory):
    slide, path = phantom(*ARTEFACTS), tmp_path_factory.mktemp("quality") / "spoilt.tif"
    pixels = np.vstack(list(slide.strips()))
    write_pyramid(path, [pixels[top : top + BLOCK_PX] for top in range(0, len(pixels), BLOCK_PX)], mpp=MPP)
    return slide, path, pixels


@pytest.fixture(scope="module")
def tiled(spoilt_slide):
    return tile_slide(spoilt_slide[1], TILING, None)


def planted(slide, kind, grid, share):
    """Tiles of which more than this share lies in what was planted."""
    mask = np.zeros((SIDE_PX[1] // 8, SIDE_PX[0] // 8), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline / 8).astype(np.int32) for outline in slide.artefacts.outlines[kind]], 1)
    return shares(mask, 8, grid.coords, grid.tile_level0_px) > share


def test_what_is_planted_is_found_and_nothing_far_from_it(spoilt_slide, tiled):
    slide, grid = spoilt_slide[0], tiled.measured
    reasons = np.array(tiled.reasons)
    near = np.zeros(len(grid.coords), bool)
    for kind in ARTEFACTS:
        within = planted(slide, kind, grid, 0.6)
        assert within.sum() >= 2, kind
        assert (reasons[within] != "").mean() >= 0.75, kind
        # The rim of a bubble reaches to its outside.
        near |= planted(slide, kind, grid, 0.0)
    near |= shares(grown(slide), 8, grid.coords, grid.tile_level0_px) > 0
    assert (reasons[~near] == "").mean() > 0.97 and (~near).sum() > 50


def grown(slide):
    mask = np.zeros((SIDE_PX[1] // 8, SIDE_PX[0] // 8), np.uint8)
    for outlines in slide.artefacts.outlines.values():
        cv2.fillPoly(mask, [np.rint(outline / 8).astype(np.int32) for outline in outlines], 1)
    return cv2.dilate(mask, np.ones((9, 9), np.uint8))


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_each_column_sees_its_own(spoilt_slide, tiled, kind):
    within = planted(spoilt_slide[0], kind, tiled.measured, 0.6)
    values = tiled.measured.quality[COLUMN[kind]]
    clear = shares(grown(spoilt_slide[0]), 8, tiled.measured.coords, tiled.measured.tile_level0_px) == 0
    if kind == "blur":
        assert np.median(values[within]) < 0.2 * np.median(values[clear])
    else:
        assert np.median(values[within]) > 0.5 > np.quantile(values[clear], 0.99)


@pytest.mark.parametrize("seed", [5])
def test_clean_tissue_is_left_alone(seed, tmp_path):
    path = tmp_path / "clean.tif"
    write_pyramid(path, phantom(seed=seed).strips(), mpp=MPP)
    found = tile_slide(path, TILING, None)
    assert found.facts["tiles_judged"] - found.facts["tiles"] <= 0.02 * found.facts["tiles_judged"]
    assert found.facts["left_out_bubble"] == found.facts["left_out_pen"] == found.facts["left_out_folded"] == 0


def test_counts_columns_and_the_table_of_all_tiles_agree(tiled, tmp_path):
    facts = write_tiled(tiled, tmp_path, "a")
    table = read_csv(tmp_path / "quality" / "a.csv")
    assert list(table.columns) == ["x", "y", "tissue", *QUALITY, "left_out"]
    assert len(table) == facts["tiles_judged"] and (table["left_out"] == "").sum() == facts["tiles"]
    for reason in ("bubble", "pen", "folded", "blurred"):
        assert (table["left_out"] == reason).sum() == facts[f"left_out_{reason}"] > 0
    kept = read_tiles(tmp_path / "a.h5")
    assert len(kept.coords) == facts["tiles"] and tuple(kept.quality) == QUALITY
    assert kept.quality["sharpness"].min() >= LIMITS.min_sharpness
    expected = table[table["left_out"] == ""]["fold"].astype(float)
    assert kept.quality["fold"] == pytest.approx(expected.to_numpy(), rel=1e-5, abs=1e-6)
    assert (tmp_path / "images" / "a.jpg").stat().st_size > 0 < (tmp_path / "quality" / "a.jpg").stat().st_size


def test_files_of_features_keep_the_columns(tiled, tmp_path):
    features = np.ones((len(tiled.grid.coords), 4), np.float32)
    write_features(tmp_path / "a.h5", features, tiled.grid, {})
    assert tuple(read_tiles(tmp_path / "a.h5").quality) == QUALITY


def test_a_column_of_another_length_is_refused(tiled, tmp_path):
    write_tiled(tiled, tmp_path, "a")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["pen"]
        file["pen"] = np.zeros(3, np.float32)
    with pytest.raises(DataError, match="`pen` is not as many numbers"):
        read_tiles(tmp_path / "a.h5")


def test_nothing_is_measured_or_left_out_unless_asked(spoilt_slide):
    found = tile_slide(spoilt_slide[1], replace(TILING, quality=Quality()), None)
    assert found.grid.quality == {} and found.measured is None and "tiles_judged" not in found.facts
    measured = tile_slide(spoilt_slide[1], replace(TILING, quality=Quality(measure=True)), None)
    assert len(measured.grid.coords) == len(found.grid.coords) and tuple(measured.grid.quality) == QUALITY
    assert not any(measured.reasons)


def test_what_was_judged_comes_back_from_a_reading_process(tiled):
    (head, large), most = packed(0, tiled), 1e9
    pieces = iter(large)

    def receive(place):
        place[:] = next(pieces)

    _, back = unpacked(bytes(head), receive, most)
    assert back.reasons == tiled.reasons and back.measured.quality.keys() == tiled.measured.quality.keys()


def test_dicom_slides_are_judged_too(spoilt_slide, tmp_path):
    files = write_dicom_slide(tmp_path, "d", spoilt_slide[2])
    found = tile_slide(files[1], TILING, None)
    assert all(found.facts[f"left_out_{reason}"] > 0 for reason in ("bubble", "pen", "folded", "blurred"))


def test_a_slide_of_spoilt_tiles_alone_is_refused(spoilt_slide):
    with pytest.raises(DataError, match=r"all of its tiles are left out .* blurred.*quality.min_sharpness"):
        tile_slide(spoilt_slide[1], replace(TILING, quality=Quality(min_sharpness=1e9)), None)


def test_a_tile_has_one_reason_and_ink_comes_before_blur():
    quality = {"sharpness": [1, 1, 500], "fold": [0, 0.9, 0], "pen": [0.8, 0, 0], "bubble": [0, 0, 0]}
    found = spoilt({name: np.array(values) for name, values in quality.items()}, LIMITS)
    assert {reason: mask.tolist() for reason, mask in found.items()} == {
        "bubble": [False] * 3, "pen": [True, False, False], "folded": [False, True, False], "blurred": [False] * 3,
    }  # fmt: skip


def test_sharpness_is_the_variance_of_the_laplacian():
    tile = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY).astype(float)
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    assert sharpness(tile) == pytest.approx(laplacian.var(), rel=1e-6)


def test_a_ring_is_a_bubble_and_a_disc_or_an_arc_is_none():
    def seen(draw):
        image = np.full((300, 300, 3), 220, np.uint8)
        draw(image)
        return bubbles(image, 8.0)

    ring = seen(lambda image: cv2.circle(image, (150, 140), 50, (40, 40, 40), 4))
    assert ring[140, 150] and ring.sum() == pytest.approx(np.pi * 54**2, rel=0.1) and not ring[20, 20]
    assert not seen(lambda image: cv2.circle(image, (150, 140), 50, (40, 40, 40), -1)).any()
    assert not seen(lambda image: cv2.ellipse(image, (150, 140), (50, 50), 0, 0, 120, (40, 40, 40), 4)).any()


def test_folds_follow_the_stain_of_the_slide():
    pale, dark = np.full((60, 60, 3), (230, 180, 210), np.uint8), np.full((60, 60, 3), (150, 50, 110), np.uint8)
    both = np.hstack([pale, pale, dark])
    tissue = np.ones(both.shape[:2], bool)
    assert folds(both, tissue)[:, 130:].all() and not folds(both, tissue)[:, :110].any()
    assert not folds(dark, np.ones(dark.shape[:2], bool)).any()
    assert not folds(pale, np.zeros(pale.shape[:2], bool)).any()


def test_measures_do_not_depend_on_the_file(spoilt_slide, tmp_path):
    tiles = replace(TILING, quality=Quality())
    path = tmp_path / "plain.png"
    cv2.imwrite(str(path), spoilt_slide[2][..., ::-1])
    with open_slide(path, MPP) as slide:
        mask = find_tissue(slide, tiles.tissue)
        found = measure_quality(slide, tile_grid(slide, tiles, mask), mask)
    assert found["bubble"].max() > 0.9 and found["pen"].max() > 0.9


@pytest.mark.parametrize("artefact", ["hair", "Fold"])
def test_unknown_artefacts_of_phantoms_are_refused(artefact):
    with pytest.raises(UserError, match=f"artefact '{artefact}': one of fold, blur, bubble, pen"):
        phantom(artefact)


def test_artefacts_change_nothing_elsewhere_and_not_with_the_block(spoilt_slide):
    slide, _, whole = spoilt_slide
    clean = phantom()
    far = cv2.resize(grown(slide), SIDE_PX, interpolation=cv2.INTER_NEAREST) == 0
    far &= cv2.erode(far.astype(np.uint8), np.ones((65, 65), np.uint8)).astype(bool)
    difference = np.abs(whole.astype(int) - np.vstack(list(clean.strips())))[far]
    assert difference.mean() < 0.05 and np.quantile(difference, 0.999) <= 24
    part = slide.region(700, 300, 500, 400).astype(int)
    assert np.abs(part - whole[300:700, 700:1200]).mean() < 0.05
