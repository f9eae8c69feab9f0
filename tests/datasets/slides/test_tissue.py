"""Tissue: found where it was drawn, not where there is none; ink, borders, holes and islands."""

import cv2
import numpy as np
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.slides.tissue import Tissue, find_tissue, ink_warning

GLASS, PINK = (243, 242, 244), (222, 150, 190)


def slide_of(drawn, *boxes, background=GLASS, noise=2, mpp=8.0, side=200, seed=0):
    """An open slide of `side` px; each box is (top, bottom, left, right, colour)."""
    pixels = np.tile(np.array(background, np.int16), (side, side, 1))
    for top, bottom, left, right, colour in boxes:
        pixels[top:bottom, left:right] = colour
    shaken = pixels + np.random.default_rng(seed).integers(-noise, noise + 1, pixels.shape)
    return drawn(shaken.clip(0, 255).astype(np.uint8), mpp)


def overlap(mask: np.ndarray, top: int, bottom: int, left: int, right: int) -> float:
    """Intersection over union of a mask with a box."""
    box = np.zeros_like(mask)
    box[top:bottom, left:right] = True
    return (mask & box).sum() / (mask | box).sum()


def otsu_by_hand(levels: np.ndarray) -> int:
    """The level that parts the greatest variance between the two sides, by its definition."""
    levels = np.rint(levels)

    def between(level: int) -> float:
        low, high = levels[levels <= level], levels[levels > level]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

    return max(range(256), key=between)


@pytest.mark.parametrize("mpp", [8.0, 4.0, 1.6])
@pytest.mark.parametrize("colour", [PINK, (120, 70, 150), (235, 205, 222)], ids=["pink", "purple", "pale"])
def test_a_box_of_tissue(drawn, colour, mpp):
    side = round(200 * 8 / mpp)
    box = (side // 4, side // 2, side // 4, 3 * side // 4)
    found = find_tissue(slide_of(drawn, (*box, colour), mpp=mpp, side=side), Tissue())
    assert found.downsample == pytest.approx(8 / mpp, rel=0.01)
    assert overlap(found.mask, 50, 100, 50, 150) > 0.93
    assert 15 <= found.threshold <= 40 and f"{found.threshold:g} of 255" in str(found)


@pytest.mark.parametrize("background", [GLASS, (255, 255, 255), (232, 228, 224)])
@pytest.mark.parametrize("noise", [0, 1, 4])
@pytest.mark.parametrize("method", ["saturation", "grey"])
def test_an_empty_slide_has_none(drawn, background, noise, method):
    side = 200 if method == "saturation" else 2000
    found = find_tissue(slide_of(drawn, background=background, noise=noise, side=side), Tissue(method))
    assert not found.mask.any() and found.fraction == 0


def test_a_slide_full_of_tissue_is_not_split(drawn):
    """Otsu parts pale from dark tissue; the limit keeps both."""
    found = find_tissue(slide_of(drawn, (0, 200, 0, 100, (120, 60, 150)), background=PINK), Tissue())
    assert found.otsu > 40 and found.threshold == 40 and found.fraction > 0.99


INKS = [("green", (20, 150, 70)), ("cyan", (40, 170, 160)), ("blue", (30, 40, 170)), ("black", (25, 22, 28))]


@pytest.mark.parametrize("colour", [ink for _, ink in INKS], ids=[name for name, _ in INKS])
def test_ink_is_left_out(drawn, colour):
    boxes = (120, 180, 40, 160, PINK), (10, 30, 20, 180, colour), (140, 150, 60, 120, colour)
    found = find_tissue(slide_of(drawn, *boxes), Tissue())
    assert not found.mask[:60].any() and not found.mask[140:150, 60:120].any()
    assert found.mask[123:135, 45:155].mean() > 0.98
    kept = find_tissue(slide_of(drawn, *boxes), Tissue(remove_ink=False))
    assert kept.mask[12:28, 25:175].any() and kept.mask[142:148, 65:115].all()


# Optical density vectors of what has the colour of ink, each beside a second stain: tissue of two in patches.
STAINS = {
    "Masson": ((0.80, 0.59, 0.11), (0.10, 0.74, 0.67)),
    "methyl green and DAB": ((0.98, 0.14, 0.13), (0.27, 0.57, 0.78)),
    "alcian blue": ((0.87, 0.46, 0.16), (0.55, 0.75, 0.35)),
    "light green": ((0.95, 0.25, 0.20), (0.46, 0.83, 0.31)),
    "Giemsa": ((0.83, 0.51, 0.20), (0.09, 0.95, 0.28)),
    "haematoxylin": ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)),
    "light green alone": ((0.95, 0.25, 0.20), (0.95, 0.25, 0.20)),
}


def stained(first, second, density, seed=0):
    """(300, 300, 3) uint8: an ellipse of tissue with two stains in patches, on glass."""
    rng = np.random.default_rng(seed)
    tissue = cv2.ellipse(np.zeros((300, 300), np.float32), (150, 150), (110, 80), 0, 0, 360, 1, -1)
    patches = (cv2.resize(rng.random((12, 12)).astype(np.float32), (300, 300)) > 0.5)[..., None]
    shade = 0.7 + 0.6 * cv2.resize(rng.random((60, 60)).astype(np.float32), (300, 300))
    depth = np.where(patches, density * np.array(first), 0.5 * np.array(second)) * (tissue * shade)[..., None]
    return (243 * 10**-depth + rng.normal(0, 2, (300, 300, 3))).clip(0, 255).astype(np.uint8), tissue > 0


@pytest.mark.parametrize("density", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", STAINS)
def test_special_stains_are_no_ink(drawn, name, density):
    pixels, tissue = stained(*STAINS[name], density)
    found = find_tissue(drawn(pixels, 8.0), Tissue())
    assert (found.mask & tissue).sum() > 0.9 * tissue.sum(), str(found)
    if found.ink >= 0.1:
        assert found.ink_kept and "special stain" in found.warning
        assert ink_warning(pixels, 8.0) == found.warning


@pytest.mark.parametrize("colour", [ink for name, ink in INKS if name != "black"])
@pytest.mark.parametrize("thickness", [6, 15, 30])
def test_a_pen_around_and_across_tissue_is_ink(drawn, colour, thickness):
    pixels, _ = stained(*STAINS["haematoxylin"], 0.3)
    cv2.rectangle(pixels, (20, 20), (280, 280), colour, thickness)
    cv2.line(pixels, (40, 40), (260, 260), colour, thickness)
    found = find_tissue(drawn(pixels, 8.0), Tissue())
    assert not found.ink_kept and "remove_ink" in found.warning and found.ink > 0.1
    assert not found.mask[20:24].any()


def test_an_ordinary_slide_has_no_warning(drawn):
    pixels, _ = stained(*STAINS["haematoxylin"], 0.3)
    found = find_tissue(drawn(pixels, 8.0), Tissue())
    assert found.ink < 0.01 and found.warning == "" == ink_warning(pixels, 8.0)
    assert find_tissue(drawn(pixels, 8.0), Tissue(remove_ink=False)).warning == ""


def test_black_borders_are_left_out(drawn):
    boxes = (0, 200, 0, 30, (0, 0, 0)), (170, 200, 0, 200, (8, 6, 9)), (60, 120, 80, 160, PINK)
    found = find_tissue(slide_of(drawn, *boxes), Tissue())
    assert overlap(found.mask, 60, 120, 80, 160) > 0.95


def test_holes_and_islands_by_their_area(drawn):
    """At 8 microns per px, 50,000 square microns are 781 px: 28 x 28."""
    boxes = (
        (20, 120, 20, 120, PINK), (40, 60, 40, 60, GLASS), (75, 110, 75, 110, GLASS),
        (150, 170, 20, 40, PINK), (150, 185, 100, 135, PINK),
    )  # fmt: skip
    found = find_tissue(slide_of(drawn, *boxes), Tissue())
    assert found.mask[45:55, 45:55].all() and not found.mask[80:105, 80:105].any()
    assert not found.mask[145:175, 15:45].any() and found.mask[155:180, 105:130].all()
    strict = find_tissue(slide_of(drawn, *boxes), Tissue(min_island_um2=20_000, max_hole_um2=20_000))
    assert not strict.mask[48:52, 48:52].any() and strict.mask[155:165, 25:35].all()


def test_grey_is_the_papers(drawn):
    """Grey below Otsu's threshold on an overview of 1/256, ink and all."""
    slide = slide_of(drawn, (512, 1024, 256, 1280, PINK), (0, 256, 0, 512, (20, 150, 70)), mpp=0.25, side=2048)
    found = find_tissue(slide, Tissue("grey"))
    expected = np.zeros((8, 8), bool)
    expected[2:4, 1:5] = expected[:1, :2] = True
    assert found.downsample == 256 and np.array_equal(found.mask, expected)
    overview = slide.overview(8).astype(float) @ (0.299, 0.587, 0.114)
    assert np.array_equal(found.mask, overview < otsu_by_hand(overview) + 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "hue"}, {"overview_mpp": 0}, {"min_island_um2": -1}, {"max_hole_um2": float("nan")},
        {"method": "grey", "remove_ink": False}, {"method": "grey", "overview_mpp": 4.0},
    ],
)  # fmt: skip
def test_bad_recipes(settings):
    with pytest.raises(UserError, match=r"tissue\."):
        Tissue(**settings)


def test_real_tissue(shared_data):
    with open_slide(shared_data / "slides" / "small_HE.svs") as slide:
        found = find_tissue(slide, Tissue())
        saturation = slide.overview(max(found.mask.shape)).astype(int)
    saturation = saturation.max(axis=2) - saturation.min(axis=2)
    assert 0.28 < found.fraction < 0.40
    assert saturation[found.mask].mean() > 40 and saturation[~found.mask].mean() < 12
