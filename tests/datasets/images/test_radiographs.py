"""Radiographs as images: every format and depth, and one clear error for every bad file."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.images.radiographs import STEP, radiograph_size, read_radiograph
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

HEIGHT, WIDTH = 24, 40
RAMP = np.add.outer(np.linspace(0, 100, HEIGHT), np.linspace(0, 155, WIDTH)).astype(np.uint8)


def same(read: np.ndarray, expected: np.ndarray) -> bool:
    """Equal up to the rounding to multiples of 2^-24."""
    return read.shape == expected.shape and np.abs(read - expected).max() <= 2 * STEP


def opaque(image: Image.Image, mode: str) -> Image.Image:
    """The grey image in another mode, with the same levels."""
    alpha = Image.new("L", image.size, 255)
    if mode in ("LA", "RGBA"):
        return Image.merge(mode, [image] * (len(mode) - 1) + [alpha])
    return image.convert(mode)


def png(width: int, height: int, bits: int, colour: int, data: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "RGBA"])
@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_eight_bit_images_keep_their_levels(tmp_path, suffix, mode):
    grey = np.where(RAMP > 127, 255, 0).astype(np.uint8) if mode == "1" else RAMP
    image = opaque(Image.fromarray(grey), mode)
    path = tmp_path / f"image.{suffix}"
    if (suffix, mode) == ("bmp", "LA"):
        pytest.skip("there are no such files")
    image.save(path, **({"lossless": True} if suffix == "webp" else {}))
    read = read_radiograph(path)
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    assert same(read, grey / 255)
    assert radiograph_size(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_is_read_as_its_luma(tmp_path, mode):
    image = Image.fromarray(RAMP).convert(mode)
    path = tmp_path / "image.jpg"
    image.save(path, quality=95)
    with Image.open(path) as reference:
        assert same(read_radiograph(path), np.asarray(reference.convert("L")) / 255)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_kept(tmp_path, suffix, channels):
    grey = RAMP.astype(np.uint16) * 257
    pixels = grey if channels == 1 else np.dstack([grey] * channels)
    path = tmp_path / f"image.{suffix}"
    assert cv2.imwrite(str(path), pixels)
    assert same(read_radiograph(path), grey / 65535)


def test_sixteen_bit_grey_with_alpha(tmp_path):
    grey = RAMP.astype(np.uint16) * 257
    path = tmp_path / "image.png"
    rows = np.dstack([grey, np.full_like(grey, 999)]).astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    path.write_bytes(png(WIDTH, HEIGHT, 16, 4, zlib.compress(data)))
    assert same(read_radiograph(path), grey / 65535)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_a_sixteen_bit_file_span_their_own_range(tmp_path, bits):
    grey = np.rint(RAMP / 255 * (2**bits - 1)).astype(np.uint16)
    path = tmp_path / "image.png"
    Image.fromarray(grey).save(path)
    assert same(read_radiograph(path), grey / (2**bits - 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_where_the_least_is_white(tmp_path, dtype):
    grey = RAMP.astype(dtype) * (np.iinfo(dtype).max // 255)
    plain, negative = tmp_path / "plain.tif", tmp_path / "negative.tif"
    Image.fromarray(grey).save(plain)
    Image.fromarray(grey).save(negative, tiffinfo={262: 0})
    with Image.open(negative) as image:
        assert image.tag_v2[262] == 0
    stored = read_radiograph(negative)
    # Pillow stores 8-bit levels inverted under this tag, and 16-bit levels as they are.
    assert np.array_equal(stored, read_radiograph(plain) if dtype == np.uint8 else 1 - read_radiograph(plain))


def test_colours_become_luma(tmp_path):
    path = tmp_path / "image.png"
    Image.new("RGB", (20, 20), (255, 0, 0)).save(path)
    assert read_radiograph(path)[0, 0] == pytest.approx(76 / 255)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    image = Image.fromarray(RAMP)
    exif = image.getexif()
    exif[274] = orientation
    path = tmp_path / f"image.{suffix}"
    image.save(path, exif=exif, **({"quality": 98} if suffix == "jpg" else {}))
    upright = np.asarray(ImageOps.exif_transpose(image))
    read = read_radiograph(path)
    assert read.shape == radiograph_size(path) == upright.shape
    assert np.abs(read - upright / 255).max() < (3 / 255 if suffix == "jpg" else 1e-6)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_shrinking_averages_areas_and_never_enlarges(tmp_path, suffix):
    big = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (300, 420), dtype=np.uint8), (0, 0), 4)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(big).save(path, **({"quality": 98} if suffix == "jpg" else {}))
    full = read_radiograph(path)
    small = read_radiograph(path, 64)
    assert small.shape == (64, 90)
    assert np.abs(small - cv2.resize(full, (90, 64), interpolation=cv2.INTER_AREA)).mean() < 0.3 / 255
    assert np.array_equal(read_radiograph(path, 300), full)
    assert np.array_equal(read_radiograph(path, 5000), full)


def test_the_bytes_decide_and_not_the_name(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(RAMP).save(path, format="JPEG")
    assert read_radiograph(path).shape == RAMP.shape
    path.rename(tmp_path / "image")
    assert read_radiograph(tmp_path / "image").shape == RAMP.shape


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16]))
def test_every_level_and_its_negative_are_exact(tmp_path_factory, seed, dtype):
    grey = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (16, 17), dtype=dtype, endpoint=True)
    path = tmp_path_factory.mktemp("grey") / "image.png"
    Image.fromarray(grey).save(path)
    read = read_radiograph(path)
    assert 0 <= read.min() <= read.max() <= 1
    assert np.array_equal(1 - (1 - read), read)
    assert np.array_equal(np.rint(read / STEP) * STEP, read)


def test_a_constant_image_is_allowed(tmp_path):
    Image.new("L", (20, 20), 255).save(tmp_path / "white.png")
    assert np.all(read_radiograph(tmp_path / "white.png") == 1)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
def test_truncated_files_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match="broken or truncated") as caught:
        read_radiograph(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_are_no_images(tmp_path):
    text = tmp_path / "note.png"
    text.write_text("this is no image")
    empty = tmp_path / "empty.png"
    empty.touch()
    for path, words in [
        (text, "no image that is read here"),
        (empty, r"empty \(0 bytes\)"),
        (tmp_path, "a folder, not an image"),
        (tmp_path / "missing.png", "no such file"),
    ]:
        for reader in (read_radiograph, radiograph_size):
            with pytest.raises(DataError, match=words) as caught:
                reader(path)
            assert str(path) in str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.fromarray(RAMP).save(path)

    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="no permission to read"):
        read_radiograph(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="no regular file"):
        read_radiograph(tmp_path / "pipe.png")


def test_sizes_out_of_bounds(tmp_path):
    tiny = tmp_path / "tiny.png"
    Image.new("L", (1, 1)).save(tiny)
    with pytest.raises(DataError, match=r"1x1 px, too small \(at least 16x16"):
        read_radiograph(tiny)
    assert read_radiograph(tiny, min_px=1).shape == (1, 1)
    with pytest.raises(DataError, match="too large"):
        Image.new("L", (50, 50)).save(tiny)
        read_radiograph(tiny, max_megapixels=0.002)


def test_a_huge_image_is_refused_by_its_header(tmp_path, monkeypatch):
    path = tmp_path / "huge.png"
    path.write_bytes(png(30000, 30000, 8, 0, zlib.compress(b"\0" * 1000)))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    with pytest.raises(
        DataError, match=r"30000x30000 px, too large \(at most 200 million px; CLINVIT_MAX_IMAGE_MEGAPIXELS"
    ):
        read_radiograph(path)
    assert radiograph_size(path) == (30000, 30000)


def test_numbers_without_a_known_range(tmp_path):
    Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match="no known range"):
        read_radiograph(tmp_path / "float.tif")


@pytest.mark.parametrize("suffix", ["tif", "webp", "png"])
def test_several_images_in_one_file(tmp_path, suffix):
    path = tmp_path / f"pages.{suffix}"
    Image.fromarray(RAMP).save(path, save_all=True, append_images=[Image.fromarray(255 - RAMP)])
    with pytest.raises(DataError, match="holds 2 images"):
        read_radiograph(path)
