"""Multi-crop: sizes, determinism, and each change of colour against its definition."""

import pickle

import numpy as np
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.transforms.multi_crop import MultiCrop, MultiCropView, random_resized_crop
from PIL import Image, ImageEnhance
from torchvision.transforms import functional as tv

PLAIN = {"flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": (0.0, 0.0, 0.0), "solarise": 0.0}


@pytest.fixture
def tile():
    """A smooth RGB image of mid-range values, so that nothing is clipped between two changes."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(90, 150, (12, 12, 3)).astype(np.uint8))
    return np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("local_crops", [0, 1, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_two_large_and_n_small_crops(tile, local_crops, channels):
    pixels = tile if channels == 3 else tile[..., 0]
    out = MultiCropView(MultiCrop(local_crops=local_crops, local_px=16), 32)(pixels, 5)
    assert out["image"].shape == (1, 2, channels, 32, 32) and out["image"].dtype == np.uint8
    assert ("local" in out) == (local_crops > 0)
    if local_crops:
        assert out["local"].shape == (1, local_crops, channels, 16, 16)
        assert len({crop.tobytes() for crop in out["local"][0]}) == local_crops


def test_a_seed_decides_everything_in_any_process(tile):
    view = MultiCropView(MultiCrop(local_px=16, turns=True), 32)
    again = pickle.loads(pickle.dumps(view))
    draws = [view(tile, seed)["local"].tobytes() for seed in range(20)]
    assert draws == [again(tile, seed)["local"].tobytes() for seed in range(20)] and len(set(draws)) == 20


@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation", "hue"])
def test_colours_change_as_torchvision_defines_it(tile, part):
    most = 0.1 if part == "hue" else 0.4
    limits = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0) | {part: most}
    view = MultiCropView(MultiCrop(**(PLAIN | {"jitter": 1.0} | limits)), 64)
    change, middle = getattr(tv, f"adjust_{part}"), 0.0 if part == "hue" else 1.0
    factors = middle + np.linspace(-most, most, 81)
    possible = np.stack([np.asarray(change(Image.fromarray(tile), factor)).astype(int) for factor in factors])
    moved = []
    for seed in range(6):
        changed = view._colours(tile, np.random.default_rng(seed)).astype(int)
        assert np.abs(possible - changed).mean(axis=(1, 2, 3)).min() < 1.0
        moved.append(np.abs(changed - tile).mean())
    assert max(moved) > 1.5


def test_grey_and_solarised(tile):
    grey = MultiCropView(MultiCrop(**(PLAIN | {"grey": 1.0})), 64)._colours(tile, np.random.default_rng(0))
    expected = np.asarray(ImageEnhance.Color(Image.fromarray(tile)).enhance(0.0)).astype(int)
    assert np.abs(grey.astype(int) - expected).max() <= 1
    bright = np.full((40, 40, 3), 200, np.uint8)
    out = MultiCropView(MultiCrop(**(PLAIN | {"solarise": 1.0, "local_px": 16})), 32)(bright, 0)
    assert (out["image"][0, 0] == 200).all() and (out["image"][0, 1] == 55).all() and (out["local"] == 200).all()


def test_grey_images_keep_their_brightness_rules():
    pixels = np.tile(np.arange(60, 160, dtype=np.uint8), (100, 1))
    crops = MultiCrop(**(PLAIN | {"jitter": 1.0, "brightness": 0.0, "contrast": 0.4}))
    out = MultiCropView(crops, 64)._colours(pixels, np.random.default_rng(1)).astype(float)
    assert out.mean() == pytest.approx(pixels.mean(), abs=1) and abs(out.std() / pixels.std() - 1) > 0.02


def test_crops_have_the_share_of_area_that_is_asked_for():
    """A ramp in x tells the width of each crop, one in y its height."""
    ramp = np.stack([*np.meshgrid(np.arange(200), np.arange(200)), np.zeros((200, 200))], axis=2).astype(np.uint8)
    rng = np.random.default_rng(0)
    areas, ratios = [], []
    for _ in range(200):
        crop = random_resized_crop(ramp, rng, 100, (0.1, 0.4)).astype(float)
        width, height = (np.ptp(np.median(crop[..., i], axis=i)) for i in (0, 1))
        areas.append((width + 1) * (height + 1) / 200**2)
        ratios.append((width + 1) / (height + 1))
    assert 0.08 < min(areas) < 0.14 and 0.36 < max(areas) < 0.43
    assert 0.72 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.38


def test_turns_reach_all_eight_ways():
    corner = np.zeros((40, 40), np.uint8)
    corner[:20, :10] = 255
    crops = MultiCrop(**(PLAIN | {"turns": True, "flip": 0.5, "local_crops": 0, "global_scale": (1.0, 1.0)}))
    seen = {(MultiCropView(crops, 40)(corner, seed)["image"][0, 0, 0] > 127).tobytes() for seed in range(200)}
    images = {np.rot90(corner[:, ::s] > 127, k).tobytes() for s in (1, -1) for k in range(4)}
    assert images <= seen


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"local_crops": -1}, "local_crops"), ({"flip": 1.5}, "crops.flip"), ({"blur": (0.1, 2.0, 0.1)}, "crops.blur"),
        ({"local_scale": (0.4, 0.1)}, "crops.local_scale"), ({"hue": 0.6}, "crops.hue"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(wrong, words):
    with pytest.raises(UserError, match=words):
        MultiCrop(**wrong)
