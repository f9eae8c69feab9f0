"""Slides stored as TIFF of JPEG tiles (SVS, Philips, Camelyon16), decoded tile by tile, without OpenSlide.

OpenSlide puts a region together from transparent images, which takes six times as long as decoding it. What is
given here are OpenSlide's pixels, or nothing: whatever is unusual is left to OpenSlide, and so are its errors.
"""

import struct
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ...core.platform import read_at

if TYPE_CHECKING:
    from tifffile import TiffPage

# Of other vendors tiles overlap, or a level has several areas.
VENDORS = ("generic-tiff", "aperio", "philips")
_CACHE_BYTES = 32 * 2**20  # per level, as OpenSlide's own: a row of neighbours is decoded once
# A region may begin so far from a whole px of its level: OpenSlide blends neighbours where it is farther.
_WHOLE_PX = 1e-4
_LARGEST_PX = 4096  # sides of tiles
_ADOBE = struct.Struct(">HH5sHHHB")  # the marker by which a JPEG file says what its channels are


class JpegTiles:
    """The tiled levels of a slide of which OpenSlide's pixels can be had without it.

    Args:
        path: The slide.
        sizes: (width, height) in px of its levels, the largest first.
        downsamples: Level-0 px per px of each.
    """

    def __init__(self, path: Path, sizes: tuple[tuple[int, int], ...], downsamples: tuple[float, ...]):
        self._downsamples = downsamples
        self._file = path.open("rb", buffering=0)
        self._levels = dict(enumerate(_levels(self._file, sizes)))

    def region(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray | None:
        """Return (height, width, 3) uint8 RGB, arguments as of `Source.region`; None where OpenSlide must read it."""
        tiles, downsample = self._levels.get(level), self._downsamples[level]
        left, top = round(x / downsample), round(y / downsample)
        if tiles is None or max(abs(x / downsample - left), abs(y / downsample - top)) > _WHOLE_PX:
            return None
        return tiles.region(left, top, width, height)

    def leave(self, level: int) -> None:
        """Give nothing of this level any more."""
        self._levels[level] = None

    def close(self) -> None:
        """Let go of the file, and of what was decoded."""
        for tiles in filter(None, self._levels.values()):
            tiles.forget()
        self._file.close()


class _Level:
    """One page of an open TIFF file."""

    def __init__(self, file: BinaryIO, page: "TiffPage"):
        self._file = file
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        self._width, self._height = page.tilewidth, page.tilelength
        self._columns = -(-page.imagewidth // self._width)
        self._colours = _colours(page)
        tables = page.jpegtables or b"\xff\xd8\xff\xd9"
        self._head = b"\xff\xd8" + _marker(self._colours) + tables[2:-2]
        self._tile = lru_cache(max(1, _CACHE_BYTES // self._bytes))(self._decoded)

    @property
    def _bytes(self) -> int:
        return self._width * self._height * 3

    def region(self, left: int, top: int, width: int, height: int) -> np.ndarray | None:
        """Return (height, width, 3) of the level's px, or None where a tile is missing or not flawless."""
        out = np.empty((height, width, 3), np.uint8)
        for row in range(top // self._height, (top + height - 1) // self._height + 1):
            for column in range(left // self._width, (left + width - 1) // self._width + 1):
                tile = self._tile(row * self._columns + column)
                if tile is None:
                    return None
                down, along = row * self._height - top, column * self._width - left  # of the tile in the region
                seen = tile[max(-down, 0) : height - down, max(-along, 0) : width - along]
                out[max(down, 0) : down + self._height, max(along, 0) : along + self._width] = seen
        return out

    def forget(self) -> None:
        """Keep no decoded tile."""
        self._tile.cache_clear()

    def _decoded(self, number: int) -> np.ndarray | None:
        import simplejpeg

        # More bytes than pixels are no use of a tile.
        if number >= len(self._offsets) or not 4 < self._counts[number] <= self._bytes + len(self._head):
            return None
        try:
            data = self._head + read_at(self._file, self._counts[number], self._offsets[number])[2:]
            if simplejpeg.decode_jpeg_header(data)[:3] != (self._height, self._width, self._colours):
                return None
            return simplejpeg.decode_jpeg(data, "RGB")  # strict: a warning is an error
        except (ValueError, OSError, OverflowError):
            return None


def _levels(opened: BinaryIO, sizes: tuple[tuple[int, int], ...]) -> list[_Level | None]:
    """Return for each size the page that has it; Philips's pages are larger, by less than a tile."""
    import tifffile

    try:
        with tifffile.TiffFile(opened) as file:
            pages = [page for page in file.pages if _is_plain(page)]
            return [next((_Level(opened, page) for page in pages if _has(page, size)), None) for size in sizes]
    except Exception:  # whatever tifffile stumbles over in a broken file: OpenSlide has opened it, and will say
        return []


def _is_plain(page: "TiffPage") -> bool:
    """Return whether a page has JPEG tiles of a usual size, 8-bit colours, channels together."""
    from tifffile import COMPRESSION, PLANARCONFIG

    usual = 0 < page.tilewidth <= _LARGEST_PX and 0 < page.tilelength <= _LARGEST_PX
    colours = _colours(page) is not None and page.samplesperpixel == 3 and page.bitspersample == 8
    together = page.planarconfig == PLANARCONFIG.CONTIG
    return page.is_tiled and page.compression == COMPRESSION.JPEG and usual and colours and together


def _colours(page: "TiffPage") -> str | None:
    """Return what the channels are, in simplejpeg's words; None for what is neither."""
    from tifffile import PHOTOMETRIC

    return {PHOTOMETRIC.RGB: "RGB", PHOTOMETRIC.YCBCR: "YCbCr"}.get(page.photometric)


def _has(page: "TiffPage", size: tuple[int, int]) -> bool:
    width, height = size
    return 0 <= page.imagewidth - width < page.tilewidth and 0 <= page.imagelength - height < page.tilelength


def _marker(colours: str) -> bytes:
    """Make Adobe's marker; without it a decoder would guess."""
    return _ADOBE.pack(0xFFEE, _ADOBE.size - 2, b"Adobe", 100, 0, 0, ("RGB", "YCbCr").index(colours))
