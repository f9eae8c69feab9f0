"""JPEG tiles decoded without OpenSlide are its pixels, and whatever is unusual is left to it."""

import io
import multiprocessing
import struct
import sys
from contextlib import closing

import numpy as np
import openslide
import pytest
import tifffile
from clinvit.core.errors import DataError
from clinvit.datasets.slides.jpeg_tiles import JpegTiles
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.slides.sources import OpenSlideSource
from PIL import Image

SIDE = 64
APERIO = "Aperio Image Library v11\n500x360 (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
PHILIPS = f"""<?xml version="1.0" encoding="UTF-8" ?>
<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES" PMSVR="IDataObjectArray"><Array>
<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE" PMSVR="IString">WSI</Attribute>
<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" PMSVR="IDataObjectArray"><Array>{
    "".join(
        '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">'
        f'"{spacing}" "{spacing}"</Attribute></DataObject>'
        for spacing in (0.0005, 0.001)
    )
}</Array></Attribute></DataObject></Array></Attribute></DataObject>"""


@pytest.fixture
def pixels(tissue_pixels) -> np.ndarray:
    return tissue_pixels(500, 360)


def write(
    path, pixels, levels=2, vendor="generic-tiff", subsampling="4:2:0", rgb=False, jfif=True, tables=False, padded=False
):
    """A pyramid of JPEG tiles as scanners of `vendor` write it.

    `rgb` stores red, green and blue as they are; without `jfif` a tile does not say what its channels are; with
    `tables` those that all tiles share are in the page, not in the tile; `padded` pages hold whole tiles only.
    """
    shared = []

    def tiles(level):
        for top in range(0, level.shape[0], SIDE):
            for left in range(0, level.shape[1], SIDE):
                part = level[top : top + SIDE, left : left + SIDE]
                tile = np.pad(part, ((0, SIDE - part.shape[0]), (0, SIDE - part.shape[1]), (0, 0)), mode="edge")
                file = io.BytesIO()
                Image.fromarray(tile).save(file, "JPEG", subsampling=subsampling, keep_rgb=rgb and not jfif)
                head, scan = segments(file.getvalue())
                if not jfif:
                    head = [part for part in head if part[1] not in (0xE0, 0xEE)]
                if tables:
                    shared[:] = [part for part in head if part[1] in (0xDB, 0xC4)]
                    head = [part for part in head if part not in shared]
                yield b"\xff\xd8" + b"".join(head) + scan

    description = {"aperio": APERIO, "philips": PHILIPS}.get(vendor)
    with tifffile.TiffWriter(path) as writer:
        for number in range(levels):
            level = pixels[:: 2**number, :: 2**number]
            height, width = (-(-n // SIDE) * SIDE if padded else n for n in level.shape[:2])
            packed = list(tiles(level))
            extra = [(347, 7, None, b"\xff\xd8" + b"".join(shared) + b"\xff\xd9", True)] if tables else []
            writer.write(
                iter(packed), shape=(height, width, 3), dtype=np.uint8, tile=(SIDE, SIDE), compression="deflate",
                predictor=False, photometric="ycbcr", metadata=None, extratags=extra, resolution=(20_000, 20_000),
                resolutionunit="CENTIMETER", software="Philips DP" if vendor == "philips" else None,
                description=description if number == 0 or vendor == "aperio" else None, subfiletype=int(number > 0),
            )  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            page.tags["Compression"].overwrite(int(tifffile.COMPRESSION.JPEG))
            page.tags["YCbCrSubSampling"].overwrite((2, 2) if subsampling == "4:2:0" else (1, 1))
            if rgb:
                page.tags["PhotometricInterpretation"].overwrite(int(tifffile.PHOTOMETRIC.RGB))
    return path


def segments(jpeg: bytes) -> tuple[list[bytes], bytes]:
    """What is before the scan, marker by marker, and the scan with the end."""
    found, at = [], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + struct.unpack_from(">H", jpeg, at + 2)[0]
        found.append(jpeg[at:end])
        at = end
    return found, jpeg[at:]


def jpegs(path) -> JpegTiles:
    with openslide.OpenSlide(path) as slide:
        return JpegTiles(path, slide.level_dimensions, slide.level_downsamples)


def composed(path, x, y, level, width, height) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((x, y), level, (width, height)).convert("RGB"))


def change_tile(path, number: int, content: bytes) -> None:
    """Write over the beginning of a tile of the first page."""
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[number], file.pages[0].databytecounts[number]
    assert len(content) <= count
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def never(*_):
    raise AssertionError("OpenSlide was asked")


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"subsampling": "4:4:4"},
        {"tables": True},
        {"vendor": "aperio", "rgb": True, "jfif": False, "subsampling": "4:4:4", "tables": True},
        {"vendor": "aperio", "jfif": False},
        {"vendor": "philips", "padded": True},
    ],
    ids=["plain", "full colour", "tables in the page", "Aperio RGB", "Aperio YCbCr", "Philips"],
)
def test_pixels_are_those_of_openslide(tmp_path, pixels, monkeypatch, kind):
    path = write(tmp_path / "a.tif", pixels, **kind)
    source, rng, places = OpenSlideSource(path), np.random.default_rng(0), []
    for level in [0, 1] * 30:
        size = [int(rng.integers(1, side)) for side in source.sizes[level]]
        corner = [int(rng.integers(0, side - n + 1)) * 2**level for side, n in zip(source.sizes[level], size)]
        places.append((*corner, level, *size))
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == kind.get("vendor", "generic-tiff")
    for level in (0, 1):
        source.region(100, 100, level, 100, 60)  # there is tissue
    monkeypatch.setattr(source, "_composed", never)
    for place in places:
        assert np.array_equal(source.region(*place), composed(path, *place))
    source.close()


def test_a_real_slide(shared_data):
    path = shared_data / "slides" / "small_HE.svs"
    tiles = jpegs(path)
    for x, y, width, height in ((0, 0, 300, 300), (777, 1234, 224, 224), (1990, 2740, 230, 227)):
        assert np.array_equal(tiles.region(x, y, 0, width, height), composed(path, x, y, 0, width, height))


def test_where_openslide_blends_it_is_asked(tmp_path, pixels):
    """A level of 249 px for 499 begins between whole px almost everywhere."""
    path = write(tmp_path / "a.tif", pixels[:359, :499])
    tiles, source = jpegs(path), OpenSlideSource(path)
    downsample = source.downsamples[1]
    assert downsample != 2
    x, y = round(101 * downsample), round(77 * downsample)
    assert tiles.region(x, y, 1, 64, 64) is None and tiles.region(0, 0, 1, 64, 64) is not None
    assert np.array_equal(source.region(x, y, 1, 64, 64), composed(path, x, y, 1, 64, 64))
    source.close()


def test_colours_that_a_tile_contradicts_are_openslides(tmp_path, pixels, monkeypatch):
    """The page says RGB, its tiles say otherwise: decoders may believe either."""
    path = write(tmp_path / "a.tif", pixels, rgb=True)
    with closing(OpenSlideSource(path)) as source:
        for x in (100, 200):
            assert np.array_equal(source.region(x, 90, 0, 100, 100), composed(path, x, 90, 0, 100, 100))
        assert source._jpegs.region(100, 90, 0, 100, 100) is None  # left for good


def test_white_alone_proves_nothing(tmp_path, pixels):
    pixels[:128, :128] = 255
    path = write(tmp_path / "a.tif", pixels, subsampling="4:4:4")
    with closing(OpenSlideSource(path)) as source:
        source.region(0, 0, 0, 100, 100)
        assert not source._proven
        source.region(200, 150, 0, 100, 100)
        assert source._proven == {0}


@pytest.mark.parametrize(
    "content",
    [b"\xff\xd8\xff\xd9", b"\xee" * 100, struct.pack(">HHHBHH", 0xFFD8, 0xFFC0, 17, 8, 65_000, 65_000), b"\xff\xd8"],
    ids=["nothing inside", "noise", "65,000 px", "damaged"],
)
def test_a_damaged_tile_is_openslides_error(tmp_path, pixels, content):
    path = write(tmp_path / "a.tif", pixels)
    change_tile(path, 0, content + b"\0" * 300)
    assert jpegs(path).region(0, 0, 0, 64, 64) is None
    with open_slide(path) as slide:
        assert slide.tile(200, 150, 50, 100).shape == (100, 100, 3)
        for _ in range(2):
            with pytest.raises(DataError, match=r"a\.tif: the region of .* x = 0, y = 0 cannot be read"):
                slide.tile(0, 0, 32, 64)
        assert np.array_equal(slide.tile(200, 150, 50, 100), composed(path, 200, 150, 0, 100, 100))


def test_a_grey_tile_among_coloured_ones_is_openslides(tmp_path, pixels):
    path = write(tmp_path / "a.tif", pixels, levels=1)
    file = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE), 90, np.uint8)).save(file, "JPEG")
    change_tile(path, 0, file.getvalue())
    assert jpegs(path).region(0, 0, 0, 64, 64) is None
    assert jpegs(path).region(64, 64, 0, 64, 64) is not None


def test_bits_flipped_anywhere_give_openslides_pixels_or_error(tmp_path, pixels):
    path = write(tmp_path / "a.tif", pixels, levels=1)
    good = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[19], file.pages[0].databytecounts[19]
    y, x = divmod(19, 8)
    rng, failed = np.random.default_rng(0), 0
    for _ in range(150):
        bad = bytearray(good)
        for at in rng.integers(offset, offset + count, 2):
            bad[at] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        try:
            expected = composed(path, x * SIDE, y * SIDE, 0, SIDE, SIDE)
        except openslide.OpenSlideError:
            failed += 1
            assert jpegs(path).region(x * SIDE, y * SIDE, 0, SIDE, SIDE) is None
        else:
            found = jpegs(path).region(x * SIDE, y * SIDE, 0, SIDE, SIDE)
            assert found is None or np.array_equal(found, expected)
    assert 10 < failed < 140


def test_missing_tiles_are_white(tmp_path, pixels):
    path = write(tmp_path / "a.tif", pixels, levels=1)
    with tifffile.TiffFile(path, mode="r+b") as file:
        page = file.pages[0]
        for tag in ("TileOffsets", "TileByteCounts"):
            values = list(page.tags[tag].value)
            values[9] = 0
            page.tags[tag].overwrite(tuple(values))
    with open_slide(path) as slide:
        assert slide.tile(64, 64, 32, 64).min() == 255
        assert slide.tile(100, 100, 50, 100).min() < 255


def test_byte_counts_beyond_reason_are_not_read(tmp_path, pixels):
    path = write(tmp_path / "a.tif", pixels, levels=1)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags["TileByteCounts"]
        tag.overwrite((*tag.value[:-1], 2**31), dtype="I")
    tiles = jpegs(path)
    assert tiles.region(0, 0, 0, 64, 64) is not None
    assert tiles.region(450, 330, 0, 50, 30) is None


def test_what_the_system_cannot_read_is_left_to_openslide(tmp_path, pixels, monkeypatch):
    path = write(tmp_path / "a.tif", pixels, levels=1)
    tiles = jpegs(path)
    tiles._levels[0]._offsets = (2**64 - 1,) * len(tiles._levels[0]._offsets)
    assert tiles.region(0, 0, 0, 64, 64) is None
    expected = composed(path, 200, 100, 0, 64, 64)
    for name in ("os.pread", "clinvit.datasets.slides.sources.JpegTiles"):
        with closing(OpenSlideSource(path)) as source, monkeypatch.context() as patched:
            patched.setattr(name, failing)
            assert np.array_equal(source.region(200, 100, 0, 64, 64), expected)


def failing(*_):
    raise OSError(5, "Input/output error")


def test_pages_that_are_no_jpeg_tiles(tmp_path, tiff, pixels):
    path = tiff(tmp_path / "a.tif", pixels)
    assert jpegs(path).region(0, 0, 0, 64, 64) is None


def test_a_forked_process_reads_for_itself(tmp_path, pixels):
    tiles = jpegs(write(tmp_path / "a.tif", pixels, subsampling="4:4:4"))
    expected = tiles.region(0, 0, 0, 500, 360)

    def same() -> bool:
        for level in tiles._levels.values():
            level._tile.cache_clear()
        return np.array_equal(tiles.region(0, 0, 0, 500, 360), expected)

    child = multiprocessing.get_context("fork").Process(
        target=lambda: sys.exit(0 if all(same() for _ in range(20)) else 1)
    )
    child.start()
    here = all(same() for _ in range(20))
    child.join(60)
    assert here and child.exitcode == 0


def test_a_closed_slide_lets_go(tmp_path, pixels):
    source = OpenSlideSource(write(tmp_path / "a.tif", pixels))
    source.region(100, 100, 0, 100, 100)
    file = source._jpegs._file
    source.close()
    assert file.closed
    assert source.region(100, 100, 0, 100, 100).shape == (100, 100, 3)  # opened anew
    source.close()
