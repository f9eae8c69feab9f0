"""Limits that an environment variable moves, each named by the message of its refusal."""

import h5py
import numpy as np
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.images.radiographs import read_radiograph
from clinvit.datasets.loading.limits import IMAGE_MEGAPIXELS
from clinvit.datasets.slides.hdf5 import open_features
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
    with pytest.raises(DataError, match=r"a.h5: `coords` of 1099511627776 x 2 is too large .*CLINVIT_MAX_FEATURES_GB"):
        open_features(tmp_path / "a.h5")


@pytest.mark.parametrize("text", ["many", "-1", "0", "nan"])
def test_a_limit_is_a_number_above_0(image, monkeypatch, text):
    monkeypatch.setenv(IMAGE_MEGAPIXELS.variable, text)
    with pytest.raises(UserError, match=f"{IMAGE_MEGAPIXELS.variable}={text}: not a number above 0"):
        read_radiograph(image)
