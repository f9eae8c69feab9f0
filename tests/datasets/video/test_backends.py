"""PyAV, decord and torchcodec give the same frames, or the file is refused by name of the library."""

import importlib
import re
from types import SimpleNamespace

import numpy as np
import pytest
from clinvit.core import extras
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.loading.readers import ClipReader, VolumeReader, make_reader
from clinvit.datasets.settings import Clip
from clinvit.datasets.video import backends
from clinvit.datasets.video.backends import refuse_absent
from clinvit.datasets.video.clips import open_clip, read_clip
from clinvit.tests.datasets.video.made import FORMATS, edited, folder, gif, numbered, numbers, shortened, turned, video


def works(reader: str) -> str:
    """Why a library cannot be tried here; empty if it can."""
    try:
        refuse_absent(reader)
    except UserError as error:
        return str(error)
    return ""


READERS = [
    pytest.param(reader, marks=pytest.mark.skipif(bool(reason), reason=reason))
    for reader, reason in ((reader, works(reader)) for reader in ("decord", "torchcodec"))
]
# Of which containers a library is refused; of the rest it gives the same frames.
REFUSED = {
    "decord": ("ts", "m2ts", "mpeg", "mpg", "ogv"),
    "torchcodec": ("ts", "m2ts", "mpeg", "mpg"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("suffix", "codec", "options"), FORMATS)
def test_every_container_gives_the_same_frames_by_every_library(tmp_path, reader, suffix, codec, options):
    path = video(tmp_path / f"clip.{suffix}", numbered(), codec, **options)
    delayed = suffix in ("avi", "flv") and options.get("bf")
    if suffix in REFUSED[reader] or delayed or (reader == "decord" and "open-gop=1" in str(options)):
        with pytest.raises(DataError, match=rf"clip\.{suffix}: {reader} is known to give wrong frames of .* pyav"):
            open_clip(path, reader=reader)
        return
    expected = read_clip(path, colour=True).astype(int)
    with open_clip(path, colour=True, reader=reader) as clip:
        assert (len(clip), clip.size) == (40, (48, 64))
        assert clip.times == pytest.approx(np.arange(40) / 25, abs=0.002)
        for ids in (list(range(40)), [39], [31, 2, 2, 17, 30], [5, 4]):
            read = clip[ids]
            assert numbers(read) == ids
            assert np.abs(read - expected[ids]).mean() < 0.5  # the edges of colours of 10 bits differ
    small = read_clip(path, shorter_px=16, reader=reader).astype(int)
    assert np.abs(small - read_clip(path, shorter_px=16)).mean() < 2


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("bf", [0, 3])
@pytest.mark.parametrize("edits", [[(33, 7)], [(20, 5)], [(8, 0), (10, 25)], [(28, 12)]])
def test_an_edit_list_is_followed_or_refused(tmp_path, reader, edits, bf):
    path = edited(video(tmp_path / "x.mp4", numbered(), g=12, bf=bf), edits)
    shown = [number for count, first in edits for number in range(first, first + count)]
    if reader == "decord":
        with pytest.raises(DataError, match="decord is known to give wrong frames of files with an edit list"):
            open_clip(path, reader=reader)
    else:
        assert numbers(read_clip(path, reader=reader)) == shown


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_orientations_are_followed_or_refused(tmp_path, reader, matrix):
    path = turned(video(tmp_path / "x.mp4", numbered(3), crf=1), matrix)
    a, b, c, d = matrix
    if reader == "decord" or a * d - b * c < 0:
        with pytest.raises(DataError, match=r"known to give wrong frames of files that are (turned|mirrored)"):
            open_clip(path, reader=reader)
    else:
        assert np.array_equal(read_clip(path, colour=True, reader=reader), read_clip(path, colour=True))


@pytest.mark.parametrize("reader", READERS)
def test_a_variable_rate_and_a_file_cut_off(tmp_path, reader):
    ticks = [0, 40, 80, 200, 240, 1000, 1040, 1500]
    path = video(tmp_path / "x.mkv", numbered(8), ticks=ticks, bf=2)
    with open_clip(path, fps=10, reader=reader) as clip, open_clip(path, fps=10) as expected:
        assert numbers(clip[:]) == numbers(expected[:])
    with pytest.raises(DataError, match="cut off"):
        open_clip(shortened(path, 0.8), reader=reader)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_video_is_read_as_always(tmp_path, reader):
    for path in (gif(tmp_path / "x.gif", numbered(5)), folder(tmp_path / "frames", numbered(5))):
        assert numbers(read_clip(path, reader=reader)) == list(range(5))


@pytest.mark.parametrize("reader", READERS)
def test_a_recipe_chooses_the_library_and_another_cache(tmp_path, reader):
    path, sizes = video(tmp_path / "x.mp4", numbered(8)), {"size_px": 32, "cache_px": 48, "channels": 1}
    assert make_reader(Clip(reader=reader), frames=4, **sizes) == ClipReader(48, reader=reader)
    volumes = make_reader(Clip("volume", reader=reader), frames=4, **sizes)
    assert volumes == VolumeReader(4, 32, reader=reader)
    assert np.array_equal(volumes.read(path), VolumeReader(4, 32).read(path))
    assert numbers(ClipReader(48, reader=reader).read(path)) == list(range(8))
    assert ClipReader(48, reader=reader).name != ClipReader(48).name


@pytest.mark.parametrize("reader", ["decord", "torchcodec"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch, reader):
    found = importlib.import_module

    def missing(name):
        if name.partition(".")[0] == reader:
            raise ModuleNotFoundError(name=reader)
        return found(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    words = f"data.clip.reader {reader} needs {reader}: pip install 'clinvit[{reader}]'"
    with pytest.raises(UserError, match=re.escape(words)):
        make_reader(Clip(reader=reader), frames=4, size_px=32, cache_px=48, channels=1)


def test_a_torchcodec_without_ffmpeg_says_so(monkeypatch):
    class VideoDecoder:
        def __init__(self, source):
            raise RuntimeError("Could not load libtorchcodec. Likely causes: ...")

    monkeypatch.setattr(backends, "require", lambda *names: SimpleNamespace(VideoDecoder=VideoDecoder))
    with pytest.raises(UserError, match=r"torchcodec finds no FFmpeg .* `apt install ffmpeg`"):
        refuse_absent("torchcodec")


def test_an_unknown_library_is_refused():
    with pytest.raises(UserError, match=r"data\.clip\.reader 'opencv': one of pyav, decord, torchcodec"):
        Clip(reader="opencv")
