"""From pixels to the model's input: the same way for images and clips, the same draw for every frame."""

import numpy as np
import pytest
from clinvit.datasets.settings import Clip
from clinvit.datasets.transforms.augment import Augment, build_train
from clinvit.datasets.transforms.views import EvalView, TrainView, over_frames

AUGMENT = Augment(size=32, crop_scale=(0.4, 0.9), rotate_deg=10, brightness_contrast=0.2)


def clip_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_every_frame_has_the_same_draw():
    still = np.repeat(clip_of(1, 50, 60), 9, axis=0)
    view = TrainView(AUGMENT, Clip("uniform", repeats=3), 6)
    draws = view(still, 7)
    assert draws.shape == (3, 1, 6, 32, 32) and draws.dtype == np.uint8
    assert (draws == draws[:, :, :1]).all(), "all frames alike"
    assert not (draws[0] == draws[1]).all(), "each draw its own crop"
    np.testing.assert_array_equal(draws, view(still, 7))


@pytest.mark.parametrize("shape", [(6, 50, 60), (6, 50, 60, 3)])
def test_frames_as_channels_are_frames_one_by_one(shape):
    frames = clip_of(*shape)
    transform = build_train(Augment(size=32, crop_scale=(0.4, 0.9), flip=1.0))
    joined = over_frames(transform, frames, 5)
    single = np.stack([transform(frame, 5) for frame in frames])
    single = single[None] if frames.ndim == 3 else single.transpose(3, 0, 1, 2)
    assert joined.shape == single.shape
    assert np.abs(joined.astype(int) - single).max() <= 1


def test_colours_are_changed_three_channels_at_a_time():
    view = TrainView(Augment(size=32, randaug="m7-n4-mstd0.5-inc1"), Clip("uniform"), 4)
    assert view(clip_of(9, 40, 40, 3), 1).shape == (1, 3, 4, 32, 32)


def test_images_go_the_same_way():
    image = clip_of(50, 60)
    assert TrainView(AUGMENT, Clip(repeats=4), 1)(image, 3).shape == (1, 1, 32, 32)
    view = EvalView(32, "crop", 40, Clip(), 1, crops=3)
    crops = [view(image, number) for number in range(len(view))]
    assert len(crops) == 3 and crops[0].shape == (1, 1, 32, 32)
    assert not (crops[0] == crops[2]).all()


def test_views_in_testing_are_segments_times_crops():
    clip = clip_of(100, 40, 80)
    view = EvalView(32, "crop", 32, Clip("dense", 2), 8, segments=4, crops=3)
    shown = np.stack([view(clip, number)[0, 0] for number in range(len(view))])
    assert shown.shape == (12, 8, 32, 32) and len(view.single()) == 1
    # The outer crops are the ends of the longer side.
    ends = EvalView(40, "crop", 40, Clip("dense", 2), 8, segments=1, crops=3)
    frames = clip[ends.frames_of(100)]
    np.testing.assert_array_equal(ends(clip, 0)[0, 0], frames[:, :, :40])
    np.testing.assert_array_equal(ends(clip, 2)[0, 0], frames[:, :, 40:])


def test_a_volume_is_taken_as_it_is():
    volume = clip_of(16, 32, 32)
    view = EvalView(32, "squash", None, Clip("volume"), 16)
    np.testing.assert_array_equal(view(volume)[0, 0], volume)
    train = TrainView(Augment(32, (1.0, 1.0), (1.0, 1.0), flip=0.0), Clip("volume"), 16)
    np.testing.assert_array_equal(train(volume, 3)[0, 0], volume)
    assert view.frames_of(160).tolist() == list(range(5, 160, 10))
