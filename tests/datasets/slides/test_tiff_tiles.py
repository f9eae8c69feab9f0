"""Tiled TIFF in compressions that OpenSlide does not read: the same pixels, or a word on what to do."""

import numpy as np
import pytest
import tifffile
from clinvit.core.errors import DataError
from clinvit.datasets.slides import tiff_tiles
from clinvit.datasets.slides.reading import open_slide

pytest.importorskip("openslide")
pytest.importorskip("imagecodecs")
CODECS = {"jpeg2000": {"level": 0}, "webp": {"lossless": True}, "jpegxl": {"lossless": True}, "lerc": {}}


def write(path, pixels, codec, *, planar="contig", subifds=False, **options):
    """A pyramid of three levels, lossless; scale in centimetres."""
    arguments = {
        "tile": (64, 64), "photometric": "rgb", "planarconfig": planar, "compression": codec,
        "compressionargs": CODECS[codec], "metadata": None, "resolutionunit": "CENTIMETER",
    }  # fmt: skip
    with tifffile.TiffWriter(path) as file:
        for level in range(3):
            small = pixels[:: 2**level, :: 2**level]
            small = np.moveaxis(small, -1, 0) if planar == "separate" else small
            kind = {"subifds": 2} if subifds and not level else {"subfiletype": 1} if level else {}
            unit = {"resolution": (20_000 / 2**level,) * 2}
            file.write(small, **arguments, **unit, **kind, **(options if not level else {}))
    return path


@pytest.fixture
def pixels(tissue_pixels):
    return tissue_pixels(300, 200)


@pytest.mark.parametrize("planar, subifds", [("contig", False), ("contig", True), ("separate", False)])
@pytest.mark.parametrize("codec", CODECS)
def test_the_pixels_are_those_that_were_written(tmp_path, pixels, codec, planar, subifds):
    if codec == "webp" and planar == "separate":
        pytest.skip("WebP is of colours")
    with open_slide(write(tmp_path / "a.tif", pixels, codec, planar=planar, subifds=subifds)) as slide:
        assert (slide.width_px, slide.height_px, slide.mpp, slide.mpp_source) == (300, 200, 0.5, "metadata")
        assert slide.downsamples == pytest.approx((1, 2, 4))
        assert np.array_equal(slide.tile(100, 50, 40, 80), pixels[50:130, 100:180])
        assert np.array_equal(slide.tile(100, 48, 40, 40), pixels[48:128:2, 100:180:2])
        assert slide.overview(75).shape == (50, 75, 3)


def test_a_damaged_tile_is_an_error(tmp_path, pixels):
    path = write(tmp_path / "a.tif", pixels, "jpeg2000")
    with tifffile.TiffFile(path) as file:
        at, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[at : at + size] = bytes(size)
    path.write_bytes(content)
    with open_slide(path) as slide:
        assert np.array_equal(slide.tile(128, 64, 32, 64), pixels[64:128, 128:192])
        with pytest.raises(DataError, match=r"a\.tif: the tile 0 of level 0 cannot be decoded"):
            slide.tile(0, 0, 32, 64)


def test_without_imagecodecs_the_remedy_is_named(tmp_path, pixels, monkeypatch):
    path = write(tmp_path / "a.tif", pixels, "jpeg2000")
    monkeypatch.setattr(tiff_tiles, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"34712.*clinvit\[codecs\].*convert it: vips copy a\.tif a\.jpeg\.tif"):
        open_slide(path)


@pytest.mark.parametrize("suffix", [".qptiff", ".btf", ".tf8", ""])
def test_a_tiff_of_any_name_is_read_by_its_content(tmp_path, tiff, pixels, suffix):
    with open_slide(tiff(tmp_path / f"a{suffix}", pixels)) as slide:
        assert (slide.width_px, slide.mpp) == (300, pytest.approx(0.5))
    tifffile.imwrite(tmp_path / f"flat{suffix}", pixels, photometric="rgb", resolution=(20_000, 20_000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    with open_slide(tmp_path / f"flat{suffix}") as slide:
        assert (slide.width_px, slide.mpp) == (300, pytest.approx(0.5))


def test_ome_says_the_scale_whatever_the_resolution_is(tmp_path, pixels):
    metadata = {"axes": "YXS", "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    for name, tile in (("a.ome.tif", (64, 64)), ("b.ome.tif", None)):
        tifffile.imwrite(tmp_path / name, pixels, ome=True, photometric="rgb", tile=tile, metadata=metadata,
                         resolution=(72, 72), resolutionunit="INCH")  # fmt: skip
        with open_slide(tmp_path / name) as slide:
            assert slide.mpp == pytest.approx(0.25)
