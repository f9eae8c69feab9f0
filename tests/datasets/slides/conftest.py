"""Small slides drawn for these tests."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from clinvit.datasets.slides.reading import Slide
from clinvit.datasets.slides.scale import Scale

GLASS, PINK, PURPLE = (243, 242, 244), (222, 150, 190), (120, 70, 150)


def write_tiff(path: Path, pixels: np.ndarray, mpp: float | None = 0.5, levels: int = 1, **options) -> Path:
    """A tiled TIFF, each level half of the one before; `mpp` None leaves the resolution out."""
    unit = {"resolution": (10_000 / mpp, 10_000 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    options = {"tile": (64, 64), "compression": "deflate", "photometric": "rgb"} | options
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            small = pixels[:: 2**level, :: 2**level]
            kind = {"subfiletype": 1} if level else {}
            writer.write(small, metadata=None, **options, **unit, **kind)
    return path


def islands(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(h, w, 3) noisy glass with one island of tissue in its middle half, dotted with nuclei."""
    rng = np.random.default_rng(seed)
    pixels = np.tile(np.array(GLASS, np.int16), (height, width, 1))
    box = np.s_[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4]
    pixels[box] = PINK
    pixels[box][rng.random(pixels[box].shape[:2]) < 0.3] = PURPLE
    return (pixels + rng.integers(-2, 3, pixels.shape)).clip(0, 255).astype(np.uint8)


class Drawn:
    """Pixels in memory as a source."""

    downsamples = (1.0,)

    def __init__(self, pixels: np.ndarray, mpp: float):
        self.pixels, self.scale = pixels, Scale(mpp, mpp)
        self.sizes = (pixels.shape[1::-1],)

    def region(self, x, y, level, width, height):
        return self.pixels[y : y + height, x : x + width].copy()

    def close(self):
        pass


@pytest.fixture
def tiff():
    return write_tiff


@pytest.fixture
def tissue_pixels():
    return islands


@pytest.fixture
def drawn():
    """`drawn(pixels, mpp)` is an open slide of these pixels."""
    return lambda pixels, mpp=8.0: Slide(Path("drawn.tif"), Drawn(pixels, mpp), None)
