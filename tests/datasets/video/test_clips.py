"""Clips: every container gives the right frames at the right times, and every bad file one clear error."""

import csv
import struct
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.video.clips import CLIP_SUFFIXES, clip_info, open_clip, read_clip
from clinvit.datasets.video.facts import measured_times, steady_times
from clinvit.tests.datasets.video.made import FORMATS, folder, gif, numbered, numbers, shortened, turned, video
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image


@pytest.mark.parametrize(("suffix", "codec", "options"), FORMATS)
def test_every_container_gives_the_frames_that_are_asked_for(tmp_path, suffix, codec, options):
    path = video(tmp_path / f"clip.{suffix}", numbered(), codec, **options)
    with open_clip(path) as clip:
        assert len(clip) == 40
        assert clip.fps == pytest.approx(25, rel=0.002)
        assert clip.times == pytest.approx(np.arange(40) / 25, abs=0.002)
        assert clip.size == (48, 64)
        everything = clip[:]
        assert everything.shape == (40, 48, 64)
        assert everything.dtype == np.uint8
        assert numbers(everything) == list(range(40))
        for ids in ([39], [0], [7, 8], [31, 2, 2, 17, 30], np.arange(3, 40, 9), slice(-5, None, 2), slice(10, 4)):
            expected = everything[ids]
            assert np.array_equal(clip[ids], expected), ids
    info = clip_info(path)
    assert (info.frames, info.height, info.width, info.colour) == (40, 48, 64, True)
    assert info.seconds == pytest.approx(1.6, rel=0.002)


def test_gif(tmp_path):
    path = gif(tmp_path / "clip.gif", numbered(12))
    with open_clip(path, colour=True) as clip:
        assert clip.fps == pytest.approx(25)
        assert numbers(clip[:]) == list(range(12))
        assert numbers(clip[[11, 3, 3]]) == [11, 3, 3]
    assert clip_info(path).container == "gif"


def test_the_first_bytes_decide_and_not_the_name(tmp_path):
    mp4 = video(tmp_path / "clip.mp4", numbered(5))
    for suffix in (".avi", ".dcm", ".GIF", ""):
        assert numbers(read_clip(mp4.rename(mp4.with_suffix(suffix)))) == [0, 1, 2, 3, 4]
        mp4 = mp4.with_suffix(suffix)
    assert len(read_clip(gif(tmp_path / "x.gif", numbered(3)).rename(tmp_path / "x.mp4"))) == 3


@pytest.mark.parametrize("name", ["a b.mp4", "Cov-Atlas+(44).mp4", "http:%03d?x=1#.mp4", "Käse\u2019s.mp4", "-i.mp4"])
def test_names_are_taken_as_they_are(tmp_path, monkeypatch, name):
    video(tmp_path / "plain.mp4", numbered(3)).rename(tmp_path / name)
    assert len(read_clip(tmp_path / name)) == 3
    monkeypatch.chdir(tmp_path)
    assert len(read_clip(name)) == 3


def test_all_suffixes_are_lower_case():
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in CLIP_SUFFIXES)


def test_grey_is_the_plain_mean_of_the_colours(tmp_path):
    path = gif(tmp_path / "clip.gif", numbered(4))
    rgb = read_clip(path, colour=True)
    assert rgb.shape == (4, 48, 64, 3)
    assert tuple(rgb[0, 0, 0]) == (200, 40, 90)
    assert np.array_equal(read_clip(path), np.rint(rgb.mean(axis=3)))


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("shorter_px", [None, 16])
def test_black_and_white_are_0_and_255_whatever_the_range(tmp_path, pixels, shorter_px):
    frames = np.zeros((3, 32, 64, 3), np.uint8)
    frames[:, :, 32:] = 255
    path = video(tmp_path / "clip.mkv", frames, pixels=pixels, crf=1)
    read = read_clip(path, shorter_px=shorter_px)
    width = read.shape[2]
    assert read[:, :, : width // 2 - 2].max() <= 2
    assert read[:, :, width // 2 + 2 :].min() >= 253


def test_a_lossless_grey_video_keeps_its_levels(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    path = video(tmp_path / "clip.mkv", levels[..., None].repeat(3, axis=3), "ffv1", "gray")
    assert np.array_equal(read_clip(path), levels)
    assert not clip_info(path).colour


@pytest.mark.parametrize(("height", "width", "shorter_px"), [(200, 320, 64), (320, 200, 77), (201, 203, 50)])
@pytest.mark.parametrize("pixels", ["yuv444p", "yuv420p"])
def test_shrinking_averages_areas(tmp_path, height, width, shorter_px, pixels):
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 256, (4, height, width, 1), np.uint8).repeat(3, axis=3)  # all that aliases
    even = (height // 2 * 2, width // 2 * 2)
    path = video(tmp_path / "clip.mkv", frames[:, : even[0], : even[1]], pixels=pixels, crf=4)
    full, small = read_clip(path), read_clip(path, shorter_px=shorter_px)
    target = tuple(round(side * shorter_px / min(even)) for side in even)
    assert small.shape == (4, *target)
    expected = np.stack([cv2.resize(frame, target[::-1], interpolation=cv2.INTER_AREA) for frame in full]).astype(int)
    assert abs((small - expected).mean()) < 0.6
    assert np.abs(small - expected).mean() < 1
    assert np.abs(small - expected).max() <= 12


def test_a_clip_is_never_enlarged(tmp_path):
    path = video(tmp_path / "clip.mp4", numbered(3))
    assert np.array_equal(read_clip(path, shorter_px=48), read_clip(path))
    assert read_clip(path, shorter_px=500).shape == (3, 48, 64)


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1, (1, 2))),  # a telephone held upright: turn clockwise
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2, (1, 2))),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1, (1, 2))),
    ],
)
def test_images_are_turned_upright(tmp_path, matrix, upright):
    path = video(tmp_path / "clip.mp4", numbered(3), crf=1)
    stored = read_clip(path, colour=True)
    turned(path, matrix)
    assert np.array_equal(read_clip(path, colour=True), upright(stored))
    assert read_clip(path, shorter_px=24).shape[1:] == upright(stored[:, ::2, ::2]).shape[1:3]
    assert (clip_info(path).height, clip_info(path).width) == upright(stored).shape[1:3]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_variable_frame_rate_keeps_its_times(tmp_path, suffix):
    ticks = [0, 40, 80, 200, 240, 1000, 1040, 1500]
    path = video(tmp_path / f"clip.{suffix}", numbered(8), ticks=ticks, bf=2)
    with open_clip(path) as clip:
        assert clip.times == pytest.approx(np.array(ticks) / 1000, abs=0.002)
        assert clip.fps == pytest.approx(7 / 1.5, rel=0.01)
        assert numbers(clip[[7, 0, 4]]) == [7, 0, 4]


@given(st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=20))
@example([-1.0, -1.5e-126, 0.0])  # increases, but not after the first frame in floating point
def test_times_increase_whatever_a_file_says(seconds):
    times, fps = measured_times(np.array(seconds), 30)
    assert len(times) == len(seconds)
    assert times[0] == 0
    assert (np.diff(times) > 0).all()
    assert 0 < fps <= 1000


@pytest.mark.parametrize("fps", [None, 0, -25, float("nan"), float("inf"), 90_000])
@pytest.mark.parametrize("seconds", [[0.0, 0.0, 0.0], [0.0, np.nan, 1.0], [0.0, 1e-6, 2e-6], [5.0, 4.0, 3.0]])
def test_without_a_rate_times_are_frame_numbers(seconds, fps):
    times, rate = measured_times(np.array(seconds), fps)
    assert times.tolist() == [0, 1, 2]
    assert rate is None
    assert steady_times(3, 25)[0].tolist() == [0, 0.04, 0.08]


def test_frames_before_an_edit_list_are_none(tmp_path):
    source = video(tmp_path / "whole.mp4", numbered(40), g=20, bf=2)
    path = tmp_path / "cut.mp4"
    with av.open(str(source)) as whole, av.open(str(path), "w") as cut:
        stream = whole.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.size:
                step = packet.duration
                packet.pts, packet.dts, packet.stream = packet.pts - 5 * step, packet.dts - 5 * step, copy
                cut.mux(packet)
    with av.open(str(path)) as container:
        decodable = sum(1 for _ in container.decode(video=0))
    assert decodable == 35
    with open_clip(path) as clip:
        assert numbers(clip[:]) == list(range(5, 40))
        assert numbers(clip[[0, 34, 15]]) == [5, 39, 20]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("bf", [0, 3])
def test_only_the_way_from_the_key_frame_before_is_decoded(tmp_path, monkeypatch, suffix, bf):
    from clinvit.datasets.video.video_file import VideoFrames

    path, decoded, frames = video(tmp_path / f"clip.{suffix}", numbered(), g=10, bf=bf), [], VideoFrames._timed_frames
    monkeypatch.setattr(
        VideoFrames, "_timed_frames", lambda self: (decoded.append(stamp) or (stamp, f) for stamp, f in frames(self))
    )
    with open_clip(path) as clip:
        for ids, most in [([33], 4 + bf), ([39], 10 + bf), ([2, 33], 7 + 2 * bf), (range(40), 40), ([1, 9, 11], 12)]:
            decoded.clear()
            assert numbers(clip[list(ids)]) == list(ids)
            assert len(decoded) <= most


def test_one_frame_is_a_clip(tmp_path):
    for path in (video(tmp_path / "a.mp4", numbered(1)), gif(tmp_path / "a.gif", numbered(1))):
        with open_clip(path) as clip:
            assert len(clip) == 1
            assert clip.times.tolist() == [0]
            assert clip[:].shape == (1, 48, 64)


def test_numbers_past_the_end(tmp_path):
    path = video(tmp_path / "clip.mp4", numbered(6))
    with open_clip(path) as clip:
        for wrong in ([6], [0, -1], [10**6]):
            with pytest.raises(DataError, match=r"clip\.mp4: no frame -?\d+: the clip has 6 frames"):
                clip[wrong]
        with pytest.raises(TypeError):
            clip[[1.5]]
        assert clip[[]].shape == (0, 48, 64)


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def scratched(path: Path, begin: float = 0.4, end: float = 0.6) -> Path:
    """The file with noise over a share of its bytes."""
    data = bytearray(path.read_bytes())
    first, last = int(begin * len(data)), int(end * len(data))
    data[first:last] = np.random.default_rng(0).integers(0, 256, last - first, np.uint8).tobytes()
    path.write_bytes(data)
    return path


def speckled(count: int = 40) -> np.ndarray:
    """Frames with enough in them to be damaged."""
    draw = np.random.default_rng(0)
    return numbered(count, 96, 96) // 2 + draw.integers(0, 60, (count, 96, 96, 1), np.uint8)


INDEX_FIRST = {"movflags": "faststart"}
BAD = {
    "missing": (lambda d: d / "none.mp4", "no such file"),
    "empty": (lambda d: ((d / "x.mp4").write_bytes(b"") and None) or d / "x.mp4", "is empty"),
    "text": (lambda d: (d / "x.mp4").write_text("not a video") and d / "x.mp4", "first bytes"),
    "one image": (lambda d: Image.new("L", (8, 8)).save(d / "x.png") or d / "x.png", "a single image"),
    "empty folder": (lambda d: (d / "x").mkdir() or d / "x", "no JPEG or PNG frames"),
    "sound only": (lambda d: sound(d / "x.mp4"), "no video"),
    "header only": (lambda d: shortened(video(d / "x.mp4", numbered(3)), 0.02), "broken, cut off"),
    "index missing": (lambda d: shortened(video(d / "x.mp4", speckled()), 0.7), "broken, cut off"),
    "mp4 cut": (lambda d: shortened(video(d / "x.mp4", speckled(), mux=INDEX_FIRST), 0.7), "cut off: of 40 frames"),
    "avi cut": (lambda d: shortened(video(d / "x.avi", speckled(), "mpeg4"), 0.7), "cut off"),
    "gif cut": (lambda d: shortened(gif(d / "x.gif", speckled()), 0.7), "cut off"),
    "mp4 damaged": (lambda d: scratched(video(d / "x.mp4", speckled(), mux=INDEX_FIRST)), "damaged|broken"),
    "avi damaged": (lambda d: scratched(video(d / "x.avi", speckled(), "mpeg4")), "damaged|broken"),
    "too large": (lambda d: video(d / "x.mp4", numbered(2, 1000, 1100)), "1100x1000 px, too large"),
    "too large gif": (lambda d: gif(d / "x.gif", numbered(2, 1000, 1100)), "too large"),
    "too long": (lambda d: video(d / "x.mp4", numbered(51)), "at most 50 frames"),
    "too long avi": (lambda d: video(d / "x.avi", numbered(51), "mpeg4"), "at most 50 frames"),
    "too long mkv": (lambda d: video(d / "x.mkv", numbered(51)), "at most 50 frames"),
    "too long folder": (lambda d: folder(d / "x", [numbered(1)[0]] * 51), "at most 50 frames"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_gives_one_clear_line(tmp_path, case):
    make, words = BAD[case]
    path = make(tmp_path)
    with pytest.raises(DataError, match=words) as error:
        read_clip(path, max_megapixels=1, max_frames=50)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_a_size_that_the_container_hides_is_found_before_decoding(tmp_path):
    path = video(tmp_path / "clip.mp4", numbered(2, 1000, 1100))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"avc1") + 4 + 24
    data[place : place + 4] = struct.pack(">HH", 16, 16)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"too large|broken"):
        read_clip(path, max_megapixels=1)


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "gif", "mpeg"])
def test_any_damage_ends_in_frames_or_a_data_error(tmp_path, suffix):
    path = tmp_path / f"whole.{suffix}"
    if suffix == "gif":
        gif(path, speckled(12))
    else:
        codec = {"avi": "mpeg4", "mpeg": "mpeg2video"}.get(suffix, "libx264")
        video(path, speckled(12), codec, mux=INDEX_FIRST if suffix == "mp4" else None)
    whole, draw = path.read_bytes(), np.random.default_rng(3)
    for number in range(60):
        data = bytearray(whole[: draw.integers(200, len(whole))] if number % 3 == 0 else whole)
        for place in draw.integers(0, len(data), draw.integers(1, 30)):
            data[place] = draw.integers(256)
        damaged = tmp_path / f"{number}.{suffix}"
        damaged.write_bytes(data)
        try:
            with open_clip(damaged) as clip:
                assert clip[:].shape == (len(clip), *clip.size)
        except DataError as error:
            assert str(error).startswith(str(damaged))


@pytest.mark.parametrize("name", ["img_{:05d}.jpg", "image_{:06d}.png", "{}.png", "frame-{}.JPEG"])
def test_a_folder_of_frames_is_a_clip_in_natural_order(tmp_path, name):
    path = folder(tmp_path / "frames", numbered(12), name)
    (path / "Thumbs.db").write_bytes(b"x")
    (path / "._img_00001.jpg").write_bytes(b"x")
    with open_clip(path) as clip:
        assert (len(clip), clip.fps, clip.size) == (12, None, (48, 64))
        assert clip.times.tolist() == list(range(12))
        assert numbers(clip[:]) == list(range(12))
        assert numbers(clip[[9, 10, 1]]) == [9, 10, 1]


def test_frames_of_a_folder_are_shrunk_by_areas(tmp_path):
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (400, 600), np.uint8), (0, 0), 4)
    smooth = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)
    path = folder(tmp_path / "frames", [smooth] * 2)
    expected = cv2.resize(smooth, (75, 50), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(read_clip(path, shorter_px=50) - expected).max() <= 4


@pytest.mark.parametrize("damage", ["cut", "size", "deep"])
def test_a_bad_frame_of_a_folder_is_named(tmp_path, damage):
    path = folder(tmp_path / "frames", speckled(4))
    bad = path / "img_00003.jpg"
    if damage == "cut":
        shortened(bad, 0.5)
    elif damage == "size":
        Image.new("L", (48, 48)).save(bad)
    else:
        bad.unlink()
        bad = bad.with_suffix(".png")
        Image.fromarray(np.zeros((96, 96), np.uint16)).save(bad)
    with open_clip(path) as clip:
        assert clip[[0, 1, 3]].shape == (3, 96, 96)
        with pytest.raises(DataError, match="img_00003"):
            clip[:]


def real_clips(shared_data: Path) -> list[tuple[Path, dict[str, str]]]:
    with (shared_data / "pocus" / "manifest.csv").open(newline="") as table:
        return [(shared_data / "pocus" / row["path"], row) for row in csv.DictReader(table)]


def test_real_clips_are_as_their_list_says(shared_data):
    clips = real_clips(shared_data)
    assert len(clips) == 58
    for path, row in clips:
        info = clip_info(path)
        assert info.frames == int(row["frames"]), path
        assert (info.height, info.width) == (int(row["height"]), int(row["width"])), path
        assert info.fps == pytest.approx(float(row["fps"]), rel=0.001), path
        assert info.codec == row["codec"], path


@pytest.mark.thorough
def test_real_clips_agree_with_decord(shared_data):
    decord = pytest.importorskip("decord")
    readable = [(path, row) for path, row in real_clips(shared_data) if row["decord_ok"] != "false"]
    for path, row in readable[:: 1 + len(readable) // 16]:
        peer = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        expected = peer.get_batch(range(len(peer))).asnumpy().astype(int)
        difference = np.abs(read_clip(path, colour=True) - expected)
        # The inverse transforms of MPEG-4 are not exact, those of H.264 are.
        assert difference.max() <= (3 if row["codec"] == "mpeg4" else 0), path
        size = {name: round(int(row[name]) * 128 / min(expected.shape[1:3])) for name in ("width", "height")}
        ids = [len(peer) - 1, 0, len(peer) // 2]
        expected = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1, **size).get_batch(ids).asnumpy()
        # Its scaler is not that of areas, and a little darker.
        assert np.abs(read_clip(path, colour=True, shorter_px=128, ids=ids).astype(int) - expected).mean() < 3, path


MEMORY = """
import sys
from clinvit.datasets.video.clips import read_clip
def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6
seen = []
for number in range(2200):
    if number in (700, 1200, 1700):  # the allocator has settled
        seen.append(resident_mb())
    for path in sys.argv[1:]:
        read_clip(path, shorter_px=32, ids=[1, 7] if number % 2 else None)
seen.append(resident_mb())
# A leak grows between any two of them, an allocator now and then.
print(min(after - before for before, after in zip(seen, seen[1:])))
"""


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is looked up as Linux has it")
@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param("mp4", marks=pytest.mark.slow),
        *[pytest.param(suffix, marks=pytest.mark.thorough) for suffix in ("avi", "gif", "folder")],
    ],
)
def test_memory_stays_flat_over_thousands_of_clips(tmp_path, suffix):
    path, frames = tmp_path / f"clip.{suffix}", speckled(10)
    if suffix == "folder":
        folder(path, frames)
    elif suffix == "gif":
        gif(path, frames)
    else:
        video(path, frames, "mpeg4" if suffix == "avi" else "libx264")
    command = [sys.executable, "-c", MEMORY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert float(done.stdout) < 1, done.stdout  # 2 kB a clip
