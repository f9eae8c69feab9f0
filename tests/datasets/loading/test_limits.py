"""Limits that an environment variable moves, each named by the message of its refusal."""

import h5py
import numpy as np
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.images.image_maps import read_maps
from clinvit.datasets.images.radiographs import read_radiograph
from clinvit.datasets.loading.isolation import isolated
from clinvit.datasets.loading.limits import IMAGE_MEGAPIXELS, READ_GB
from clinvit.datasets.slides.hdf5 import open_features, read_tiles
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.video.clips import read_clip
from PIL import Image


@pytest.fixture
def image(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 120), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def frames(image):
    folder = image.parent / "clip"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(image.read_bytes())
    return folder


CASES = {
    "CLINVIT_MAX_IMAGE_MEGAPIXELS": (0.01, read_radiograph, lambda image: image),
    "CLINVIT_MAX_FRAME_MEGAPIXELS": (0.01, read_clip, frames),
    "CLINVIT_MAX_FRAMES": (2, read_clip, frames),
    "CLINVIT_MAX_CLIP_GB": (1e-6, read_clip, frames),
    "CLINVIT_MAX_SLIDE_GIGAPIXELS": (1e-6, lambda path: open_slide(path, 0.5).close(), lambda image: image),
}


@pytest.mark.parametrize("variable", CASES)
def test_a_limit_is_moved_by_its_variable(image, monkeypatch, variable):
    value, read, make = CASES[variable]
    path = make(image)
    read(path)
    monkeypatch.setenv(variable, str(value))
    with pytest.raises(DataError, match=rf"{path.name}.*at most {value:g} .*{variable} sets another limit"):
        read(path)


def test_features_that_were_never_written_are_not_made_up(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", (2**40, 8), "f4", chunks=(1, 8))
        file.create_dataset("coords", (2**40, 2), "i8", chunks=(1, 2))
    with pytest.raises(DataError, match=r"a.h5: refused: `coords` of 1099511627776 x 2 .*cannot hold"):
        open_features(tmp_path / "a.h5")


@pytest.mark.parametrize("how", ["never written", "deflated"])
def test_hdf5_that_is_larger_in_memory_than_its_bytes_can_be_is_refused(tmp_path, how):
    """Features, tiles and maps; deflate makes a thousand bytes of one, so that maps have a largest size beside."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, shape in {"features": (50_000, 1024), "coords": (50_000, 2), "maps": (2, 4000, 6000)}.items():
            options = {"chunks": (1, *shape[1:])} if how == "never written" else {"compression": 9}
            data = file.create_dataset(name, shape, "i4" if name == "coords" else "f4", **options)
            if how == "deflated" and name == "maps":
                data[:] = 0
    for read in (open_features, read_tiles, read_maps):
        if how == "never written" or read is read_maps:
            with pytest.raises(DataError, match=r"a.h5: refused: `\w+`.* (cannot hold|never written|more than maps)"):
                read(tmp_path / "a.h5")


def test_a_chunk_that_is_larger_than_its_array_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("coords", (3, 2), "i4", maxshape=(None, 2), chunks=(10**8, 2), compression=9)
        file.create_dataset("features", (3, 2), "f4")
    with pytest.raises(DataError, match="refused: `coords`"):
        open_features(tmp_path / "a.h5")


def test_a_reading_process_has_no_more_memory_than_the_limit(monkeypatch):
    monkeypatch.setenv(READ_GB.variable, "0.5")
    small, large = isolated(bytearray, [10**6, 2 * 10**9])
    assert len(small) == 10**6
    assert isinstance(large, DataError) and "more memory" in str(large) and READ_GB.variable in str(large)


@pytest.mark.parametrize("text", ["many", "-1", "0", "nan"])
def test_a_limit_is_a_number_above_0(image, monkeypatch, text):
    monkeypatch.setenv(IMAGE_MEGAPIXELS.variable, text)
    with pytest.raises(UserError, match=f"{IMAGE_MEGAPIXELS.variable}={text}: not a number above 0"):
        read_radiograph(image)
