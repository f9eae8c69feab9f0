"""Colours: kept with three channels, and with one never lost without a word."""

import cv2
import numpy as np
import pytest
from clinvit.datasets.images.colour import colour_note, holds_colour
from clinvit.datasets.images.radiographs import STEP, read_grey, read_radiograph
from clinvit.datasets.loading.cache import Files, build_cache
from clinvit.datasets.loading.readers import ClipReader, ImageReader, VolumeReader
from clinvit.datasets.loading.shards.packing import pack
from clinvit.datasets.loading.shards.pixels import Shards
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.quality.check import check_manifest
from clinvit.datasets.settings import Clip
from clinvit.datasets.transforms.augment import Augment
from clinvit.datasets.transforms.views import EvalView, TrainView
from PIL import Image, ImageOps

RED, GREEN = (220, 10, 20), (14, 115, 18)  # the same luma
LUMA = 74


def painted(colour: tuple[int, int, int], size: tuple[int, int] = (48, 40)) -> Image.Image:
    """One colour, with a dark band at the top."""
    image = Image.new("RGB", size, colour)
    image.paste((5, 5, 5), (0, 0, size[0], 8))
    return image


FORMATS = {
    "png": {}, "jpg": {"quality": 95, "subsampling": 0}, "tif": {}, "bmp": {}, "webp": {"lossless": True},
}  # fmt: skip


@pytest.mark.parametrize("suffix", FORMATS)
def test_three_channels_are_those_of_the_file(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    painted(RED).save(path, **FORMATS[suffix])
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB")) / 255
    read = read_radiograph(path, channels=3)
    assert read.dtype == np.float32 and read.flags.c_contiguous
    assert np.abs(read - expected).max() <= 2 * STEP
    grey, lost_colour = read_grey(path)
    assert (
        lost_colour and np.array_equal(grey, read_radiograph(path)) and grey[20, 20] * 255 == pytest.approx(LUMA, abs=1)
    )


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_palettes_and_transparency(tmp_path, mode):
    path = tmp_path / "image.png"
    painted(RED).convert(mode).save(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.rint(read_radiograph(path, channels=3) * 255), expected)
    assert read_grey(path).lost_colour


def test_sixteen_bits_per_colour(tmp_path):
    path = tmp_path / "image.png"
    pixels = np.asarray(painted(RED)).astype(np.uint16) * 257
    pixels[0, 0] = 65535
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    assert np.abs(read_radiograph(path, channels=3) - pixels / 65535).max() <= 2 * STEP
    assert read_grey(path).lost_colour


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_colours_too(tmp_path, suffix, orientation):
    image = painted(RED)
    exif = image.getexif()
    exif[274] = orientation
    path = tmp_path / f"image.{suffix}"
    image.save(path, exif=exif, **FORMATS[suffix])
    upright = np.asarray(ImageOps.exif_transpose(image)) / 255
    read = read_radiograph(path, channels=3)
    assert read.shape == upright.shape and np.abs(read - upright).mean() < 3 / 255


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_grey_is_three_equal_channels_and_loses_nothing(tmp_path, suffix):
    levels = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)
    for name, image in (("grey", Image.fromarray(levels)), ("stored_as_rgb", Image.fromarray(levels).convert("RGB"))):
        path = tmp_path / f"{name}.{suffix}"
        image.save(path)
        grey = read_grey(path, 40)
        assert not grey.lost_colour
        expected = np.repeat(grey.pixels[..., None], 3, axis=2)
        assert np.abs(read_radiograph(path, 40, channels=3) - expected).max() <= 1.5 / 255
    deep = tmp_path / "deep.png"
    Image.fromarray(levels.astype(np.uint16) * 257).save(deep)
    read = read_radiograph(deep, channels=3)
    assert read.shape == (60, 80, 3) and np.array_equal(read[..., 0], read_radiograph(deep))


def test_a_mark_in_colour_does_not_make_a_radiograph_one_in_colour():
    pixels = np.repeat(np.full((500, 500, 1), 90, np.uint8), 3, axis=2)
    assert not holds_colour(pixels) and not holds_colour(pixels[..., 0])
    pixels[10:20, 10:30] = RED
    assert not holds_colour(pixels)
    pixels[:100, :100] = RED
    assert holds_colour(pixels)


@pytest.fixture
def folder(tmp_path):
    """A red, a green and a grey image of the same luma, and a manifest."""
    for number, colour in enumerate([RED, GREEN, (LUMA,) * 3]):
        painted(colour).save(tmp_path / f"{number}.png")
    rows = [f"{n},{n}.png,p{n},{split}" for n, split in enumerate(("train", "train", "test"))]
    (tmp_path / "manifest.csv").write_text("\n".join(["id,path,patient,split", *rows]))
    return read_manifest(tmp_path / "manifest.csv", labels=())


@pytest.mark.parametrize("augment", [Augment(size=32), Augment(size=32, randaug="m6-n2-mstd0.5-inc1")])
def test_colours_come_through_cache_and_view(folder, tmp_path, augment):
    grey = build_cache(folder.files(), tmp_path / "cache", ImageReader(40))
    colour = build_cache(folder.files(), tmp_path / "cache", ImageReader(40, channels=3))
    assert grey[0].shape == (40, 48) and colour[0].shape == (40, 48, 3)
    train, still = TrainView(augment, Clip(), 1), EvalView(32, "crop", 36, Clip(), 1)
    for view, channels in ((train, 3), (still, 3)):
        red, green, plain = (view(colour[row], 5)[0] if view is train else view(colour[row])[0] for row in range(3))
        assert red.shape == (channels, 32, 32)
        assert not np.array_equal(red, green) and not np.array_equal(red, plain)
        assert np.array_equal(plain[0], plain[1]) and np.array_equal(plain[0], plain[2])
    assert np.abs(still(grey[0]).astype(int) - still(grey[1])).max() <= 1, "in grey they are the same image"


def test_what_is_lost_is_counted(folder, tmp_path):
    words = "2 of 3 files are in colour and are read as grey; --model.channels 3 keeps the colours"
    for _ in range(2):  # built, and found
        cache = build_cache(folder.files(), tmp_path / "cache", ImageReader(40))
        assert cache.colour_note() == words
    assert Files(folder.files(), ImageReader(40)).colour_note() == words
    pack(folder, cache, (tmp_path / "shards").as_uri())
    shards = Shards((tmp_path / "shards").as_uri(), tmp_path / "local", 1.0)
    assert shards.pixels(folder, ImageReader(40)).colour_note() == words
    rgb = ImageReader(40, channels=3)
    assert (
        build_cache(folder.files(), tmp_path / "cache", rgb).colour_note()
        == Files(folder.files(), rgb).colour_note()
        == ""
    )
    assert words in check_manifest(folder, read_grey).facts
    assert colour_note(0, 10) == "" and colour_note(1, 1200).startswith("1 of 1,200 files is in colour and is read")


@pytest.mark.parametrize("kind", [ClipReader, VolumeReader])
def test_clips_in_three_channels(tmp_path, kind):
    frames = [painted(RED, (40, 40)), painted(GREEN, (40, 40))] * 4
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(frames):
        frame.save(tmp_path / "clip" / f"{number}.png")
    sizes = (40,) if kind is ClipReader else (8, 40)
    colour, grey = kind(*sizes, channels=3).load(tmp_path / "clip"), kind(*sizes).load(tmp_path / "clip")
    assert np.array_equal(colour.pixels, np.stack([np.asarray(frame) for frame in frames])) and not colour.lost_colour
    assert grey.pixels.shape == (8, 40, 40) and grey.lost_colour
    assert np.abs(colour.pixels.mean(axis=3) - grey.pixels).max() <= 0.5
    assert kind(*sizes).loses_colour(tmp_path / "clip") and not kind(*sizes, channels=3).loses_colour(tmp_path / "clip")
