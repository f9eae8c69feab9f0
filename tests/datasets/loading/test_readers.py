"""What is kept of a file: the ERDES volume equals the official preprocessing; a name for every kind of pixels."""

import numpy as np
import pytest
import torch
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.loading.cache import Files, build_cache, open_pixels
from clinvit.datasets.loading.loaders import Cases
from clinvit.datasets.loading.readers import ClipReader, ImageReader, VolumeReader, make_reader
from clinvit.datasets.settings import Clip, Data
from clinvit.datasets.transforms.views import EvalView
from clinvit.phantoms.ocular import eye_phantom
from PIL import Image
from torch.nn import functional as F


@pytest.fixture
def folder(tmp_path):
    """`folder(frames, height, width)` writes a clip as a folder of PNG frames, without loss, and gives its path."""

    def write(frames: int, height: int, width: int, name: str = "clip", side: int = 96):
        clip = eye_phantom("pvd", 3, size_px=side, frames=frames)[:, :height, :width]
        (tmp_path / name).mkdir()
        for number, frame in enumerate(clip):
            Image.fromarray(frame).save(tmp_path / name / f"{number:04d}.png")
        return tmp_path / name, clip

    return write


@pytest.mark.parametrize("shape", [(30, 60, 96), (7, 96, 50), (1, 64, 64), (50, 33, 20)])
def test_a_volume_equals_the_official_preprocessing(folder, shape):
    path, clip = folder(*shape)
    _, height, width = clip.shape
    # erdes_dataset.py: zero-pad the shorter side, then trilinear interpolation of the whole clip.
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = F.pad(torch.from_numpy(clip).float(), (left, side - width - left, top, side - height - top))
    expected = F.interpolate(padded[None, None], size=(24, 32, 32), mode="trilinear", align_corners=False)[0, 0]
    got = VolumeReader(24, 32).read(path)
    assert got.shape == (24, 32, 32) and got.dtype == np.uint8
    assert np.abs(got - expected.numpy()).max() <= 0.501, "rounded to whole grey levels, nothing else"


def test_names_tell_all_that_pixels_depend_on():
    readers = [
        ImageReader(64), ImageReader(65), ImageReader(64, channels=3), ClipReader(64), ClipReader(64, channels=3),
        ClipReader(64, black_out=True), VolumeReader(16, 64), VolumeReader(32, 64), VolumeReader(16, 64, channels=3),
        VolumeReader(16, 64, black_out=True),
    ]  # fmt: skip
    assert len({reader.name for reader in readers}) == len(readers)
    sizes = {"size_px": 32, "cache_px": 64}
    for channels in (1, 3):
        clips, images = ClipReader(64, channels), ImageReader(64, channels=channels)
        assert make_reader(Clip(), frames=1, channels=channels, **sizes) == images
        assert make_reader(Clip("volume"), frames=16, channels=channels, **sizes) == VolumeReader(16, 32, channels)
        assert make_reader(Clip(), frames=16, channels=channels, **sizes) == clips
    with pytest.raises(UserError, match=r"model\.channels 2: files are read with 1 channel"):
        make_reader(Clip(), frames=1, channels=2, **sizes)


def test_clips_from_the_cache_and_from_the_file_are_the_same(folder, tmp_path):
    files = [folder(frames, 60, 80, name)[0] for frames, name in ((20, "a"), (9, "b"))]
    cached = open_pixels(files, Data(cache_px=40), tmp_path / "cache", ClipReader(40))
    fresh = open_pixels(files, Data(cache_px=40, cache=False), tmp_path / "cache", ClipReader(40))
    assert isinstance(fresh, Files) and cached[0].shape == (20, 40, 53)
    view = EvalView(32, "squash", None, Clip("uniform"), 8)
    one, two = (Cases(source, [0, 1], view).__getitems__([(0, 0), (1, 0)])["image"] for source in (cached, fresh))
    assert one.shape == (2, 1, 8, 32, 32) and torch.equal(one, two)


def test_what_cannot_be_read_is_left_out_of_a_batch_up_to_a_share(folder, tmp_path):
    good, _ = folder(9, 60, 80)
    files = [good, tmp_path / "missing.mp4", good, good]
    view = EvalView(32, "squash", None, Clip("uniform"), 8)
    cases = Cases(Files(files, ClipReader(40)), range(4), view, targets=np.eye(4, dtype=np.float32), max_bad=0.3)
    batch = cases.__getitems__([(position, 0) for position in range(4)])
    assert batch["row"].tolist() == [0, 2, 3] and torch.equal(batch["target"], torch.eye(4)[[0, 2, 3]])
    strict = Cases(Files(files, ClipReader(40)), range(4), view)
    with pytest.raises(DataError, match=r"missing\.mp4"):
        strict.__getitems__([(1, 0)])
    with pytest.raises(DataError, match="none of the 1 files"):
        cases.__getitems__([(1, 0)])


def test_the_surroundings_are_blackened_before_anything_is_kept(tmp_path):
    clip = np.zeros((12, 80, 100), np.uint8)
    clip[:, 10:70, 20:80] = np.random.default_rng(0).integers(40, 255, (12, 60, 60))
    clip[:, 2:8, 2:60] = 255  # burned-in text
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{number}.png")
    cache = build_cache([tmp_path / "clip"], tmp_path / "cache", ClipReader(80, black_out=True))
    assert cache[0].shape == (12, 80, 100)
    assert not cache[0][:, :8].any() and cache[0][:, 20:60, 30:70].mean() > 100
