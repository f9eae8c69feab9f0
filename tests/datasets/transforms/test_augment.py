"""Augmentation: the ops are timm's, the draws are the seed's, one channel stays one."""

import os
import pickle
import random

import cv2
import numpy as np
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.transforms.augment import Augment, build_eval, build_train
from clinvit.datasets.transforms.randaug import OPS, RandAugment, parse_randaug
from PIL import Image
from timm.data import auto_augment as timm_ops
from torchvision.transforms import v2


def source(height: int = 96, width: int = 128) -> np.ndarray:
    """Smooth like a radiograph, with a bright disc."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 20, 220, cv2.NORM_MINMAX)
    return cv2.circle(smooth, (width // 3, height // 2), height // 5, 230, -1)


EVERYTHING = Augment(size=64, rotate_deg=7, brightness_contrast=0.2, randaug="rand-m6-mstd0.5-inc1")


def coloured() -> np.ndarray:
    """(H, W, 3): three images that are nowhere equal."""
    return np.dstack([source(), source()[::-1] // 2, 255 - source()[:, ::-1]])


@pytest.mark.parametrize("fill", [(128,), (124, 116, 104)])
@pytest.mark.parametrize("image", [source(), coloured()], ids=["grey", "RGB"])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("magnitude", range(11))
@pytest.mark.parametrize("name", OPS)
def test_ops_agree_with_timm(monkeypatch, name, magnitude, sign, image, fill):
    if name == "PosterizeIncreasing" and magnitude == 10:
        pytest.skip("timm asks for no bit at all, which Pillow refuses")
    monkeypatch.setattr(random, "random", lambda: 0.9 if sign < 0 else 0.1)
    to_arguments = timm_ops.LEVEL_TO_ARG[name]
    arguments = to_arguments(magnitude, {}) if to_arguments else ()
    colour = fill[0] if image.ndim == 2 else (fill * 3)[:3]
    options = {"fillcolor": colour, "resample": Image.Resampling.BICUBIC}
    expected = timm_ops.NAME_TO_OP[name](Image.fromarray(image), *arguments, **options)
    np.testing.assert_array_equal(OPS[name](image, magnitude / 10, sign, fill), np.asarray(expected))


def test_randaugment_before_the_crop_sees_the_whole_image(monkeypatch):
    seen = []
    monkeypatch.setattr(RandAugment, "__call__", lambda self, image, rng: seen.append(image.shape) or image)
    for first in (False, True):
        build_train(Augment(size=32, randaug="m6-inc1", randaug_first=first))(source(), 0)
    assert seen == [(32, 32), (96, 128)]


def test_the_set_of_ops_is_timms():
    assert list(OPS) == timm_ops.rand_augment_choices("", increasing=True)


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("name", OPS)
def test_ops_bear_constant_images_and_full_strength(name, level):
    image = np.full((20, 30), level, np.uint8)
    for sign in (-1, 1):
        changed = OPS[name](image, 1.0, sign, (128,))
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8


def test_policies_are_parsed():
    assert parse_randaug("rand-m6-mstd0.5-inc1") == RandAugment(6, 2, 0.5)
    assert parse_randaug("m9-n3-inc1") == RandAugment(9, 3, 0)
    for wrong, words in [("m6", "inc1"), ("m6-q3-inc1", "'q3'"), ("m12-inc1", "within 0..10"), ("", "''")]:
        with pytest.raises(UserError, match=words):
            parse_randaug(wrong)


def test_half_of_the_draws_are_applied():
    image = source()
    policy = RandAugment(6, 1, 0)
    changed = [not np.array_equal(policy(image, np.random.default_rng(i)), image) for i in range(600)]
    assert 0.40 < np.mean(changed) < 0.53  # 1/2 x 14/15, colour doing nothing


@pytest.mark.parametrize("shape", [(96, 128), (96, 128, 1), (96, 128, 3)])
@pytest.mark.parametrize("augment", [Augment(size=64), EVERYTHING])
def test_shapes_and_types(shape, augment):
    image = source() if len(shape) == 2 else np.dstack([source()] * shape[2])
    for transform in (build_train(augment), build_eval(64, 72), build_eval(64, mode="pad")):
        result = transform(image, 3)
        assert result.shape == (64, 64, *shape[2:])
        assert result.dtype == np.uint8
        assert result.flags.c_contiguous


def test_the_seed_decides_everything():
    image = source()
    transform = build_train(EVERYTHING)
    first = [transform(image, seed) for seed in range(20)]
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    again = pickle.loads(pickle.dumps(transform))
    for seed in reversed(range(20)):
        assert np.array_equal(again(image, seed), first[seed])
    assert len({result.tobytes() for result in first}) == 20


def test_channels_and_frames_share_a_draw():
    transform = build_train(EVERYTHING)
    for seed in range(10):
        one = transform(source(), seed)
        three = transform(np.dstack([source()] * 3), seed)
        assert np.array_equal(three, np.dstack([one] * 3))


def test_the_draws_of_the_transforms_are_independent():
    """A Compose gives all its transforms one seed, which ties the flip to the place of the crop."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    results = [build_train(Augment(size=32, crop_scale=(0.1, 0.4)))(ramp, seed) for seed in range(300)]
    middle = np.array([result.mean() for result in results])
    flipped = np.array([result[0, 0] > result[0, -1] for result in results])
    assert 0.4 < flipped.mean() < 0.6
    assert abs(np.corrcoef(middle, flipped)[0, 1]) < 0.2


@pytest.mark.parametrize("shape", [(80, 100), (100, 80), (96, 96), (300, 217)])
def test_eval_crop_is_torchvisions(shape):
    image = source(*shape)
    expected = v2.CenterCrop(56)(v2.Resize(64, v2.InterpolationMode.BICUBIC)(Image.fromarray(image)))
    assert np.array_equal(build_eval(56, 64)(image, 0), np.asarray(expected))


def test_eval_modes():
    image = np.full((40, 80), 200, np.uint8)
    padded = build_eval(64, mode="pad")(image, 0)
    assert padded[32, 32] == 200
    assert padded[0].max() == padded[-1].max() == 0
    assert np.mean(padded > 0) == 0.5
    assert np.all(build_eval(64, mode="squash")(image, 0) == 200)


def test_wrong_settings():
    for settings, words in [
        ({"flip": 1.5}, r"augment\.flip 1\.5 is out of range: a number from 0 to 1"),
        ({"fill": (1, 2)}, "grey level"),
        ({"crop_scale": (0.5, 0.1)}, "crop_scale"),
        ({"crop_ratio": (0, 1)}, "crop_ratio"),
        ({"interpolation": "cubic"}, "bicubic or bilinear"),
        ({"randaug": "strong"}, "not understood"),
    ]:
        with pytest.raises(UserError, match=words):
            Augment(**settings)
    with pytest.raises(UserError, match="crop, squash or pad"):
        build_eval(64, mode="stretch")
    with pytest.raises(UserError, match="at least the size"):
        build_eval(64, 32)


def test_albumentations_is_told_to_keep_off_the_network():
    build_train(Augment())
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
