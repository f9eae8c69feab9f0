"""Where the pixels of a slide come from: OpenSlide, or a plain image.

A source gives regions of one level as RGB, or raises a DataError that names the file and the place. What was
never scanned is white; what cannot be read is an error, never white.
"""

import os
import re
import struct
import warnings
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ...core.errors import DataError
from ..images.png import refuse_broken_png
from .dicom_series import imaged_um
from .jpeg_tiles import VENDORS, JpegTiles
from .scale import Scale, openslide_scale

_TIFF_BITS, _TIFF_DESCRIPTION, _TIFF_X_RESOLUTION, _TIFF_Y_RESOLUTION = 258, 270, 282, 283
_BIG_TIFF = 43  # the version in a header of 16 bytes instead of 8
_PNG_DEPTH_BYTE = 24  # in the header of every PNG file
# Pixels of Pillow that become 8-bit RGB without a guess.
_PLAIN_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
_CODEC = re.compile(r"Unsupported TIFF compression: (\d+)")
_PROOF_PX = 256  # side of what is compared of a level
_DICOM_ADVICE = (
    "A DICOM slide must say what kind of image it is (ImageType) and how its frames are laid out "
    "(DimensionOrganizationType): put together by a guess, they can come out scrambled."
)


class UnknownCodec(Exception):
    """A TIFF file whose compression OpenSlide does not read; the text says so."""


class Source(Protocol):
    """Open pixels.

    Attributes:
        sizes: (width, height) in px of each level, the largest first.
        downsamples: Level-0 px per px of each level.
        scale: What the metadata say of the scale.
    """

    sizes: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    scale: Scale

    def region(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Return (height, width, 3) uint8 of a level; `x` and `y` are level-0 px and lie inside the slide."""

    def close(self) -> None:
        """Let go of the file."""


class OpenSlideSource:
    """A slide that OpenSlide reads. Its handle is opened anew after an error and in a forked process.

    JPEG tiles are decoded without it, once a part of their level was seen to be the same.

    Raises:
        DataError: Broken, or with more than 8 bits per channel, which OpenSlide would darken without a word.
        openslide.OpenSlideUnsupportedFormatError: No format of OpenSlide.
    """

    def __init__(self, path: Path):
        import openslide

        self._path = path
        self._slide = None
        self._jpegs: JpegTiles | None = None
        self._proven: set[int] = set()
        if openslide.OpenSlide.detect_format(path) == "generic-tiff":
            _refuse_deep_tiff(path)
        slide = self._opened()
        self.sizes = tuple(slide.level_dimensions)
        self.downsamples = tuple(slide.level_downsamples)
        self.scale = openslide_scale(slide.properties)
        vendor = slide.properties.get(openslide.PROPERTY_NAME_VENDOR)
        if vendor == "dicom" and not self.scale.x_um:
            self.scale = Scale(*imaged_um(path, self.sizes[0]))
        self._of_jpegs = vendor in VENDORS

    def _opened(self):
        import openslide

        if self._slide is None or self._process != os.getpid():
            # A fork shares the place in the file with its parent, and OpenSlide refuses all after one error.
            try:
                self._slide, self._process = openslide.OpenSlide(self._path), os.getpid()
            except openslide.OpenSlideUnsupportedFormatError:
                raise
            except openslide.OpenSlideError as error:
                if codec := _CODEC.search(str(error)):
                    raise UnknownCodec(f"a compression that OpenSlide does not read: {codec[1]}") from None
                dicom = f" {_DICOM_ADVICE}" if self._path.suffix.lower() == ".dcm" else ""
                raise DataError(
                    f"{self._path}: OpenSlide cannot read it ({_reason(error, self._path)}). Fetch or export it again."
                    f"{dicom}"
                ) from None
        return self._slide

    def region(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region of a level as RGB."""
        pixels = self._decoded(x, y, level, width, height)
        return self._composed(x, y, level, width, height) if pixels is None else pixels

    def _decoded(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray | None:
        """Read a region from its JPEG tiles; None where one of them cannot be had, or OpenSlide differs."""
        if not self._of_jpegs:
            return None
        if self._jpegs is None:
            try:
                self._jpegs = JpegTiles(self._path, self.sizes, self.downsamples)
            except OSError:  # it cannot be opened a second time
                self._of_jpegs = False
                return None
        pixels = self._jpegs.region(x, y, level, width, height)
        if pixels is None or level in self._proven:
            return pixels
        seen = self._composed(x, y, level, min(width, _PROOF_PX), min(height, _PROOF_PX))
        if not np.array_equal(seen, pixels[:_PROOF_PX, :_PROOF_PX]):
            self._jpegs.leave(level)
            return None
        if seen.min() != seen.max():  # white alone proves nothing
            self._proven.add(level)
        return pixels

    def _composed(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region as OpenSlide puts it together."""
        import openslide

        slide = self._opened()
        try:
            rgba = np.asarray(slide.read_region((x, y), level, (width, height)))
        except openslide.OpenSlideError as error:
            self.close()
            raise DataError(
                f"{self._path}: the region of {width} x {height} px of level {level} at x = {x}, y = {y} cannot be "
                f"read ({_reason(error, self._path)}). The file is damaged or cut off there: fetch it again."
            ) from None
        return _on_white(rgba)

    def close(self) -> None:
        """Close the file."""
        if self._slide is not None:
            self._slide.close()
        if self._jpegs is not None:
            self._jpegs.close()
        self._slide = self._jpegs = None


class ImageSource:
    """A PNG, JPEG or untiled TIFF file of 8 bits per channel, decoded whole at the first read.

    Its size is limited as Pillow limits it (twice `PIL.Image.MAX_IMAGE_PIXELS`). An EXIF orientation is ignored,
    as viewers of slides do: coordinates count stored pixels.
    """

    downsamples = (1.0,)

    def __init__(self, path: Path):
        self._path = path
        self._pixels: np.ndarray | None = None
        with _image(path) as image:
            self.sizes = (image.size,)
            self.scale = openslide_scale(_properties(image))

    def region(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region of a level as RGB."""
        if self._pixels is None:
            with _image(self._path) as image:
                self._pixels = _decoded(self._path, image)
        return self._pixels[y : y + height, x : x + width].copy()

    def close(self) -> None:
        """Close the file."""
        self._pixels = None


def _on_white(rgba: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) uint8; the transparent parts, which were not scanned, become white."""
    rgb = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)
    if rgba[..., 3].min() == 255:
        return rgb
    alpha = cv2.cvtColor(rgba[..., 3], cv2.COLOR_GRAY2RGB)
    return cv2.add(cv2.multiply(rgb, alpha, scale=1 / 255), cv2.bitwise_not(alpha))


def _properties(image) -> dict[str, str]:
    """Return the resolution of an image, and of TIFF what its tags say, by OpenSlide's names."""
    x, y = image.info.get("dpi", (0, 0))
    found = {"tiff.XResolution": str(float(x)), "tiff.YResolution": str(float(y)), "tiff.ResolutionUnit": "inch"}
    if image.format == "TIFF":
        tags = image.tag_v2
        found["tiff.ImageDescription"] = str(tags.get(_TIFF_DESCRIPTION, ""))
        if found["tiff.ImageDescription"].startswith("ImageJ="):  # its resolution is per a unit of its own
            sides = {"tiff.XResolution": _TIFF_X_RESOLUTION, "tiff.YResolution": _TIFF_Y_RESOLUTION}
            found |= {name: str(float(tags.get(tag, 0))) for name, tag in sides.items()}
            found["tiff.ResolutionUnit"] = "none"
    return found


# What Pillow raises of damaged files.
_BROKEN = (OSError, ValueError, TypeError, SyntaxError, EOFError)


def _image(path: Path):
    """Return the Pillow image of a file, not decoded yet, if it is a plain image of 8 bits and not too large."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs to be, and broken EXIF
            image = Image.open(path, formats=("PNG", "JPEG", "TIFF"))
    except Image.DecompressionBombError:
        raise DataError(
            f"{path}: a plain image of more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} million px is not decoded "
            "at once. Save it as a tiled pyramidal TIFF, which is read in parts."
        ) from None
    except (UnidentifiedImageError, *_BROKEN):
        raise _not_to_be_opened(path) from None
    try:
        _refuse_unusual(path, image)
    except BaseException as error:
        image.close()
        # The further pages of a TIFF that is cut off fail only here.
        if isinstance(error, _BROKEN) and not isinstance(error, DataError):
            raise _not_to_be_opened(path) from None
        raise
    return image


def _not_to_be_opened(path: Path) -> DataError:
    return DataError(
        f"{path}: neither a slide that OpenSlide knows nor a PNG, JPEG or TIFF image that can be opened; it may "
        "be cut off. Fetch or export it again."
    )


def _refuse_unusual(path: Path, image) -> None:
    """Raise DataError for a stack of images and for pixels that do not become 8-bit RGB without a guess."""
    bits = _bits(path, image)
    if bits > 8 or image.mode not in _PLAIN_MODES:
        _refuse_depth(path, f"{bits} bits per channel" if bits > 8 else f"pixels of the kind {image.mode!r}")
    size = image.size
    for page in range(1, getattr(image, "n_frames", 1)):
        image.seek(page)
        if image.width * image.height >= size[0] * size[1]:
            raise DataError(
                f"{path}: a stack of images; which is the slide, it does not say. Save that one as a file of its own."
            )
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)


def _bits(path: Path, image) -> int:
    """Return bits per channel as stored; Pillow drops the lower half of 16-bit colours without a word."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(_TIFF_BITS, (8,)))
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(_PNG_DEPTH_BYTE + 1)[_PNG_DEPTH_BYTE]
    return 8


def _refuse_deep_tiff(path: Path) -> None:
    """Raise DataError if a tiled TIFF has more than 8 bits per channel."""
    from PIL import TiffImagePlugin

    with path.open("rb") as file:
        header = file.read(8)
        header += file.read(8) if _BIG_TIFF in header[2:4] else b""
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(directory.next)
        directory.load(file)
    bits = max(directory.get(_TIFF_BITS, (8,)))
    if bits > 8:
        _refuse_depth(path, f"{bits} bits per channel")


def _refuse_depth(path: Path, what: str) -> None:
    raise DataError(
        f"{path}: {what}; how bright its brightest value is meant to be, the file does not say. Save it with 8 bits "
        "per channel, grey or RGB."
    )


def _decoded(path: Path, image) -> np.ndarray:
    """Return (h, w, 3) uint8 of a whole image; transparent parts become white."""
    try:
        image.load()
        if image.format == "PNG":
            with path.open("rb") as file:
                refuse_broken_png(path, file, np.asarray(image.crop((0, image.height - 1, *image.size))))
        if image.has_transparency_data:
            return _on_white(np.asarray(image.convert("RGBA")))
        return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise DataError(f"{path}: the image cannot be decoded ({error}). It is cut off: fetch it again.") from None


def _reason(error: Exception, path: Path) -> str:
    """Return OpenSlide's words on one line, without the path that the message begins with."""
    return " ".join(str(error).replace(str(path), path.name).split()).rstrip(".")
