"""Whether a PNG file is whole.

Pillow fills up what is missing of a stream that ends well but too early, and overlooks chunks that were damaged beyond
recognition.
"""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...core.errors import DataError

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def refuse_broken_png(path: Path, file: BinaryIO, last_row: np.ndarray) -> None:
    """Raise DataError unless all chunks have their checksums and the pixels are complete.

    Args:
        path: For messages.
        file: The open file; its place is lost.
        last_row: Of the decoded pixels. Only where it is zero throughout may rows be missing, and are they counted.
    """
    file.seek(0)
    data = file.read()
    pixels, place, kind = [], 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if struct.unpack_from(">I", data, end)[0] != zlib.crc32(memoryview(data)[place + 4 : end]):
            raise DataError(f"{path}: a damaged PNG file (a wrong checksum). Fetch it again.")
        if kind == b"IDAT":
            pixels.append(memoryview(data)[place + 8 : end])
        place = end + 4
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if interlaced or last_row.any():
        return
    expected = height * (1 + (width * _CHANNELS[colour] * bits + 7) // 8)
    inflate = zlib.decompressobj()
    if sum(len(inflate.decompress(part)) for part in pixels) + len(inflate.flush()) < expected:
        raise DataError(f"{path}: a PNG file with fewer rows than it says. Fetch it again.")
