"""Radiographs in DICOM files: stored pixels to grey levels in 0..1, and facts of a header that name nobody.

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
from ...core.secret import keyed_hash
from ..loading.limits import INFLATED_GB
from .colour import LUMA, holds_colour
from .dicom_frames import stored_pixels

DICOM_SUFFIXES = (".dcm", ".dicom")

_PALETTE_TAGS = tuple(
    f"{prefix}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for prefix, part in ((colour, "Descriptor"), (colour, "Data"), (f"Segmented{colour}", "Data"))
)
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
    *_PALETTE_TAGS,
)
# Of a deflated file, what may precede its pixels, inflated; and what says how large these are, in bits.
HEADER_BYTES = 2**24
_SIZE_TAGS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
_FACT_TAGS = ("ViewPosition", "PatientSex", "PatientAge", "PatientID", "StudyInstanceUID")
_AGE_UNITS_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


class DicomImage:
    """One radiograph in an open DICOM file; the header is read at once, the pixels by `decode`.

    Attributes:
        size: (height, width) in px.
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
        self.negative = header.get("PhotometricInterpretation") == "MONOCHROME1"

    def decode(self, shorter_px: int | None = None, channels: int = 1) -> np.ndarray:
        """Return levels in 0..1 before the inversion of MONOCHROME1, in the full size.

        Args:
            shorter_px: Without meaning here; images in other formats are decoded smaller.
            channels: 3 keeps colours.

        Returns:
            (H, W), or (H, W, 3) of colours that are kept.

        Raises:
            DataError: No pixels, a transfer syntax or a layout that is not read, or broken data.
        """
        dataset = read_elements(self._path, self._file, PIXEL_TAGS)
        if "PixelData" not in dataset:
            raise DataError(
                f"{self._path}: a DICOM file without pixel data: it is a header only, or was cut off. "
                "Fetch or export it again."
            )
        with decoding(self._path), quiet():
            levels, self._coloured = _levels(self._path, dataset, channels)
            return levels

    def holds_colour(self) -> bool:
        """Return whether the image, decoded before, holds colours."""
        return self._coloured


def dicom_facts(path: str | Path, salt: str) -> dict[str, str | float | None]:
    """Read facts of a DICOM header for a manifest that say nothing about who the patient is.

    Args:
        path: The file.
        salt: A key of 16 bytes or more, the same for all files of a data set and kept secret (`core.secret`): patient
            numbers are short, and without it a hash is reversed by hashing every number there is.

    Returns:
        `view` (ViewPosition: `PA`, `AP`, `LL`, ...; '' if not given), `sex` (`M`, `F`, `O` or ''), `age` in
        years (90 for all above 89; None if not given), `patient` and `study`: the first 16
        hexadecimal digits of the HMAC-SHA256 of the identifier ('' if not given).

    Raises:
        DataError: The file cannot be opened or is no DICOM file.
        UserError: The salt is too short.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = read_elements(path, file, _FACT_TAGS, stop_before_pixels=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}).") from None
    return {
        "view": _text(header, "ViewPosition").upper(),
        "sex": _text(header, "PatientSex").upper(),
        "age": _top_coded(_years(_text(header, "PatientAge"))),
        "patient": _hashed(_text(header, "PatientID"), salt),
        "study": _hashed(_text(header, "StudyInstanceUID"), salt),
    }


def read_elements(path: Path, file: BinaryIO, tags: tuple[str, ...], stop_before_pixels: bool = False) -> Dataset:
    """Read the named elements, with or without the preamble, and settle the transfer syntax."""
    with decoding(path), quiet():
        content = _inflated(path, file, stop_before_pixels)
        dataset = dcmread(content, stop_before_pixels=stop_before_pixels, force=True, specific_tags=list(tags))
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        for tag in tags:  # Elements are parsed when first looked at; here a broken one is caught.
            dataset.get(tag)
    return dataset


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
    if header_only:
        return _as_explicit(explicit, header)
    declared = dcmread(_as_explicit(explicit, header), stop_before_pixels=True, specific_tags=list(_SIZE_TAGS))
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
    """Keep the warnings of pydicom, which may quote names, and of decoders from the console and the logs."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "openjpeg")]
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


def _levels(path: Path, dataset: Dataset, channels: int) -> tuple[np.ndarray, bool]:
    """Return levels in 0..1 of a parsed file, before the inversion of MONOCHROME1, and whether it holds colours."""
    stored, colour = stored_pixels(path, dataset)
    if colour in ("RGB", "PALETTE COLOR"):
        bits = dataset.BitsStored
        if colour == "PALETTE COLOR":
            stored, bits = apply_color_lut(stored, dataset)[..., :3], dataset.RedPaletteColorLookupTableDescriptor[2]
        coloured = holds_colour((stored >> max(0, bits - 8)).astype(np.uint8))
        return (stored if channels == 3 else stored @ LUMA) / (2**bits - 1), coloured
    if colour not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"{path}: colours of the kind {colour!r} are not read. Export the file as MONOCHROME2.")
    values, full_range = _modality_values(stored, dataset)
    return _presented(values, dataset, lambda: full_range or _range(values[~_padding(stored, dataset)])), False


def frame_levels(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return (H, W) in 0..1 of one monochrome frame of several, before the inversion of MONOCHROME1.

    As for a radiograph, but that without VOI table and window all stored bits span 0..1: one frame's own range
    would flicker.
    """
    values, _ = _modality_values(stored, dataset)
    lowest = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
    ends, _ = _modality_values(np.array([lowest, lowest + 2**dataset.BitsStored - 1]), dataset)
    return _presented(values, dataset, lambda: _range(ends))


def _presented(values: np.ndarray, dataset: Dataset, span: Callable[[], tuple[float, float]]) -> np.ndarray:
    """Return 0..1 by the VOI table, else the VOI window, else over the `span` of values."""
    voi_table = _table(dataset, "VOILUTSequence")
    if voi_table:
        return voi_table(values)
    window = _window(dataset)
    if window:
        return window(values)
    low, high = span()
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)


def _modality_values(stored: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Return values in modality units and, for 8 stored bits, the range that these span (None = the image's own).

    pydicom's `apply_modality_lut` fails for tables of 10 to 15 bits and for tables that begin below 0.
    """
    table = _table(dataset, "ModalityLUTSequence")
    if table:
        return table(stored), None
    values = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        slope, intercept = 1.0, 0.0
    if (slope, intercept) != (1, 0):
        values = values * float(slope) + float(intercept)
    if dataset.BitsStored != 8:
        return values, None
    ends = np.array([-128, 127] if dataset.PixelRepresentation else [0, 255]) * float(slope) + float(intercept)
    return values, (float(ends.min()), float(ends.max()))


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


def _table(dataset: Dataset, name: str) -> _Table | None:
    """Return the first table of a sequence, VOI tables scaled to 0..1; None where there is none.

    pydicom's `apply_voi` wraps around in tables of more than 256 entries of 8 bits, and wants whole numbers.
    """
    items = dataset.get(name)
    if not items or "LUTData" not in items[0] or "LUTDescriptor" not in items[0]:
        return None
    count, first, bits = items[0].LUTDescriptor
    count = count or 2**16
    entries = items[0].LUTData
    if isinstance(entries, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(entries, f"{order}u2" if len(entries) >= 2 * count else np.uint8)
    entries = np.asarray(entries, np.float32)[:count]
    if name == "VOILUTSequence":
        entries = entries / max(2**bits - 1, entries.max())  # some devices announce fewer bits than they use
    return _Table(int(first), entries)


def _window(dataset: Dataset) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the first VOI window as a function from modality values to 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    None where there is none, or none that the standard allows: a width below 1 (LINEAR) or not above 0.
    pydicom's `apply_windowing` is the same up to its scale: it maps onto the stored range.
    """
    centre, width = (_first_number(dataset, name) for name in ("WindowCenter", "WindowWidth"))
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
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return (stored >= low) & (stored <= high)


def _range(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _first_number(dataset: Dataset, name: str) -> float:
    """Return the first value of a decimal element, NaN if absent or empty."""
    value = dataset.get(name)
    if value is not None and not isinstance(value, (int, float)):
        value = next(iter(value), None)
    return math.nan if value is None else float(value)


def _text(header: Dataset, name: str) -> str:
    value = header.get(name)
    return "" if value is None else str(value).strip()


def _years(age: str) -> float | None:
    """Return an age such as `045Y`, `018M`, `003W`, `010D` or `45` in years, to 2 digits; None if it is no such."""
    match = re.fullmatch(r"(\d+)([DWMY]?)", age)
    return round(int(match[1]) / _AGE_UNITS_PER_YEAR[match[2] or "Y"], 2) if match else None


def _top_coded(years: float | None) -> float | None:
    """Return 90 for all ages above 89, which are so rare that they name people (HIPAA, 45 CFR 164.514 (b)(2)(i)(C))."""
    return 90.0 if years is not None and years > 89 else years


def _hashed(identifier: str, salt: str) -> str:
    return keyed_hash(salt, identifier) if identifier else ""
