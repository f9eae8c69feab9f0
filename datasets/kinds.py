"""What a file is, by its first bytes; a name decides nothing. The one table of the formats that are known here."""

import stat
from pathlib import Path

from ..core.errors import DataError

HEAD = 400  # bytes that `kind_of` asks for: MPEG's transport stream repeats its mark every 188 or 192 bytes

DICOM = "DICOM"
IMAGES = ("PNG", "JPEG", "TIFF", "BMP", "WebP")
# FFmpeg's names of containers; a GIF is read as a clip.
VIDEOS = ("mov", "avi", "matroska", "gif", "asf", "mpeg", "mpegvideo", "mpegts", "flv", "ogg")
FRAMES, FRAME_SUFFIXES = ("JPEG", "PNG"), (".jpg", ".jpeg", ".png")
HDF5 = "HDF5"
ZARR, ZIPPED_ZARR = "OME-Zarr", "zipped OME-Zarr"  # the first is a folder, which no first bytes tell
EMPTY, UNKNOWN = "empty", ""

# Place, bytes and kind; the first that fits decides.
_STARTS = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (128, b"DICM", DICOM),
    *((0, start, "TIFF") for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    *((4, box, "mov") for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    (8, b"AVI ", "avi"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"\0\0\1\xba", "mpeg"),
    (0, b"\0\0\1\xb3", "mpegvideo"),
    (0, b"FLV\1", "flv"),
    (0, b"OggS", "ogg"),
    (0, b"\x89HDF\r\n\x1a\n", HDF5),
    *((0, group, DICOM) for group in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")),  # without the preamble
)
# A zip file names its first member after 30 bytes; that of a Zarr is its metadata.
_ZIP, _ZIP_NAME, _ZARR_NAMES = b"PK\x03\x04", 30, (b"zarr.json", b".zgroup", b".zattrs", b".zarray")
_TS_SYNC = b"\x47"
_TS_PACKETS = ((0, 188), (4, 192))  # first mark and distance: plain, and with a time stamp before each packet


def kind_of(head: bytes) -> str:
    """Return the kind that the first `HEAD` bytes of a file announce.

    Returns:
        One of `IMAGES`, `VIDEOS`, `DICOM`, `HDF5`, `ZIPPED_ZARR`, or `EMPTY` (no byte), `UNKNOWN`.
    """
    if not head:
        return EMPTY
    for place, start, kind in _STARTS:
        if head.startswith(start, place):
            return kind
    if head.startswith(_ZIP):
        name = head[_ZIP_NAME : _ZIP_NAME + int.from_bytes(head[26:28], "little")]
        return ZIPPED_ZARR if name.rpartition(b"/")[2] in _ZARR_NAMES else UNKNOWN
    if any(head[first : first + 2 * step + 1 : step] == 3 * _TS_SYNC for first, step in _TS_PACKETS):
        return "mpegts"
    return UNKNOWN


def is_frame(path: Path) -> bool:
    """Return whether a file of a folder is a frame of a clip: a JPEG or PNG, by its name or its first bytes."""
    if path.name.startswith("."):
        return False
    if path.suffix.lower() in FRAME_SUFFIXES:
        return path.is_file()
    return path.suffix == "" and path.is_file() and file_kind(path) in FRAMES


def is_zarr_folder(path: Path) -> bool:
    """Return whether a folder is a Zarr group or array: one image, of however many files."""
    return any((path / name.decode()).is_file() for name in _ZARR_NAMES)


def file_kind(path: Path) -> str:
    """Return the kind of a regular file.

    Raises:
        DataError: It is missing, no regular file, or cannot be opened.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: no regular file.")
        with path.open("rb") as file:
            return kind_of(file.read(HEAD))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except PermissionError:
        raise DataError(f"{path}: no permission to read the file. Ask its owner, or copy it.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}).") from None


def is_dicom(path: Path) -> bool:
    """Return whether a file can be opened and is DICOM."""
    try:
        return file_kind(path) == DICOM
    except DataError:
        return False
