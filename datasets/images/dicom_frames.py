"""The one frame of a DICOM file as stored numbers, whatever its transfer syntax.

pydicom decodes with Pillow, OpenJPEG and GDCM. GDCM ends the whole process on some broken frames, so what it
is given is looked at before.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.encaps import get_frame
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

# Decoders to be preferred: libjpeg-turbo and OpenJPEG raise on broken data where GDCM aborts, and
# pylibjpeg-rle panics past `Exception`.
_PLUGINS = {
    JPEGBaseline8Bit: "pillow",
    JPEG2000: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    RLELossless: "pydicom",
}
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
    syntax = dataset.file_meta.TransferSyntaxUID
    bits = dataset.BitsStored
    if dataset.PixelRepresentation not in (0, 1) or not 1 <= bits <= dataset.BitsAllocated:
        raise DataError(f"{path}: its header describes no possible pixels. Fetch the file again.")
    if dataset.SamplesPerPixel == 1 and dataset.get("HighBit", bits - 1) != bits - 1:
        raise DataError(
            f"{path}: its {bits} stored bits do not begin at bit 0 (a retired layout). "
            "Export the file again with a present-day tool."
        )
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(
            f"{path}: the transfer syntax {syntax.name} is not read. Export the file uncompressed."
        ) from None
    if syntax.is_encapsulated and syntax != RLELossless:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        _refuse_broken_frame(path, frame, dataset)
        if syntax == JPEGExtended12Bit and bits > 8:
            return _extended_jpeg(frame, dataset), dataset.PhotometricInterpretation
    stored, properties = decoder.as_array(dataset, index=0, decoding_plugin=_PLUGINS.get(syntax, ""))
    return stored, str(properties["photometric_interpretation"])


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


def _jpeg_header(frame: bytes) -> tuple[int, int, int, int]:
    """Return bits per channel, height, width and channels from the start of frame; struct.error if there is none."""
    place = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", frame, place)
        if mark != 0xFF:
            raise ValueError("no marker where one should be")
        if kind in _FRAME_STARTS:
            return struct.unpack_from(">BHHB", frame, place + 4)
        # 0xFF may fill up before a marker; a segment is as long as it says and at least holds its length.
        place += 1 if kind == 0xFF else 2 + max(2, length)


def _jpeg2000_header(frame: bytes) -> tuple[int, int, int, int]:
    """Read as `_jpeg_header` does. OpenJPEG takes the memory that this header asks for: 300 bytes can ask for 36 GB."""
    from openjpeg import get_parameters

    header: dict[str, Any] = get_parameters(frame)
    return header["precision"], header["rows"], header["columns"], header["samples_per_pixel"]
