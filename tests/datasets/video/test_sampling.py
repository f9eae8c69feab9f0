"""Which frames are seen: the rules of the papers as tables, and what holds for every clip."""

import numpy as np
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.settings import SAMPLINGS, Clip
from clinvit.datasets.video.sampling import middle_frames, test_frames, train_frames
from hypothesis import given
from hypothesis import strategies as st

test_frames.__test__ = False
FRAMEWISE = [name for name in SAMPLINGS if name != "volume"]


@given(st.sampled_from(FRAMEWISE), st.integers(1, 400), st.integers(1, 32), st.integers(1, 8), st.integers(0, 2**63))
def test_frames_are_in_order_and_within_the_clip(sampling, length, frames, stride, seed):
    clip = Clip(sampling, stride)
    views = [test_frames(clip, length, frames, view, 5) for view in range(5)]
    for ids in (train_frames(clip, length, frames, seed), middle_frames(clip, length, frames), *views):
        assert ids.shape == (frames,) and ids.dtype == np.int64
        assert ids.min() >= 0 and ids.max() < length and (np.diff(ids) >= 0).all()
    assert (train_frames(clip, length, frames, seed) == train_frames(clip, length, frames, seed)).all()


@pytest.mark.parametrize(
    "clip, length, expected",
    [
        (Clip("strided", 4), 64, [0, 4, 8, 12]),  # 4 x 16 frames, hence no room: see below for the count
        (Clip("strided", 4), 10, [0, 4, 8, 8]),
        (Clip("strided", 1), 1, [0, 0, 0, 0]),
        (Clip("dense", 4), 16, [0, 5, 10, 15]),
        (Clip("sparse"), 40, [5, 15, 25, 35]),
        (Clip("uniform"), 40, [5, 15, 25, 35]),
        (Clip("uniform"), 2, [0, 0, 1, 1]),
    ],
)
def test_middle_frames(clip, length, expected):
    if (clip.sampling, length) == ("strided", 64):
        expected = [24 + i for i in expected]
    assert middle_frames(clip, length, 4).tolist() == expected


def test_dense_follows_the_official_code():
    clip = Clip("dense", 4)
    # A clip longer than 64 frames: linspace(start, end, 16), cut to end - 1, whatever the end drawn.
    ids = train_frames(clip, 300, 16, seed=3)
    start, end = int(ids[0]), int(ids[-1]) + 1
    assert end - start == 64
    assert ids.tolist() == np.clip(np.linspace(start, end, 16), start, end - 1).astype(int).tolist()
    # A shorter one: linspace(0, n, n // stride), filled up with n, cut to n - 1.
    short = np.clip(np.concatenate([np.linspace(0, 30, 7), [30] * 9]), 0, 29).astype(int)
    assert train_frames(clip, 30, 16, seed=3).tolist() == short.tolist()
    # Testing: every 4th frame, five starts spread evenly.
    starts = [int(test_frames(clip, 300, 16, view, 5)[0]) for view in range(5)]
    assert starts == [4 * int(view * (75 - 16) / 4) for view in range(5)]


def test_sparse_testing_interleaves_its_views():
    views = [test_frames(Clip("sparse"), 64, 16, view, 2) for view in range(2)]
    assert sorted(np.concatenate(views).tolist()) == list(range(0, 64, 2))
    assert views[0].tolist() == list(range(0, 64, 4))


def test_training_reaches_the_whole_clip():
    for sampling in ("strided", "dense", "sparse"):
        seen = np.concatenate([train_frames(Clip(sampling, 2), 100, 8, seed) for seed in range(300)])
        assert seen.min() < 3 and seen.max() > 94


@pytest.mark.parametrize("field, value", [("sampling", "densely"), ("stride", 0), ("repeats", 0)])
def test_wrong_words_are_refused(field, value):
    with pytest.raises(UserError, match=field):
        Clip(**{field: value})
