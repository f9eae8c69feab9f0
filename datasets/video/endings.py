"""Whether a file of a video ends before what it holds: by the places of its parts, not by a count in its header.

FFmpeg would give the last frame of an AVI or a GIF half grey, or half the one before, and leave out the missing frames
of Matroska, WMV and Ogg. A count that is merely wrong says nothing: recorders write too many frames, or none.
"""

import mmap
import struct
from collections.abc import Callable
from pathlib import Path

from ...core.errors import DataError

# An element of Matroska that holds all others, and the object of WMV that holds the length of the file.
_SEGMENT = b"\x18\x53\x80\x67"
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_OGG_PAGE = 65_307  # bytes at most
_UNKNOWN = 0xFFFFFFFF


def refuse_cut_off(path: Path, container: str) -> None:
    """Raise DataError if a file ends before the last part that it has begun."""
    check = _CHECKS.get(container)
    if check is None:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if not check(data):
            raise DataError(f"{path}: cut off: the end of the file is missing. Fetch it again.")


def _avi(data: mmap.mmap) -> bool:
    """Return whether all lists of frames lie in the file; their RIFF's own length is often wrong."""
    place = 0
    while place + 12 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if kind == b"RIFF":
            place += 12
            continue
        if kind == b"LIST" and data[place + 8 : place + 12] == b"movi":
            if size in (0, _UNKNOWN):  # never finished
                return True
            if place + 8 + size > len(data):
                return False
        place += 8 + size + size % 2
    return True


def _matroska(data: mmap.mmap) -> bool:
    place = 4 + sum(_ebml_number(data, 4))  # behind the first element
    if data[place : place + 4] != _SEGMENT:
        return True
    size, width = _ebml_number(data, place + 4)
    return size == 2 ** (7 * width) - 1 or place + 4 + width + size <= len(data)  # all ones: recorded live, unknown


def _ebml_number(data: mmap.mmap, place: int) -> tuple[int, int]:
    """Return a number of Matroska, and how many bytes it takes."""
    width = 9 - data[place].bit_length() if place < len(data) else 8
    return int.from_bytes(data[place : place + width], "big") & (2 ** (7 * width) - 1), width


def _asf(data: mmap.mmap) -> bool:
    place = data.find(_ASF_PROPERTIES, 0, 4096)
    if place < 0 or place + 92 > len(data):
        return True
    live = data[place + 88] & 1
    return bool(live) or int.from_bytes(data[place + 40 : place + 48], "little") <= len(data)


def _gif(data: mmap.mmap) -> bool:
    """Return whether the last block that was begun is whole; what follows the trailer is of no account."""
    try:
        place = 13 + _table_bytes(data[10])
        while place < len(data) and data[place] != 0x3B:
            if data[place] == 0x21:  # an extension
                place += 2
            elif data[place] == 0x2C:  # an image
                place += 11 + _table_bytes(data[place + 9])
            else:  # no block: damaged, which decoding will tell
                return True
            while size := data[place]:
                place += 1 + size
            place += 1
    except IndexError:
        return False
    return place <= len(data)


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _ogg(data: mmap.mmap) -> bool:
    place = data.rfind(b"OggS", max(0, len(data) - _OGG_PAGE))
    if place < 0:
        return True
    header = data[place : place + 27]
    sizes = data[place + 27 : place + 27 + header[26]] if len(header) == 27 else b""
    return len(header) == 27 and len(sizes) == header[26] and place + 27 + header[26] + sum(sizes) <= len(data)


def _mpegts(data: mmap.mmap) -> bool:
    """Return whether the last packet is whole."""
    for first, length in ((0, 188), (4, 192)):
        if data[first : first + 2 * length + 1 : length] == b"\x47" * 3:
            rest = (len(data) - first) % length
            return not 0 < rest < 188 or data[len(data) - rest] != 0x47
    return True


def _flv(data: mmap.mmap) -> bool:
    """Return whether the tags lie in the file, one behind the other."""
    place = int.from_bytes(data[5:9], "big") + 4
    while place + 11 <= len(data):
        kind, size = data[place], int.from_bytes(data[place + 1 : place + 4], "big")
        if kind & 0x1F not in (8, 9, 18):  # no tag: something else was appended
            return True
        place += 11 + size + 4
    return place - 4 <= len(data)  # the length behind the last one may be missing


def _mov(data: mmap.mmap) -> bool:
    """Return whether the indices of all fragments lie in the file; whether their frames do, the indices say."""
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size == 1 and place + 16 <= len(data):
            size = struct.unpack_from(">Q", data, place + 8)[0]
        if size < 8:  # up to the end; or no box: damaged, which decoding will tell
            return True
        if kind == b"moof" and place + size > len(data):
            return False
        place += size
    return True


_CHECKS: dict[str, Callable[[mmap.mmap], bool]] = {
    "avi": _avi,
    "matroska": _matroska,
    "asf": _asf,
    "gif": _gif,
    "ogg": _ogg,
    "mpegts": _mpegts,
    "flv": _flv,
    "mov": _mov,
}
