"""Reading slides: the right place, the right level, resized once; white where nothing was scanned, else errors."""

import multiprocessing
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
from clinvit.core.errors import DataError
from clinvit.datasets.slides.reading import SLIDE_SUFFIXES, open_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


@pytest.fixture
def ramp() -> np.ndarray:
    """(300, 400, 3): smooth, so that every place is known by its colour."""
    y, x = np.mgrid[:300, :400]
    return np.stack([x // 2, y * 4 // 5, (x + y) // 3], axis=2).astype(np.uint8)


def test_facts_and_exact_tiles(tmp_path, tiff, ramp):
    with open_slide(tiff(tmp_path / "a.tif", ramp, levels=3)) as slide:
        assert (slide.width_px, slide.height_px, slide.mpp_source) == (400, 300, "metadata")
        assert slide.mpp == pytest.approx(0.5) and slide.downsamples == pytest.approx((1, 2, 4))
        assert np.array_equal(slide.tile(33, 21, 20, 40), ramp[21:61, 33:73])
        half = slide.tile(33, 21, 20, 30)
        assert np.array_equal(half, cv2.resize(ramp[21:61, 33:73], (30, 30), interpolation=cv2.INTER_AREA))
        assert np.array_equal(slide.tile(360, 260, 20, 40), ramp[260:, 360:])


@pytest.mark.parametrize("tile_px, level", [(80, 0), (41, 0), (40, 1), (39.5, 1), (21, 1), (20, 2), (5, 2)])
def test_best_level(tmp_path, tiff, tile_px, level):
    """Each level has its own colour, so that a tile tells which one it came from."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for number in range(3):
            flat = np.full((256 >> number, 256 >> number, 3), 50 * number + 10, np.uint8)
            writer.write(flat, tile=(64, 64), photometric="rgb", subfiletype=int(number > 0), metadata=None)
    with open_slide(path, mpp=0.5) as slide:
        tile = slide.tile(16, 16, 40, int(tile_px))
        assert tile.shape == (int(tile_px),) * 2 + (3,) and set(np.unique(tile)) == {50 * level + 10}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 300), st.floats(2, 200), st.integers(1, 90))
def test_any_tile_shows_its_place(tmp_path_factory, x, y, tile_um, tile_px):
    path = tmp_path_factory.getbasetemp() / "ramp.tif"
    if not path.exists():
        y_px, x_px = np.mgrid[:300, :400]
        pixels = np.stack([x_px // 2, y_px * 4 // 5, (x_px + y_px) // 3], axis=2).astype(np.uint8)
        levels = [cv2.resize(pixels, (400 >> n, 300 >> n), interpolation=cv2.INTER_AREA) for n in range(4)]
        with tifffile.TiffWriter(path) as writer:
            for n, level in enumerate(levels):
                writer.write(level, tile=(64, 64), photometric="rgb", subfiletype=int(n > 0), metadata=None)
    with open_slide(path, mpp=0.5) as slide:
        side = round(tile_um / 0.5)
        if x >= 400 or y >= 300:
            with pytest.raises(DataError, match="outside"):
                slide.tile(x, y, tile_um, tile_px)
            return
        tile = slide.tile(x, y, tile_um, tile_px)
        if x + side > 400 or y + side > 300:
            assert tile.shape == (tile_px, tile_px, 3)
            return
        centre = x + side / 2, y + side / 2
        assert tile.shape == (tile_px, tile_px, 3)
        # Half a pixel of the level read, and no more, of a ramp of at most 0.8 per px.
        slack = 2 + 0.5 * max(1, side / tile_px)
        assert abs(tile[..., 0].mean() - centre[0] / 2) < slack
        assert abs(tile[..., 1].mean() - centre[1] * 0.8) < slack


@pytest.mark.parametrize("longest_px", [400, 399, 150, 133, 100, 37, 7, 1, 5000])
@pytest.mark.parametrize("levels", [1, 3])
def test_overview(tmp_path, tiff, ramp, monkeypatch, levels, longest_px):
    monkeypatch.setattr("clinvit.datasets.slides.reading._BLOCK_PX", 96)
    monkeypatch.setattr("clinvit.datasets.slides.reading._REDUCED_PX", 100)
    longest = min(longest_px, 400)
    with open_slide(tiff(tmp_path / "a.tif", ramp, levels=levels)) as slide:
        overview = slide.overview(longest_px)
    height = max(1, round(300 * longest / 400))
    assert overview.shape == (height, longest, 3)
    exact = cv2.resize(ramp, (longest, height), interpolation=cv2.INTER_AREA).astype(int)
    # Whole factors overlap the far edge by up to 3 px; levels of this phantom are subsampled, so shifted by 1.5 px.
    assert np.abs(overview - exact).max() <= (1 if longest > 200 else 3 if levels == 1 else 5)


def test_unscanned_is_white_and_greys_become_rgb(tmp_path, tiff):
    rgba = np.zeros((128, 128, 4), np.uint8)
    rgba[:64] = (10, 20, 30, 255)
    rgba[64:] = (10, 20, 30, 0)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", mpp=1) as slide:
        tile = slide.tile(0, 0, 128, 128)
    assert (tile[:64] == (10, 20, 30)).all() and (tile[64:] == 255).all()
    grey = np.arange(128 * 128).reshape(128, 128).astype(np.uint8)
    for name in ("g.tif", "g.png"):
        if name == "g.tif":
            tiff(tmp_path / name, grey, None, photometric="minisblack")
        else:
            Image.fromarray(grey).save(tmp_path / name)
        with open_slide(tmp_path / name, mpp=1) as slide:
            assert np.array_equal(slide.tile(0, 0, 128, 128), np.repeat(grey[..., None], 3, 2))


def test_missing_tiles_of_a_sparse_file_are_white(tmp_path, tiff, ramp):
    path = tiff(tmp_path / "a.tif", ramp)
    with tifffile.TiffFile(path, mode="r+b") as file:
        page = file.pages[0]
        for code in ("TileOffsets", "TileByteCounts"):
            page.tags[code].overwrite([0, *page.tags[code].value[1:]])
    with open_slide(path) as slide:
        assert (slide.tile(0, 0, 32, 64) == 255).all()
        assert np.array_equal(slide.tile(64, 0, 32, 64), ramp[:64, 64:128])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_plain_images(tmp_path, ramp, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(ramp).save(path, **({"quality": 98} if suffix == ".jpg" else {}))
    with pytest.raises(DataError, match="column `mpp`"):
        open_slide(path)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.mpp_source == "manifest"
        assert np.abs(slide.tile(100, 50, 50, 100).astype(int) - ramp[50:150, 100:200]).max() <= 8
        padded = slide.tile(350, 0, 50, 100)
        assert (padded[:, 50:] == 255).all() and not (padded[:, :50] == 255).all()


def test_resolution_of_a_plain_image(tmp_path, ramp):
    Image.fromarray(ramp).save(tmp_path / "a.tif", dpi=(50_800, 50_800))
    Image.fromarray(ramp).save(tmp_path / "b.png", dpi=(72, 72))
    assert open_slide(tmp_path / "a.tif").mpp == pytest.approx(0.5)
    with pytest.raises(DataError, match="dpi"):
        open_slide(tmp_path / "b.png")


def test_decompression_bombs_are_refused_by_name(tmp_path, ramp, monkeypatch):
    Image.fromarray(ramp).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"a\.png.*million px.*pyramidal"):
        open_slide(tmp_path / "a.png", mpp=0.5)


def test_deep_pixels_are_not_guessed_at(tmp_path, tiff):
    grey = np.full((128, 128), 3000, np.uint16)
    colour = np.full((128, 128, 3), 3000, np.uint16)
    tiff(tmp_path / "tiled.tif", grey, photometric="minisblack")
    tiff(tmp_path / "tiled_rgb.tif", colour)
    tifffile.imwrite(tmp_path / "big.tif", colour, tile=(64, 64), photometric="rgb", bigtiff=True)
    tifffile.imwrite(tmp_path / "untiled.tif", grey)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "colour.png"), colour)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 6
    for path in paths:
        with pytest.raises(DataError, match=r"16 bits per channel.*8 bits"):
            open_slide(path, mpp=0.5)


def test_stacks_are_refused_and_thumbnails_ignored(tmp_path, ramp):
    small = Image.fromarray(ramp[::4, ::4].copy())
    Image.fromarray(ramp).save(tmp_path / "thumb.tif", save_all=True, append_images=[small])
    Image.fromarray(ramp).save(tmp_path / "stack.tif", save_all=True, append_images=[Image.fromarray(ramp)])
    with open_slide(tmp_path / "thumb.tif", mpp=0.5) as slide:
        assert np.array_equal(slide.tile(0, 0, 50, 100), ramp[:100, :100])
    with pytest.raises(DataError, match="stack"):
        open_slide(tmp_path / "stack.tif", mpp=0.5)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.svs", None, "no such file"),
        ("a.svs", b"", "empty file"),
        ("a.svs", b"not a slide", "not a slide that OpenSlide knows"),
        ("a.tif", b"II*\0not a slide", "cut off"),
        ("a.png", b"not a slide", "PNG, JPEG or TIFF"),
        ("a.mrxs", b"\xff\xd8\xff\xe0", "several files"),
        ("a.dcm", b"not a slide", "not a slide that OpenSlide knows"),
    ],
)
def test_no_slide(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words) as raised:
        open_slide(path, mpp=0.5)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_folder_is_no_slide(tmp_path):
    with pytest.raises(DataError, match="a folder"):
        open_slide(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_cut_off_images(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(DataError, match="cut off"), open_slide(path, mpp=0.5) as slide:
        slide.tile(0, 0, 100, 200)


def test_a_damaged_tile_is_an_error_and_others_are_read_still(tmp_path, tiff, ramp):
    path = tiff(tmp_path / "a.tif", ramp)
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\xee" * count
    path.write_bytes(content)
    with open_slide(path) as slide:
        for _ in range(2):
            with pytest.raises(DataError, match=r"a\.tif: the region of .* x = 0, y = 0 cannot be read") as raised:
                slide.tile(0, 0, 16, 32)
            assert "\n" not in str(raised.value)
        assert np.array_equal(slide.tile(200, 200, 16, 32), ramp[200:232, 200:232])
        with pytest.raises(DataError, match="cannot be read"):
            slide.overview(100)


@pytest.mark.parametrize("x, y", [(-1, 0), (0, -1), (400, 0), (0, 300), (10**9, 0)])
def test_outside(tmp_path, tiff, ramp, x, y):
    with open_slide(tiff(tmp_path / "a.tif", ramp)) as slide, pytest.raises(DataError, match="outside of the slide"):
        slide.tile(x, y, 20, 40)


def test_a_forked_process_reads_for_itself(tmp_path, tiff):
    """A shared place in the file would mix what two processes read."""
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    slide = open_slide(tiff(tmp_path / "a.tif", noise))
    slide.tile(0, 0, 8, 16)

    def same() -> bool:
        places = np.random.default_rng(1).integers(0, 480, (150, 2))
        return all(np.array_equal(slide.tile(x, y, 16, 32), noise[y : y + 32, x : x + 32]) for x, y in places.tolist())

    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: sys.exit(0 if same() else 1))
    child.start()
    here = same()
    child.join(60)
    slide.close()
    assert here and child.exitcode == 0


def test_real_files(shared_data):
    folder = shared_data / "slides"
    with open_slide(folder / "small_HE.svs") as slide:
        assert (slide.width_px, slide.height_px, slide.mpp, slide.mpp_source) == (2220, 2967, 0.499, "metadata")
        assert slide.overview(1000).mean(axis=(0, 1)) == pytest.approx((211, 195, 207), abs=25)
    with pytest.raises(DataError, match=r"352\.9.*dpi"):
        open_slide(folder / "small_HE_levels.tiff")
    with open_slide(folder / "small_HE_levels.tiff", mpp=0.5) as slide:
        assert slide.downsamples == pytest.approx((1, 2, 4.016, 8.086), abs=1e-3)
    with pytest.raises(DataError, match="ImageType"):
        open_slide(folder / "small_dicom.dcm", mpp=0.5)
    with pytest.raises(DataError, match="16 bits per channel"):
        open_slide(folder / "smalltif.tif", mpp=0.5)
    with pytest.raises(DataError, match=r"metadata say 0\.499.*manifest's mpp says 0.25"):
        open_slide(folder / "small_HE.svs", mpp=0.25)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_real_slide(shared_data, tmp_path, share):
    content = (shared_data / "slides" / "small_HE.svs").read_bytes()
    (tmp_path / "cut.svs").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"cut\.svs.*cut off"):
        open_slide(tmp_path / "cut.svs", mpp=0.5)


def test_suffixes_are_lower_case_and_unique():
    assert len(set(SLIDE_SUFFIXES)) == len(SLIDE_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SLIDE_SUFFIXES)


MANY = """
import pathlib, re, sys
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.slides.tiles import Tiling, tile_grid
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
for number in range(200):
    with open_slide(sys.argv[1 + number % 4]) as slide:
        grid = tile_grid(slide, Tiling(tile_um=32, tile_px=64))
        for x, y in grid.coords[:10].tolist():
            slide.tile(x, y, 32, 64)
    if number == 40: before = peak()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_slides(tmp_path, tiff, tissue_pixels):
    paths = [str(tiff(tmp_path / f"{n}.tif", tissue_pixels(1500, 1200, n), levels=3)) for n in range(4)]
    done = subprocess.run([sys.executable, "-c", MANY, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 12, "MiB more after 160 slides"
