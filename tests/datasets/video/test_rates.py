"""Clips by time: frames of `clip.fps`, whatever the rate of the file, and a warning where rates differ."""

from dataclasses import replace

import numpy as np
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.loading.cache import build_cache
from clinvit.datasets.loading.readers import ClipReader, VolumeReader, make_reader
from clinvit.datasets.settings import Clip
from clinvit.datasets.transforms.views import EvalView
from clinvit.datasets.video.clips import open_clip, read_clip
from clinvit.datasets.video.facts import frames_at
from clinvit.datasets.video.rates import rate_warning
from clinvit.tests.datasets.video.made import folder, numbered, numbers, video


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize(("rate", "fps"), [(60, 15), (30, 15), (15, 15), (25, 10), (12, 24), (30, 20)])
def test_a_rate_is_sampled_by_time(tmp_path, suffix, rate, fps):
    path = video(tmp_path / f"x.{suffix}", numbered(40), "mpeg4" if suffix == "avi" else "libx264", rate=rate)
    with open_clip(path, fps=fps) as clip:
        assert len(clip) == int(40 / rate * fps + 1e-6)
        assert clip.fps == fps
        assert clip.times == pytest.approx(np.arange(len(clip)) / fps)
        shown = [int(number * rate / fps + 1e-6) for number in range(len(clip))]
        assert numbers(clip[:]) == shown
        assert numbers(clip[[3, 0, 3]]) == [shown[3], 0, shown[3]]
        with pytest.raises(DataError, match=f"the clip has {len(clip)} frames"):
            clip[[len(clip)]]


def test_a_variable_rate_is_sampled_by_time(tmp_path):
    ticks = [0, 40, 80, 200, 240, 1000, 1040, 1500]
    path = video(tmp_path / "x.mkv", numbered(8), ticks=ticks)
    with open_clip(path, fps=10) as clip:
        shown = [max(number for number, at in enumerate(ticks) if at <= 100 * k + 25) for k in range(len(clip))]
        assert numbers(clip[:]) == shown
        assert clip.times[-1] == pytest.approx(1.7, abs=0.11)


def test_clips_of_other_rates_give_the_model_the_same_span(tmp_path):
    paths = [video(tmp_path / f"{rate}.mp4", numbered(2 * rate), rate=rate) for rate in (12, 24)]
    clip = Clip("strided", stride=2, fps=12)
    reader = make_reader(clip, frames=4, size_px=32, cache_px=48, channels=1)
    view = EvalView(32, "squash", None, clip, 4)
    seen = [view(reader.read(path))[0, 0, :, 20, 20] for path in paths]
    steps = [np.diff(np.rint((one.astype(float) - 20) / 5)) / rate for one, rate in zip(seen, (12, 24))]
    assert steps == [pytest.approx(np.full(3, 2 / 12))] * 2


def test_none_is_every_frame_of_the_file_and_another_rate_another_cache(tmp_path):
    path = video(tmp_path / "x.mp4", numbered(20), rate=20)
    assert np.array_equal(ClipReader(48).read(path), read_clip(path))
    assert len(ClipReader(48, fps=10).read(path)) == 10
    names = {ClipReader(48).name, ClipReader(48, fps=10).name, ClipReader(48, fps=7.5).name}
    assert len(names) == 3
    for fps, count in ((None, 20), (10, 10)):
        assert len(build_cache([path], tmp_path / "cache", ClipReader(48, fps=fps), progress=False)[0]) == count
    assert VolumeReader(8, 32, fps=10).name != VolumeReader(8, 32).name
    assert VolumeReader(8, 32, fps=10).read(path).shape == (8, 32, 32)


def test_frames_at_covers_the_clip_for_odd_rates():
    for count, own, fps in ((1, 25, 10), (7, 29.97, 25), (300, 30000 / 1001, 29.97), (5, 1, 100)):
        ids = frames_at(np.arange(count) / own, fps, own)
        assert ids[0] == 0
        assert ids[-1] <= count - 1
        assert (np.diff(ids) >= 0).all()
        assert len(ids) == max(1, round(count / own * fps))


def test_what_has_no_rate_cannot_be_sampled_by_time(tmp_path):
    path = folder(tmp_path / "frames", numbered(4))
    with pytest.raises(DataError, match=r"frames: how many frames a second .* data\.clip\.fps"):
        open_clip(path, fps=10)


def test_a_rate_must_not_make_too_many_frames(tmp_path):
    path = video(tmp_path / "x.mp4", numbered(10), rate=1)
    with pytest.raises(DataError, match="too long"):
        open_clip(path, fps=1000, max_frames=100)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e9])
def test_an_impossible_rate_is_refused(fps):
    with pytest.raises(UserError, match=r"data\.clip\.fps"):
        replace(Clip(), fps=fps)


@pytest.mark.parametrize(
    ("rates", "warned"), [((15, 60), True), ((15, 24), True), ((20, 30), False), ((25, 25), False)]
)
def test_rates_that_differ_are_warned_of(tmp_path, rates, warned):
    files = [video(tmp_path / f"{number}.mp4", numbered(5), rate=rate) for number, rate in enumerate(rates)]
    files += [folder(tmp_path / "frames", numbered(3)), tmp_path / "missing.mp4"]
    warning = rate_warning(files)
    assert bool(warning) == bool(warned)
    if warned:
        assert f"from {rates[0]:g} to {rates[1]:g} frames a second" in warning
        assert f"--data.clip.fps {rates[0]:g}" in warning
