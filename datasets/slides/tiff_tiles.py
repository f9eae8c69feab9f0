"""Tiled TIFF whose compression OpenSlide does not read (JPEG 2000, WebP, JPEG XL, ...), by tifffile and imagecodecs."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import DataError
from ...core.extras import require
from ...core.platform import read_at
from .scale import openslide_scale

if TYPE_CHECKING:
    from tifffile import TiffPage

_CACHE_BYTES = 32 * 2**20
_LARGEST_PX = 4096  # sides of tiles
_SAME_SHAPE = 0.02  # a level's sides over those of level 0 may differ by this share
_CONVERT = "vips copy {name} {stem}.jpeg.tif[tile,pyramid,compression=jpeg,Q=90,bigtiff]"


class TiffTiles:
    """The tiled levels of a TIFF file of 8 bits per channel, grey or RGB; a `Source`.

    Raises:
        DataError: Without imagecodecs, without tiles, or of other pixels.
    """

    def __init__(self, path: Path, reason: str):
        tifffile = require("tifffile", "slides", path)
        self._path, self._file = path, path.open("rb", buffering=0)
        try:
            with tifffile.TiffFile(path) as file:
                first = file.pages[0]
                self._refuse(first, reason)
                levels = [first, *(page for page in _others(file) if _is_level(page, first))]
                self.scale = openslide_scale(_properties(first))
            self._levels = sorted(levels, key=lambda page: -page.imagewidth)
        except DataError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise DataError(f"{path}: {reason}, and tifffile cannot read it ({type(error).__name__}).") from None
        self.sizes = tuple((page.imagewidth, page.imagelength) for page in self._levels)
        self.downsamples = tuple(self.sizes[0][0] / width for width, _ in self.sizes)
        self._tile = lru_cache(max(1, _CACHE_BYTES // (first.tilewidth * first.tilelength * 3)))(self._decoded)

    def _refuse(self, page: "TiffPage", reason: str) -> None:
        name = f"{getattr(page.compression, 'name', '')} {int(page.compression)}".strip()
        if find_spec("imagecodecs") is None:
            command = _CONVERT.format(name=self._path.name, stem=self._path.stem)
            raise DataError(
                f"{self._path}: {reason} ({name}). Install what reads it (pip install 'clinvit[codecs]'), or convert "
                f"it: {command}"
            )
        usual = page.is_tiled and 0 < page.tilewidth <= _LARGEST_PX and 0 < page.tilelength <= _LARGEST_PX
        if not usual or page.bitspersample != 8 or page.samplesperpixel not in (1, 3, 4):
            raise DataError(
                f"{self._path}: {reason} ({name}), and not tiled RGB or grey of 8 bits. Convert it: "
                f"{_CONVERT.format(name=self._path.name, stem=self._path.stem)}"
            )

    def region(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Return (height, width, 3) uint8 of a level; what was never written is white."""
        page = self._levels[level]
        left, top = round(x / self.downsamples[level]), round(y / self.downsamples[level])
        out = np.full((height, width, 3), 255, np.uint8)
        w, h = page.tilewidth, page.tilelength
        for row in range(top // h, -(-min(top + height, page.imagelength) // h)):
            for column in range(left // w, -(-min(left + width, page.imagewidth) // w)):
                tile = self._tile(level, row, column)
                if tile is None:
                    continue
                down, along = row * h - top, column * w - left  # of the tile in the region
                seen = tile[max(-down, 0) : height - down, max(-along, 0) : width - along]
                above, before = max(down, 0), max(along, 0)
                out[above : above + seen.shape[0], before : before + seen.shape[1]] = seen
        return out

    def _decoded(self, level: int, row: int, column: int) -> np.ndarray | None:
        page = self._levels[level]
        across = -(-page.imagewidth // page.tilewidth)
        each = across * -(-page.imagelength // page.tilelength)
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        parts = []
        for plane in range(planes):
            number = plane * each + row * across + column
            size, offset = page.databytecounts[number], page.dataoffsets[number]
            if not size:
                return None
            try:
                tile, _, shape = page.decode(read_at(self._file, size, offset), number, jpegtables=page.jpegtables)
                parts.append(tile[0, : shape[1], : shape[2]])
            except Exception as error:
                raise DataError(
                    f"{self._path}: the tile {number} of level {level} cannot be decoded ({type(error).__name__}). The "
                    "file is damaged or cut off there: fetch it again."
                ) from None
        pixels = np.concatenate(parts, axis=2)
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[..., :3])

    def close(self) -> None:
        """Let go of the file, and of what was decoded."""
        self._tile.cache_clear()
        self._file.close()


def _others(file) -> list["TiffPage"]:
    """Return all further pages and the reduced ones below the first."""
    return [*file.pages[1:], *(file.pages[0].pages or ())]


def _is_level(page: "TiffPage", first: "TiffPage") -> bool:
    """Return whether a page is the first one, smaller."""
    same = page.is_tiled and page.bitspersample == 8 and page.samplesperpixel == first.samplesperpixel
    if not same or page.imagewidth >= first.imagewidth or page.planarconfig != first.planarconfig:
        return False
    ratio = (first.imagewidth / page.imagewidth) / (first.imagelength / page.imagelength)
    rounding = 1 / min(page.imagewidth, page.imagelength)
    return abs(ratio - 1) <= _SAME_SHAPE + rounding


def _properties(page: "TiffPage") -> dict[str, str]:
    """Return what OpenSlide would say of description and resolution."""
    found = {"tiff.ImageDescription": page.description}
    for axis in "XY":
        if f"{axis}Resolution" in page.tags:
            above, below = page.tags[f"{axis}Resolution"].value
            found[f"tiff.{axis}Resolution"] = str(above / below) if below else ""
    unit = page.tags.get("ResolutionUnit")
    found["tiff.ResolutionUnit"] = {2: "inch", 3: "centimeter"}.get(int(unit.value) if unit else 2, "none")
    return found
