"""The one frame of a DICOM file as stored numbers, whatever its transfer syntax.

pydicom decodes with Pillow, OpenJPEG and GDCM. GDCM ends the whole process on some broken frames, so what it
is given is looked at before.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.encaps import get_frame, parse_basic_offsets
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from ...core.errors import DataError
from ...core.extras import optional

# Decoders to be preferred: libjpeg-turbo and OpenJPEG raise on broken data where GDCM aborts, and
# pylibjpeg-rle panics past `Exception`.
_PLUGINS = {
    JPEGBaseline8Bit: "pillow",
    JPEG2000: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    RLELossless: "pydicom",
    JPEGExtended12Bit: "pillow",
}
_NEEDED = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "PixelRepresentation",
)  # fmt: skip
# PS3.3 C.7.6.3.1.2, the retired ones too.
_PHOTOMETRIC = frozenset(
    "MONOCHROME1|MONOCHROME2|PALETTE COLOR|RGB|HSV|ARGB|CMYK|YBR_FULL|YBR_FULL_422|YBR_PARTIAL_422|YBR_PARTIAL_420|"
    "YBR_ICT|YBR_RCT|XYB".split("|")
)
_MOST_FILLED = 4096  # bytes: a block of a disk
_ITEM = b"\xfe\xff\x00\xe0"  # what encapsulated pixel data begin with
_COMPRESSED = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP")  # JPEG and JPEG-LS, JPEG 2000 and its file
_END = b"\xff\xd9"  # the last marker of JPEG, JPEG-LS and JPEG 2000 alike
# Start-of-frame markers: JPEG's but for tables and restarts, and JPEG-LS's.
_FRAME_STARTS = frozenset([*range(0xC0, 0xD0), 0xF7]) - {0xC4, 0xC8, 0xCC}


def stored_pixels(path: Path, dataset: Dataset) -> tuple[np.ndarray, str]:
    """Decode the frame.

    Args:
        path: The file, for messages.
        dataset: Its elements about the image, single-frame.

    Returns:
        (H, W) or (H, W, 3) integers as stored, and their photometric interpretation after decoding.

    Raises:
        DataError: A layout or transfer syntax that is not read, or a frame that is cut off or contradicts its
            file.
        Exception: Whatever a decoder raises on broken data.
    """
    complete(dataset)
    refuse_impossible(path, dataset)
    syntax, bits = dataset.file_meta.TransferSyntaxUID, dataset.BitsStored
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(
            f"{path}: the transfer syntax {syntax.name} is not read. Export the file uncompressed."
        ) from None
    if not decoder.is_available or (syntax == JPEGExtended12Bit and bits > 8 and optional("gdcm") is None):
        raise DataError(
            f"{path}: no decoder for the transfer syntax {syntax.name} is installed here: pip install python-gdcm, or "
            "export the file uncompressed."
        )
    refuse_wrong_length(path, dataset, frames=1)
    if syntax.is_encapsulated and syntax != RLELossless:
        # Decoders give channels pixel by pixel, whatever order the header names for uncompressed data.
        dataset.PlanarConfiguration = 0
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        _refuse_broken_frame(path, frame, dataset)
        if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit) and dataset.SamplesPerPixel == 3:
            _settle_colours(frame, dataset)
        if syntax == JPEGExtended12Bit and bits > 8:
            return _extended_jpeg(frame, dataset), dataset.PhotometricInterpretation
    stored, properties = decoder.as_array(dataset, index=0, decoding_plugin=_PLUGINS.get(syntax, ""))
    return stored, str(properties["photometric_interpretation"])


def complete(dataset: Dataset) -> None:
    """Fill in what a header leaves out where there is no choice, for images and clips alike.

    Pixels of 8 bits and colours are unsigned; more bits may be signed, and a file that does not say it is refused.
    Colours lie pixel by pixel, as viewers take them and ultrasound must have them.
    """
    bits, samples = dataset.get("BitsStored"), dataset.get("SamplesPerPixel")
    if dataset.get("PixelRepresentation") is None and (samples == 3 or (bits is not None and bits <= 8)):
        dataset.PixelRepresentation = 0
    if samples == 3 and dataset.get("PlanarConfiguration") is None:
        dataset.PlanarConfiguration = 0


def refuse_impossible(path: Path, dataset: Dataset) -> None:
    """Raise unless the header describes pixels that can be.

    Raises:
        DataError: An element is missing or impossible.
    """
    missing = [name for name in _NEEDED if dataset.get(name) is None]
    if len(missing) == len(_NEEDED):  # pydicom gives nothing of compressed pixels without an end
        raise DataError(f"{path}: a broken or truncated DICOM file. Fetch it again from where it came from.")
    if missing:
        raise DataError(f"{path}: its header lacks {', '.join(missing)}. Export it again with a complete header.")
    if (kind := str(dataset.PhotometricInterpretation)) not in _PHOTOMETRIC:
        raise DataError(
            f"{path}: its PhotometricInterpretation {kind[:20]!r} is none of DICOM's. Export it again with a correct "
            "header."
        )
    bits, allocated = dataset.BitsStored, dataset.BitsAllocated
    if dataset.PixelRepresentation not in (0, 1) or not 1 <= bits <= allocated or dataset.SamplesPerPixel < 1:
        raise DataError(f"{path}: its header describes no possible pixels. Export it again with a correct header.")
    moved = dataset.SamplesPerPixel == 1 and dataset.get("HighBit", bits - 1) != bits - 1
    if moved or (allocated != 1 and allocated % 8):
        raise DataError(
            f"{path}: its {bits} stored bits do not begin at bit 0 of whole bytes (a retired layout). "
            "Export the file again with a present-day tool."
        )


def refuse_wrong_length(path: Path, dataset: Dataset, frames: int) -> None:
    """Raise unless the pixel data are as many as the header describes, and encoded as the transfer syntax says.

    Args:
        path: The file, for messages.
        dataset: Its elements about the image, with `PixelData`.
        frames: How many it shall hold.

    Raises:
        DataError: The transfer syntax is that of other data, or the length of the data contradicts rows, columns,
            samples, bits or frames.
    """
    data, syntax = dataset.PixelData, dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        if not data.startswith(_ITEM):
            raise DataError(
                f"{path}: its transfer syntax is {syntax.name}, but its pixel data are not compressed so. The header "
                "is wrong: export the file again."
            )
        if (listed := len(parse_basic_offsets(data))) > frames:
            raise DataError(f"{path}: its pixel data list {listed} frames, its header says {frames}. Export it again.")
        return
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else dataset.SamplesPerPixel
    expected = math.ceil(frames * dataset.Rows * dataset.Columns * samples * dataset.BitsAllocated / 8)
    excess = len(data) - expected
    if excess in (0, expected % 2) or _is_filled_up(data, expected, dataset.Rows * dataset.BitsAllocated // 8):
        return
    if data.startswith((_ITEM, *_COMPRESSED)):
        raise DataError(
            f"{path}: its pixel data are compressed, but its transfer syntax is {syntax.name}. The header is wrong: "
            "export the file again."
        )
    raise DataError(
        f"{path}: its pixel data are {'longer' if excess > 0 else 'shorter'} than its header says: {len(data):,} bytes,"
        f" but {dataset.Rows} rows x {dataset.Columns} columns x {dataset.SamplesPerPixel} samples x "
        f"{dataset.BitsAllocated} bits x {frames} frame(s) make {expected:,}. Export it again with a correct header."
    )


def _is_filled_up(data: bytes, expected: int, column: int) -> bool:
    """Return whether zeros follow the pixels up to a round length, and are not those of a larger image.

    Args:
        data: The pixel data.
        expected: How many bytes the header describes.
        column: Bytes that one more column would take.
    """
    excess = len(data) - expected
    if not 0 < excess <= min(_MOST_FILLED, expected // 4) or any(data[expected:]):
        return False
    return any(data[expected - 2 : expected]) or excess % max(1, column) != 0


def _extended_jpeg(frame: bytes, dataset: Dataset) -> np.ndarray:
    """Return (H, W) of a 12-bit JPEG by GDCM, which pydicom does not ask: it believes that GDCM cannot."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((dataset.Columns, dataset.Rows, 1))
    kind = gdcm.PhotometricInterpretation.GetPIType(dataset.PhotometricInterpretation)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    bits, signed = dataset.BitsStored, dataset.PixelRepresentation
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, bits, bits - 1, signed))
    image.SetDataElement(element)
    pixels = image.GetBuffer().encode("utf-8", "surrogateescape")  # None, hence an error, if it cannot
    return np.frombuffer(pixels, "<i2" if signed else "<u2").reshape(dataset.Rows, dataset.Columns)


def _refuse_broken_frame(path: Path, frame: bytes, dataset: Dataset) -> None:
    """Raise unless a frame of the JPEG family has its end and the announced size."""
    if _END not in frame.rstrip(b"\0")[-16:]:
        raise DataError(f"{path}: the compressed image ends too early. Fetch the file again.")
    header = _jpeg2000_header if dataset.file_meta.TransferSyntaxUID in JPEG2000TransferSyntaxes else _jpeg_header
    bits, height, width, channels = header(frame)
    announced = dataset.Rows, dataset.Columns, dataset.SamplesPerPixel
    if (height, width, channels) != announced or not 2 <= bits <= dataset.BitsAllocated:
        raise DataError(f"{path}: the compressed image is not the one that the header tells of. Fetch it again.")


def _settle_colours(frame: bytes, dataset: Dataset) -> None:
    """Set the colours of a JPEG as it was encoded, where the header says others and pydicom believes it.

    With Adobe's mark Pillow makes RGB of what was transformed. Without any mark, chroma of half the size is no RGB.
    """
    segments = dict(_jpeg_segments(frame))
    if segments.get(0xEE, b"").startswith(b"Adobe"):
        dataset.PhotometricInterpretation = "RGB"
    elif dataset.PhotometricInterpretation == "RGB" and not segments.get(0xE0, b"").startswith(b"JFIF"):
        start = next(segments[kind] for kind in segments if kind in _FRAME_STARTS)
        if len({start[place] for place in (7, 10, 13)}) > 1:  # the sampling of each channel
            dataset.PhotometricInterpretation = "YBR_FULL_422"


def _jpeg_header(frame: bytes) -> tuple[int, int, int, int]:
    """Return bits per channel, height, width and channels from the start of frame; struct.error if there is none."""
    start = next(content for kind, content in _jpeg_segments(frame) if kind in _FRAME_STARTS)
    return struct.unpack_from(">BHHB", start)


def _jpeg_segments(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of every segment up to the start of frame."""
    place = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", frame, place)
        if mark != 0xFF:
            raise ValueError("no marker where one should be")
        if kind != 0xFF:  # which may fill up before a marker
            yield kind, frame[place + 4 : place + 2 + length]
        if kind in _FRAME_STARTS:
            return
        # A segment is as long as it says and at least holds its length.
        place += 1 if kind == 0xFF else 2 + max(2, length)


def _jpeg2000_header(frame: bytes) -> tuple[int, int, int, int]:
    """Read as `_jpeg_header` does. OpenJPEG takes the memory that this header asks for: 300 bytes can ask for 36 GB."""
    from openjpeg import get_parameters

    header: dict[str, Any] = get_parameters(frame)
    return header["precision"], header["rows"], header["columns"], header["samples_per_pixel"]
