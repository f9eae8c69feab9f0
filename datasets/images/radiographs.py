"""Radiographs and other images from PNG, JPEG, TIFF, BMP, WebP and DICOM files: grey or RGB, 0..1, bright = dense.

What a file is, its first bytes say, not its name. Its size is checked before anything is decoded. A file that
is cut off is refused, never filled up.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from ...core.errors import DataError
from ..kinds import DICOM, EMPTY, IMAGES, file_kind
from ..loading.limits import IMAGE_MEGAPIXELS
from .colour import LUMA, SAMPLE_PX, Read, holds_colour
from .grey_range import robust_most
from .png import refuse_broken_png
from .resampling import area_averaged, cv2, without_opencv

RADIOGRAPH_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", ".bmp", ".webp")

# Every grey level is a multiple of this, so that x and 1 - x are both exact in float32.
STEP = 2.0**-24

# Opened by class and not by `Image.open`, whose limit of size and whose warnings are global settings of
# Pillow.
_OPENERS = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}
_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_MIN_IS_WHITE = 258, 262, 0
_EXIF_ORIENTATION = 274


def read_radiograph(
    path: str | Path,
    shorter_px: int | None = None,
    *,
    channels: int = 1,
    min_px: int = 16,
    max_megapixels: float | None = None,
) -> np.ndarray:
    """Read one radiograph, or another image.

    8 bits span 0..255. 16-bit PNG and TIFF files span the fewest bits, 8 to 16, that hold their brightest
    pixel: 12-bit values in a 16-bit file are common. Transparency is ignored, EXIF orientation is applied.

    In DICOM come the modality rescale or table, then the first VOI table or else the first VOI window, then
    the inversion of MONOCHROME1. Without table and window, 8 stored bits span 0..255 and others the image's
    own range (padding pixels left out; a constant image is 0).

    Args:
        path: The file.
        shorter_px: If given, the image is shrunk by area averaging so that its shorter side has so many px.
            It is never enlarged.
        channels: 1 for grey, colours becoming luma; 3 for RGB, grey becoming three equal channels.
        min_px: Least height and width of the file's image.
        max_megapixels: Greatest height x width / 10^6, checked before decoding; None for the limit of all images
            (`limits.IMAGE_MEGAPIXELS`).

    Returns:
        (H, W) or, with three channels, (H, W, 3) float32 in 0..1, multiples of 2^-24.

    Raises:
        DataError: The file cannot be opened, is none of these formats, is empty, broken, cut off, too small
            or too large, holds several images or numbers that are no grey levels.
    """
    path = Path(path)
    with _opened(path) as image:
        _refuse_size(path, image.size, min_px, max_megapixels)
        levels = image.decode(shorter_px, channels)
    return _finished(path, levels, image, shorter_px, channels)


def read_grey(path: str | Path, shorter_px: int | None = None) -> Read:
    """Read one image as grey levels, as `read_radiograph` does, and note whether it holds colours.

    Raises:
        DataError: As `read_radiograph`.
    """
    path = Path(path)
    with _opened(path) as image:
        _refuse_size(path, image.size, 16, None)
        levels = image.decode(shorter_px, 1)
        coloured = image.holds_colour()
    return Read(_finished(path, levels, image, shorter_px, 1), coloured)


def radiograph_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) in px of the image as `read_radiograph` would return it, from the header alone.

    Raises:
        DataError: The file cannot be opened, is none of the formats, or its header is broken.
    """
    with _opened(Path(path)) as image:
        height, width = image.size
        return (width, height) if image.orientation >= 5 else (height, width)


class _Opened(Protocol):
    """An open file of which only the header was read.

    Attributes:
        size: (height, width) in px as stored.
        orientation: EXIF orientation 1..8 to be applied to the decoded image.
        negative: Whether bright means thin in the decoded image.
    """

    size: tuple[int, int]
    orientation: int
    negative: bool

    def decode(self, shorter_px: int | None, channels: int) -> np.ndarray:
        """Return (H, W), or (H, W, 3) of colours that are wanted in three channels, in 0..1.

        Its shorter side may be less than stored, but at least twice `shorter_px`.
        """

    def holds_colour(self) -> bool:
        """Return whether the image, decoded before, holds colours."""


class _Image:
    """An image that Pillow (or, with 16 bits and several channels, OpenCV) decodes."""

    def __init__(self, path: Path, file: BinaryIO, kind: str):
        self._path, self._file, self._kind = path, file, kind
        with _pillow(path, kind):
            self._image: Any = _OPENERS[kind](file)
            frames = getattr(self._image, "n_frames", 1)
            self.size = self._image.height, self._image.width
            # Pillow has taken the orientation of a TIFF into its size already, and turns it when it decodes.
            self.orientation = 1 if kind == "TIFF" else _orientation(self._image, kind)
            tags = self._image.tag_v2 if kind == "TIFF" else {}
            self._bits = max(tags.get(_TIFF_BITS, (8,))) if kind == "TIFF" else _png_bits(file, kind)
        if frames > 1:
            raise DataError(f"{path}: the file holds {frames} images; a radiograph is one. Export the one meant.")
        self._grey = self._image.mode in _GREY_MODES or self._image.mode.startswith("I;16")
        self.negative = self._image.mode.startswith("I;16") and tags.get(_TIFF_PHOTOMETRIC) == _TIFF_MIN_IS_WHITE

    def decode(self, shorter_px: int | None, channels: int) -> np.ndarray:
        image = self._image
        if not (self._grey or image.mode in _COLOUR_MODES):
            raise DataError(
                f"{self._path}: a {self._kind} with pixels of the kind {image.mode!r}, which have no known "
                "range of grey. Save it with 8 or 16 bits per channel, grey or RGB."
            )
        with _pillow(self._path, self._kind):
            if self._kind == "JPEG":
                # For grey the decoder gives the luma plane alone; it halves as often as leaves twice the wanted size.
                least = (2 * shorter_px,) * 2 if shorter_px else image.size
                image.draft("L" if channels == 1 else image.mode, least)
            image.load()
            if self._kind == "PNG":
                refuse_broken_png(self._path, self._file, np.asarray(image.crop((0, image.height - 1, *image.size))))
            if self._bits > 8 and not image.mode.startswith("I;16"):
                return _deep_colour(self._path, self._file, channels)
            if image.mode.startswith("I;16"):
                return by_used_bits(np.asarray(image))
            if image.mode == "CMYK":  # of which Pillow makes no grey but by RGB
                image = image.convert("RGB")
            mode = "L" if channels == 1 or self._grey else "RGB"
            return np.asarray(image.convert(mode)).astype(np.float32) / 255

    def holds_colour(self) -> bool:
        if self._grey:
            return False
        with _pillow(self._path, self._kind):
            image = self._image
            if self._kind == "JPEG":  # of which only the luma was decoded
                self._file.seek(0)
                image = JpegImagePlugin.JpegImageFile(self._file)
                image.draft("RGB", (SAMPLE_PX, SAMPLE_PX))
            small = image.resize((SAMPLE_PX, SAMPLE_PX), Image.Resampling.NEAREST)
            return holds_colour(np.asarray(small.convert("RGB")))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    """Open a file and read its header, whatever its kind."""
    if os.path.isdir(path):  # noqa: PTH112, which fails on no path, however long
        raise DataError(f"{path}: a folder, not an image. Name the files in it.")
    kind = _kind(path)
    with path.open("rb") as file:
        if kind == DICOM:
            from .dicom import DicomImage  # pydicom is loaded when it is needed

            yield DicomImage(path, file)
        else:
            yield _Image(path, file, kind)


def _kind(path: Path) -> str:
    """Return the format that the first bytes announce."""
    kind = file_kind(path)
    if kind == EMPTY:
        raise DataError(f"{path}: the file is empty (0 bytes). Fetch it again.")
    if kind not in (*IMAGES, DICOM):
        raise DataError(
            f"{path}: no image that is read here: its first bytes are those of no PNG, JPEG, TIFF, BMP, WebP "
            "or DICOM file. Whatever its name says, look what it is."
        )
    return kind


def _refuse_size(path: Path, size: tuple[int, int], min_px: int, max_megapixels: float | None) -> None:
    height, width = size
    if min(height, width) < min_px:
        raise DataError(
            f"{path}: the image is {width}x{height} px, too small (at least {min_px}x{min_px} px). Leave it out."
        )
    if IMAGE_MEGAPIXELS.exceeded(height * width / 1e6, max_megapixels):
        raise DataError(
            f"{path}: the image is {width}x{height} px, too large ({IMAGE_MEGAPIXELS.text(max_megapixels)}). "
            "Shrink it, or leave it out."
        )


@contextlib.contextmanager
def _pillow(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a broken file into a DataError, and keep its warnings to itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: a broken or truncated {kind} file ({words}). Fetch it again.") from error


def _orientation(image: ImageFile.ImageFile, kind: str) -> int:
    # Pillow decodes a whole PNG in search of an EXIF block that may come after the pixels; one before them
    # will do.
    if kind == "PNG" and "exif" not in image.info:
        return 1
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _png_bits(file: BinaryIO, kind: str) -> int:
    """Return bits per channel of a PNG (the byte after width and height in its header); 8 for other formats."""
    if kind != "PNG":
        return 8
    position = file.tell()
    file.seek(24)
    bits = file.read(1)[0]
    file.seek(position)
    return bits


def _deep_colour(path: Path, file: BinaryIO, channels: int) -> np.ndarray:
    """Return the levels of an image with several channels of 16 bits, of which Pillow keeps only the upper 8.

    Pillow has decoded the file before, and so found it whole; OpenCV would not complain.
    """
    if cv2 is None:
        raise without_opencv(path, "it has several channels of 16 bits")
    file.seek(0)
    pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise DataError(f"{path}: 16 bits per channel in a layout that is not read. Save it as a 16-bit grey PNG.")
    if pixels.ndim == 3:
        pixels = pixels[..., 2::-1] if channels == 3 else pixels[..., 2::-1] @ LUMA
    return by_used_bits(pixels)


def by_used_bits(pixels: np.ndarray) -> np.ndarray:
    """Divide by the greatest number of the fewest bits, 8 to 16, that hold the brightest pixel.

    A few pixels that are far brighter than all others do not count, and exceed 1.
    """
    bits = max(8, int(np.rint(robust_most(pixels))).bit_length())
    return pixels.astype(np.float32) / (2**bits - 1)


def _finished(path: Path, levels: np.ndarray, image: _Opened, shorter_px: int | None, channels: int) -> np.ndarray:
    """Shrink decoded levels, refuse what are no numbers, turn bright to dense and the image upright."""
    if shorter_px is not None:
        levels = shrunk(levels, image.size, shorter_px)
    if not np.isfinite(levels.sum()):
        raise DataError(f"{path}: some of its grey levels are NaN or infinite. Export the file again.")
    levels = snapped(levels)
    levels = np.ascontiguousarray(_upright(1 - levels if image.negative else levels, image.orientation))
    return np.repeat(levels[..., None], 3, axis=2) if channels == 3 and levels.ndim == 2 else levels


def shrunk(grey: np.ndarray, size: tuple[int, int], shorter_px: int) -> np.ndarray:
    """Area-average (H, W[, 3]), stored as `size`, so that the shorter side has `shorter_px`; smaller ones stay."""
    if min(size) <= shorter_px:
        return grey
    height, width = (round(side * shorter_px / min(size)) for side in size)
    return area_averaged(grey, height, width)


def snapped(grey: np.ndarray) -> np.ndarray:
    """Return float32 within 0..1 in multiples of `STEP`; weights and averages may end a digit beyond."""
    grey = np.clip(grey, 0, 1).astype(np.float32, copy=False)
    grey *= np.float32(1 / STEP)
    np.rint(grey, out=grey)
    grey *= np.float32(STEP)
    return grey


def _upright(grey: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1..8): 5 to 8 are stored transposed, then come mirrored rows and columns."""
    if orientation >= 5:
        grey = grey.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1]
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    return grey
