"""Radiographs in DICOM files: stored pixels to grey levels in 0..1.

The order of the steps is the standard's (PS3.3 C.11, PS3.4 N.2): modality rescale or table, VOI window or
table, and only then the inversion of MONOCHROME1. Overlays are ignored. No message carries a value of the
header that could name a patient, and so none carries the words of pydicom, which quote such values.
"""

import contextlib
import io
import logging
import math
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.pixels import apply_color_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ...core.errors import DataError
from ..loading.limits import INFLATED_GB
from .colour import LUMA, holds_colour
from .dicom_frames import stored_pixels
from .grey_range import robust_range
from .resampling import stretched

# Height and width of a pixel, in this order; the first that is given counts.
_SHAPES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")
_MOST_ASPECT, _SAME_ASPECT = 20, 0.01  # no image has such pixels; what rounding makes of square ones
_UNDEFINED = 0xFFFFFFFF  # a length that is not said, of compressed pixels

_PALETTE_TAGS = tuple(
    f"{prefix}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for prefix, part in ((colour, "Descriptor"), (colour, "Data"), (f"Segmented{colour}", "Data"))
)
_COLOURS = ("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK")
# All that is ever read of a file for its pixels: no name, no date, no identifier enters the process.
PIXEL_TAGS = (
    "SOPClassUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "ModalityLUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
    *_FLOATS,
    *_SHAPES,
    *_PALETTE_TAGS,
)
# Of a deflated file, what may precede its pixels, inflated; and what says how large these are, in bits.
HEADER_BYTES = 2**24
_SIZE_TAGS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")


class DicomImage:
    """One radiograph in an open DICOM file; the header is read at once, the pixels by `decode`.

    Attributes:
        size: (height, width) in px once the pixels are square.
        orientation: 1, DICOM having no EXIF orientation.
        negative: Whether the grey levels must be inverted for bright to be dense (MONOCHROME1).
    """

    orientation = 1

    def __init__(self, path: Path, file: BinaryIO):
        self._path, self._file = path, file
        header = read_elements(path, file, PIXEL_TAGS, stop_before_pixels=True)
        try:
            self.size = int(header["Rows"].value), int(header["Columns"].value)
        except (KeyError, TypeError, ValueError):
            kind = header.get("SOPClassUID")
            kind = f" (it is a {kind.name})" if isinstance(kind, UID) and kind.name != kind else ""
            raise DataError(f"{path}: a DICOM file without an image{kind}. Take it out of the list.") from None
        frames = header.get("NumberOfFrames") or 1
        if frames != 1:
            raise DataError(
                f"{path}: a multi-frame DICOM file ({frames} frames); a radiograph is one image. "
                "Export the frame that is meant as a file of its own."
            )
        self.size = _square_size(path, self.size, header)
        self.negative = header.get("PhotometricInterpretation") == "MONOCHROME1"

    def decode(self, shorter_px: int | None = None, channels: int = 1) -> np.ndarray:
        """Return levels in 0..1 before the inversion of MONOCHROME1, in the full size, pixels made square.

        Args:
            shorter_px: Without meaning here; images in other formats are decoded smaller.
            channels: 3 keeps colours.

        Returns:
            (H, W), or (H, W, 3) of colours that are kept.

        Raises:
            DataError: No pixels, a transfer syntax or a layout that is not read, or broken data.
        """
        dataset = read_elements(self._path, self._file, PIXEL_TAGS)
        if any(name in dataset for name in _FLOATS):
            raise DataError(
                f"{self._path}: its pixels are floating-point numbers, which have no known range of grey. Export it "
                "with whole numbers."
            )
        if "PixelData" not in dataset:
            raise DataError(
                f"{self._path}: a DICOM file without pixel data: it is a header only, or was cut off. "
                "Fetch or export it again."
            )
        with decoding(self._path), quiet():
            levels, self._coloured = _levels(self._path, dataset, channels)
        if levels.shape[:2] == self.size:
            return levels
        return stretched(levels, *self.size, self._path)

    def holds_colour(self) -> bool:
        """Return whether the image, decoded before, holds colours."""
        return self._coloured


def read_elements(path: Path, file: BinaryIO, tags: tuple[str, ...], stop_before_pixels: bool = False) -> Dataset:
    """Read the named elements, with or without the preamble, and settle the transfer syntax."""
    with decoding(path), quiet():
        content = _inflated(path, file, stop_before_pixels)
        dataset = dcmread(content, stop_before_pixels=stop_before_pixels, force=True, specific_tags=list(tags))
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        _refuse_cut_off(path, dataset)
        for tag in tags:  # Elements are parsed when first looked at; here a broken one is caught.
            dataset.get(tag)
        if isinstance(kind := dataset.get("PhotometricInterpretation"), str):  # a code of capitals, not always so sent
            dataset.PhotometricInterpretation = kind.strip().upper()
    return dataset


def _refuse_cut_off(path: Path, dataset: Dataset) -> None:
    """Raise if the file ends within an element: pydicom gives what is there of its value."""
    for element in dataset.values():
        if not isinstance(element, RawDataElement) or element.length == _UNDEFINED or element.value is None:
            continue
        if len(element.value) < element.length:
            raise DataError(
                f"{path}: a broken or truncated DICOM file: {len(element.value):,} of {element.length:,} bytes of an "
                "element are there. Fetch it again from where it came from."
            )


def _inflated(path: Path, file: BinaryIO, header_only: bool) -> BinaryIO:
    """Return a DICOM file at its beginning; a deflated one inflated, as far as its header says that it goes.

    pydicom would inflate it whole, whatever it becomes.
    """
    meta = _meta(file, implicit=False)
    try:
        meta[next(iter(meta.keys()), "TransferSyntaxUID")]
    except KeyError:
        file.seek(0)
        return file
    except NotImplementedError:  # implicit, against the standard; found out in the way that pydicom does
        meta = _meta(file, implicit=True)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return file
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    header = _inflate(inflate, file, HEADER_BYTES)
    explicit = FileMetaDataset()
    explicit.TransferSyntaxUID = ExplicitVRLittleEndian
    if header_only and len(header) < HEADER_BYTES:
        return _as_explicit(explicit, header)
    declared = dcmread(_as_explicit(explicit, header), stop_before_pixels=True, specific_tags=list(_SIZE_TAGS))
    if len(header) == HEADER_BYTES and "Rows" not in declared:
        raise DataError(
            f"{path}: a DICOM file that inflates to more than {HEADER_BYTES / 1e6:.0f} MB without describing an "
            "image: damaged, or made to fill the memory. Do not use it."
        )
    if header_only:
        return _as_explicit(explicit, header)
    pixels = math.prod(int(declared.get(tag) or 1) for tag in _SIZE_TAGS) // 8
    if INFLATED_GB.exceeded(pixels / 1e9):
        raise DataError(f"{path}: a DICOM file that inflates to more than is read ({INFLATED_GB.text()}).")
    rest = _inflate(inflate, file, pixels)
    if _inflate(inflate, file, 1):
        raise DataError(f"{path}: a DICOM file that inflates to more than its header says. Fetch it again.")
    return _as_explicit(explicit, header + rest)


def _inflate(inflate, file: BinaryIO, size: int) -> bytes:
    """Inflate the next bytes of a stream, at most `size`."""
    out = bytearray()
    while len(out) < size and not inflate.eof and (packed := inflate.unconsumed_tail or file.read(2**20)):
        out += inflate.decompress(packed, size - len(out))
    return bytes(out)


def _as_explicit(meta: FileMetaDataset, dataset: bytes) -> BinaryIO:
    """Return an inflated data set as a file of the transfer syntax that it now has."""
    content = io.BytesIO()
    content.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(content, meta, enforce_standard=False)
    content.write(dataset)
    content.seek(0)
    return content


def _meta(file: BinaryIO, implicit: bool) -> Dataset:
    """Return the meta information; the file is left where the data set begins."""
    file.seek(0)
    read_preamble(file, force=True)
    return read_dataset(file, implicit, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)


@contextlib.contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever pydicom and the decoders raise on a broken file into a DataError that quotes nothing."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{path}: a broken or truncated DICOM file ({type(error).__name__} while reading it). "
            "Fetch it again from where it came from."
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings of pydicom and highdicom, which may quote names, and of decoders from the console and the logs."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "openjpeg", "highdicom")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _square_size(path: Path, size: tuple[int, int], header: Dataset) -> tuple[int, int]:
    """Return (height, width) that an image has with square pixels: the side with the larger ones grows.

    The distances of rows and columns count, else the aspect ratio, which the standard (PS3.3 C.7.6.3.1.7) has where
    there are no distances.
    """
    pairs = [decimals(header.get(name)) for name in _SHAPES]
    high, wide = next((pair for pair in pairs if len(pair) == 2 and min(pair) > 0), (1.0, 1.0))
    ratio = high / wide
    if not 1 / _MOST_ASPECT <= ratio <= _MOST_ASPECT:
        raise DataError(f"{path}: its pixels are {ratio:.4g} times as high as wide. Export it with a correct header.")
    if abs(ratio - 1) < _SAME_ASPECT:
        return size
    height, width = size
    return (round(height * ratio), width) if ratio > 1 else (height, round(width / ratio))


def _levels(path: Path, dataset: Dataset, channels: int) -> tuple[np.ndarray, bool]:
    """Return levels in 0..1 of a parsed file, before the inversion of MONOCHROME1, and whether it holds colours."""
    stored, colour = stored_pixels(path, dataset)
    if colour in ("RGB", "PALETTE COLOR"):
        bits = dataset.BitsStored
        most = 2**bits - 1
        if colour == "PALETTE COLOR":
            stored, bits, most = palette_colours(stored, dataset)
        coloured = holds_colour((stored >> max(0, bits - 8)).astype(np.uint8))
        return (stored if channels == 3 else stored @ LUMA) / most, coloured
    if colour not in ("MONOCHROME1", "MONOCHROME2"):
        named = f" {colour}" if colour in _COLOURS else ""
        raise DataError(f"{path}: colours of the kind{named} are not read. Export the file as MONOCHROME2 or RGB.")
    values, full_range = _modality_values(path, stored, dataset)
    padding = _padding(stored, dataset)
    return _presented(path, values, dataset, padding, lambda: full_range or robust_range(values[~padding])), False


def palette_colours(stored: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, int, int]:
    """Return (H, W, 3) colours of a palette, how many bits they have, and which number is full brightness."""
    count, first, bits = dataset.RedPaletteColorLookupTableDescriptor
    every = apply_color_lut(np.arange(first, first + (count or 2**16), dtype=np.int64), dataset)[..., :3]
    most = _full_scale(int(every.max()), bits)
    return apply_color_lut(stored, dataset)[..., :3], most.bit_length(), most


def frame_levels(path: Path, stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return (H, W) in 0..1 of one monochrome frame of several, before the inversion of MONOCHROME1.

    As for a radiograph, but that without VOI table and window all stored bits span 0..1: one frame's own range
    would flicker.
    """
    values, _ = _modality_values(path, stored, dataset)
    ends, _ = _modality_values(path, _stored_ends(dataset), dataset)
    span = float(ends.min()), float(ends.max())
    return _presented(path, values, dataset, _padding(stored, dataset), lambda: span)


def _presented(
    path: Path, values: np.ndarray, dataset: Dataset, padding: np.ndarray, span: Callable[[], tuple[float, float]]
) -> np.ndarray:
    """Return 0..1 by the VOI table, else the VOI window, else over the `span` of values; padding is black."""
    shown = _table(path, dataset, "VOILUTSequence") or _window(dataset)
    if shown:
        levels = shown(values)
    else:
        low, high = span()
        levels = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    if padding.any():
        levels[padding] = 1 if dataset.PhotometricInterpretation == "MONOCHROME1" else 0
    return levels


def _modality_values(path: Path, stored: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Return values in modality units and, for 8 stored bits, the range that these span (None = the image's own).

    pydicom's `apply_modality_lut` fails for tables of 10 to 15 bits and for tables that begin below 0.
    """
    table = _table(path, dataset, "ModalityLUTSequence")
    if table:
        return table(stored), None
    values = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
    slope, intercept = 1.0, 0.0
    if dataset.get("RescaleSlope") is not None and dataset.get("RescaleIntercept") is not None:
        slope, intercept = (_rescale(path, dataset, name) for name in ("RescaleSlope", "RescaleIntercept"))
    if (slope, intercept) != (1, 0):
        values = values * slope + intercept
    if dataset.BitsStored != 8:
        return values, None
    ends = np.array([-128, 127] if dataset.PixelRepresentation else [0, 255]) * slope + intercept
    return values, (float(ends.min()), float(ends.max()))


def _rescale(path: Path, dataset: Dataset, name: str) -> float:
    numbers = decimals(dataset.get(name))
    if not numbers:
        raise DataError(f"{path}: its {name} is no number. Export the file again with a correct header.")
    return numbers[0]


@dataclass(frozen=True)
class _Table:
    """A lookup table of the modality or VOI step (PS3.3 C.11.1.1.1, C.11.2.1.1).

    Attributes:
        first: The value that is mapped to the first entry; smaller ones are too.
        entries: (K,) float32; the last one serves all greater values.
    """

    first: int
    entries: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        places = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[places]


def _table(path: Path, dataset: Dataset, name: str) -> _Table | None:
    """Return the first table of a sequence, VOI tables scaled to 0..1; None where there is none.

    pydicom's `apply_voi` wraps around in tables of more than 256 entries of 8 bits, and wants whole numbers.
    """
    items = dataset.get(name)
    if not items or "LUTData" not in items[0] or "LUTDescriptor" not in items[0]:
        return None
    count, first, bits = items[0].LUTDescriptor
    count = count or 2**16
    if first >= 2**15 and first > _highest_input(path, dataset, name):
        first -= 2**16  # implicit VR does not say the sign, and pydicom takes that of the stored pixels
    entries = items[0].LUTData
    if isinstance(entries, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(entries, f"{order}u2" if len(entries) >= 2 * count else np.uint8)
    entries = np.asarray(entries, np.float32)[:count]
    if len(entries) < count:
        raise DataError(
            f"{path}: its {name} has {len(entries)} entries, but says {count}. Export the file again, or without it."
        )
    if name == "VOILUTSequence":
        entries = entries / _full_scale(int(entries.max()), bits)
    return _Table(int(first), entries)


def _highest_input(path: Path, dataset: Dataset, name: str) -> float:
    """Return the greatest value that a table may be asked for."""
    ends = _stored_ends(dataset)
    return float((ends if name == "ModalityLUTSequence" else _modality_values(path, ends, dataset)[0]).max())


def _stored_ends(dataset: Dataset) -> np.ndarray:
    """Return the least and the greatest number that the stored bits hold."""
    lowest = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
    return np.array([lowest, lowest + 2**dataset.BitsStored - 1])


def _full_scale(most: int, bits: int) -> int:
    """Return which number is full brightness in a table that declares so many bits and holds `most` at most.

    Some devices announce fewer bits than they use, others more: what leaves the upper half empty is not declared
    rightly, and spans its own range, as other viewers show it.
    """
    return most if 0 < most < 2 ** (bits - 1) else max(2**bits - 1, most)


def _window(dataset: Dataset) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the first VOI window as a function from modality values to 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    None where there is none, or none that the standard allows: a width below 1 (LINEAR) or not above 0.
    pydicom's `apply_windowing` is the same up to its scale: it maps onto the stored range.
    """
    pairs = zip(*(decimals(dataset.get(name), junk=math.nan) for name in ("WindowCenter", "WindowWidth")))
    centre, width = next((pair for pair in pairs if math.isfinite(sum(pair))), (math.nan, math.nan))
    shape = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if not math.isfinite(centre + width) or width <= 0 or (shape == "LINEAR" and width < 1):
        return None
    if shape == "SIGMOID":  # 1 / (1 + exp(-4 t)), written so that nothing overflows
        return lambda values: 0.5 + 0.5 * np.tanh(2 * (values - centre) / width)
    if shape == "LINEAR_EXACT":
        return lambda values: np.clip((values - centre) / width + 0.5, 0, 1)
    if shape != "LINEAR":
        return None
    if width == 1:
        return lambda values: (values > centre - 0.5).astype(values.dtype)
    return lambda values: np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return (H, W) True where a pixel only fills the frame (PS3.3 C.7.5.1.1.2)."""
    value, limit = (_as_stored(dataset, name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if value is None:
        return np.zeros(stored.shape, bool)
    low, high = sorted((value, value if limit is None else limit))
    return (stored >= low) & (stored <= high)


def _as_stored(dataset: Dataset, name: str) -> int | None:
    """Return a number in the representation of the pixels, whichever of the two its own element has."""
    value = dataset.get(name)
    if not isinstance(value, int):
        return None
    whole, bits = 2**dataset.BitsAllocated, dataset.BitsAllocated
    if dataset.PixelRepresentation and value >= 2 ** (bits - 1):
        return value - whole
    return value + whole if value < 0 and not dataset.PixelRepresentation else value


def decimals(value: object, junk: float | None = None) -> list[float]:
    """Return the numbers of a decimal element as people's devices write them, also with a decimal comma.

    Args:
        value: As pydicom gives it: a number, a text that is none, several of these, or None.
        junk: What stands for a text that is no number; None leaves it out.
    """
    if value is None:
        return []
    several = [value] if isinstance(value, (str, int, float)) else value
    found = [_decimal(each) if isinstance(each, str) else float(each) for each in several]
    return [junk if each is None else each for each in found if each is not None or junk is not None]


def _decimal(text: str) -> float | None:
    text = text.strip().replace(" ", "")
    if re.fullmatch(r"[+-]?\d+(\.\d{3})*,\d*", text):
        text = text.replace(".", "").replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return None
