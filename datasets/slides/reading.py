"""Whole slides: tiles asked for in microns, read from the best level and resized once; overviews in little memory.

A slide is anything OpenSlide opens (SVS, NDPI, MRXS, SCN, VMS, BIF, CZI, tiled TIFF, DICOM), an OME-Zarr, or a plain
image (PNG, JPEG, untiled TIFF).
"""

import os
from pathlib import Path

import cv2
import numpy as np

from ...core.errors import DataError
from ...core.extras import require
from ...core.files import refuse_irregular
from ..kinds import IMAGES, file_kind
from ..loading.limits import SLIDE_GIGAPIXELS
from .dicom_series import slide_in_folder
from .scale import microns_per_px
from .sources import ImageSource, OpenSlideSource, Source, UnknownCodec
from .zarr_store import is_zarr

SLIDE_SUFFIXES = (
    ".svs", ".tif", ".tiff", ".btf", ".qptiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi",
    ".dcm", ".png", ".jpg", ".jpeg",
)  # fmt: skip

# Endings that are no part of a slide's name; what else stands behind a dot is, as in TCGA's ids.
_ENDINGS = (*SLIDE_SUFFIXES, ".dicom", ".h5", ".pt", ".ome.zarr", ".zarr", ".ome.zarr.zip", ".zarr.zip", ".ozx")
_IMAGES = (".tif", ".tiff", ".btf", ".qptiff", ".png", ".jpg", ".jpeg")
# A level counts as fine enough when its downsample is greater than wanted by this share at most: levels of
# 62 px for 250 say 4.03 and mean 4.
_LEVEL_TOLERANCE = 0.02
_BLOCK_PX = 2048  # side of what is read at once for an overview
# Before its last resize an overview has at least so many px along its longer side, where the level has them: the last
# whole factor may overlap the edge by one of these, and no more.
_REDUCED_PX = 2048


def slide_stem(name: str) -> str:
    """Return the name of a slide's file without its suffix; an id without one is not cut at a dot."""
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] or name


class Slide:
    """An open slide; a context manager. Coordinates are level-0 pixels, x to the right, y downwards.

    Attributes:
        path: The file.
        width_px: Width of level 0.
        height_px: Its height.
        mpp: Microns per level-0 pixel.
        mpp_source: `metadata` or `manifest`.
        downsamples: Level-0 px per px of each level.
    """

    def __init__(self, path: Path, source: Source, mpp: float | None):
        self.path = path
        self._source = source
        self._overviews: dict[tuple[int, int], np.ndarray] = {}
        self.width_px, self.height_px = source.sizes[0]
        if SLIDE_GIGAPIXELS.exceeded(self.width_px * self.height_px / 1e9):
            raise DataError(
                f"{path}: the slide is {self.width_px} x {self.height_px} px, too large ({SLIDE_GIGAPIXELS.text()})."
            )
        self.downsamples = source.downsamples
        self.mpp, self.mpp_source = microns_per_px(path, source.scale, mpp)

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()
        self._overviews.clear()

    def tile(self, x: int, y: int, tile_um: float, tile_px: int) -> np.ndarray:
        """Read one square.

        Args:
            x: Left edge in level-0 px.
            y: Upper edge.
            tile_um: Side in microns: round(tile_um / mpp) level-0 px.
            tile_px: Side of the image returned.

        Returns:
            (tile_px, tile_px, 3) uint8 RGB, read from the coarsest level that is fine enough and resized once
            (by area averaging when it shrinks, bicubically when it grows). What sticks out of the slide to the right
            or below is white, as what was never scanned: CLAM and TRIDENT have such tiles.

        Raises:
            DataError: The square begins outside of the slide, or cannot be read.
        """
        side = round(tile_um / self.mpp)
        if side < 1:
            raise DataError(f"{self.path}: a tile of {tile_um:g} microns is less than one px of {self.mpp:g} microns.")
        if not (0 <= x < self.width_px and 0 <= y < self.height_px):
            raise DataError(
                f"{self.path}: the tile of {side} px at x = {x}, y = {y} begins outside of the slide "
                f"({self.width_px} x {self.height_px} px). Are the coordinates those of another slide or level?"
            )
        level = self._level(side / tile_px)
        inside = x + side <= self.width_px and y + side <= self.height_px
        pixels = self._square(x, y, side, level) if inside else self._padded(x, y, side, level)
        if len(pixels) == tile_px:
            return pixels
        shrinks = len(pixels) > tile_px
        return cv2.resize(pixels, (tile_px, tile_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)

    def overview(self, longest_px: int) -> np.ndarray:
        """Read the whole slide, small.

        It is read in blocks and averaged as they come: a slide without coarse levels never lies in memory whole.

        Args:
            longest_px: The longer side of the image; a slide is not enlarged.

        Returns:
            (h, w, 3) uint8 RGB.

        Raises:
            DataError: Some part cannot be read.
        """
        longest = max(self.width_px, self.height_px)
        shrink = max(1.0, longest / longest_px)
        wanted = max(1, round(self.width_px / shrink)), max(1, round(self.height_px / shrink))
        level = self._level(shrink)
        factor = max(1, max(self._source.sizes[level]) // max(*wanted, _REDUCED_PX))
        if (level, factor) not in self._overviews:  # kept: a slide of one level takes minutes to go through
            self._overviews = {(level, factor): self._reduced(level, factor)}
        image = self._overviews[level, factor]
        if image.shape[1::-1] == wanted:
            return image.copy()
        return cv2.resize(image, wanted, interpolation=cv2.INTER_AREA)

    def _level(self, downsample: float) -> int:
        """Return the coarsest level that is at least as fine as wanted."""
        fine = [level for level, have in enumerate(self.downsamples) if have <= downsample * (1 + _LEVEL_TOLERANCE)]
        return max(fine, key=lambda level: self.downsamples[level], default=0)

    def _square(self, x: int, y: int, side: int, level: int) -> np.ndarray:
        """Return (n, n, 3) of a level: the square of `side` level-0 px, to whole px of that level."""
        downsample, (width, height) = self.downsamples[level], self._source.sizes[level]
        n = min(max(1, round(side / downsample)), width, height)
        left, top = min(round(x / downsample), width - n), min(round(y / downsample), height - n)
        return self._source.region(round(left * downsample), round(top * downsample), level, n, n)

    def _padded(self, x: int, y: int, side: int, level: int) -> np.ndarray:
        """Return (n, n, 3) of a level as `_square`; what sticks out to the right or below is white."""
        downsample, (width, height) = self.downsamples[level], self._source.sizes[level]
        n = max(1, round(side / downsample))
        left, top = min(round(x / downsample), width - 1), min(round(y / downsample), height - 1)
        seen = min(n, width - left), min(n, height - top)
        pixels = np.full((n, n, 3), 255, np.uint8)
        region = self._source.region(round(left * downsample), round(top * downsample), level, *seen)
        pixels[: seen[1], : seen[0]] = region
        return pixels

    def _reduced(self, level: int, factor: int) -> np.ndarray:
        """Return a whole level, every factor x factor px averaged to one; the last ones over what there is."""
        (width, height), downsample = self._source.sizes[level], self.downsamples[level]
        step = max(1, _BLOCK_PX // factor) * factor
        out = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
        for top in range(0, height, step):
            for left in range(0, width, step):
                w, h = min(step, width - left), min(step, height - top)
                block = self._source.region(round(left * downsample), round(top * downsample), level, w, h)
                if factor > 1:
                    block = cv2.copyMakeBorder(block, 0, -h % factor, 0, -w % factor, cv2.BORDER_REPLICATE)
                    small = block.shape[1] // factor, block.shape[0] // factor
                    block = cv2.resize(block, small, interpolation=cv2.INTER_AREA)
                row, column = top // factor, left // factor
                out[row : row + block.shape[0], column : column + block.shape[1]] = block
        return out


def open_slide(path: str | os.PathLike, mpp: float | None = None) -> Slide:
    """Open a slide.

    Args:
        path: The file (of MRXS, VMS and the like, the one that OpenSlide is given), an OME-Zarr, or the folder of one
            DICOM slide.
        mpp: Microns per level-0 pixel by the manifest, for slides whose metadata do not say; None if unknown.

    Returns:
        The slide; close it, or use it in a `with` statement.

    Raises:
        DataError: Missing, empty, no slide, cut off, without a possible scale, or contradicting `mpp`.
    """
    path = Path(path)
    if is_zarr(path):
        from .ome_zarr import OmeZarr

        source: Source = OmeZarr(path)
    else:
        if os.path.isdir(path):  # noqa: PTH112, which fails on no path, however long
            path = slide_in_folder(path)
        _refuse_unreadable(path)
        source = _source(path)
    try:
        return Slide(path, source, mpp)
    except BaseException:
        source.close()
        raise


def _refuse_unreadable(path: Path) -> None:
    refuse_irregular(path, DataError)
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise DataError(f"{path}: an empty file. Fetch it again.")
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}).") from None


def _source(path: Path) -> Source:
    """Open with OpenSlide where it can, else with what else reads such a file."""
    openslide = require("openslide", "slides", path)
    suffix = path.suffix.lower()
    try:
        return OpenSlideSource(path)
    except UnknownCodec as error:
        from .tiff_tiles import TiffTiles

        return TiffTiles(path, str(error))
    except openslide.OpenSlideUnsupportedFormatError:
        if suffix in (".mrxs", ".vms", ".vmu"):
            raise DataError(
                f"{path}: OpenSlide cannot read it. A {suffix[1:].upper()} slide is several files: are those that "
                "belong to it beside it?"
            ) from None
        if suffix in _IMAGES or file_kind(path) in IMAGES:
            return ImageSource(path)
        raise DataError(
            f"{path}: not a slide that OpenSlide knows; it may be cut off. Fetch or export it again."
        ) from None
