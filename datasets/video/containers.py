"""What a clip is, by its first bytes."""

HEAD_BYTES = 1024  # of which a file is known
# Place, bytes and FFmpeg's name of each container.
_STARTS = (
    (128, b"DICM", "DICOM"),
    *((4, box, "mov") for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    (8, b"AVI ", "avi"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"FLV\x01", "flv"),
    (0, b"OggS", "ogg"),
    (0, b"\0\0\1\xba", "mpeg"),
    (0, b"\0\0\1\xb3", "mpegvideo"),
    *((0, group, "DICOM") for group in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")),  # without the preamble
)
_TS_PACKETS = (188, 192, 204)  # bytes: plain, with a time (BDAV), with check sums


def container(head: bytes) -> str | None:
    """Return `DICOM` or FFmpeg's name of the container that the first `HEAD_BYTES` announce; None if there is none."""
    for place, start, kind in _STARTS:
        if head.startswith(start, place):
            return kind
    return "mpegts" if packet_start(head) else None


def packet_start(head: bytes) -> tuple[int, int] | None:
    """Return the place of the first sync byte of MPEG-TS and the length of its packets; None if it is none."""
    for length in _TS_PACKETS:
        first = length - 188 if length == 192 else 0
        places = range(first, len(head), length)
        if len(places) >= 3 and all(head[place] == 0x47 for place in places):
            return first, length
    return None
