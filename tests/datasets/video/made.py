"""Clips that tests make: every frame says its number by its grey level."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

# Suffix, codec and options of `video`.
FORMATS = [
    ("mp4", "libx264", {}),
    ("mp4", "libx264", {"g": 8, "bf": 3}),
    ("mp4", "libx264", {"g": 8, "bf": 3, "x264-params": "open-gop=1"}),
    ("mp4", "libx264", {"pixels": "yuv420p10le"}),
    ("mp4", "libx264", {"pixels": "yuv444p"}),
    ("mp4", "libx265", {"x265-params": "log-level=none"}),
    ("m4v", "mpeg4", {}),
    ("mov", "mjpeg", {"pixels": "yuvj420p"}),
    ("avi", "mpeg4", {"g": 8}),
    ("avi", "libx264", {"g": 8, "bf": 3}),
    ("mkv", "libx264", {"g": 8, "bf": 3}),
    ("mkv", "ffv1", {}),
    ("webm", "libvpx", {}),
    ("webm", "libvpx-vp9", {}),
    ("mpeg", "mpeg2video", {"g": 8}),
    ("mpg", "mpeg1video", {"g": 8, "bf": 2}),
    ("wmv", "wmv2", {}),
    ("ts", "libx264", {"g": 8, "bf": 3}),
    ("ts", "mpeg2video", {"g": 8, "bf": 2}),
    ("ts", "libx265", {"x265-params": "log-level=none"}),
    ("m2ts", "libx264", {"g": 8, "bf": 3, "mux": {"mpegts_m2ts_mode": "1"}}),
    ("flv", "libx264", {"g": 8, "bf": 3}),
    ("flv", "flv", {}),
    ("ogv", "libvpx", {}),
    ("3gp", "mpeg4", {}),
]
STEP = 5  # grey levels between a frame and the next, so that a level tells its number


def numbered(count: int = 40, height: int = 48, width: int = 64) -> np.ndarray:
    """(T, H, W, 3) frames of one level each, with a coloured corner at the top left."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames += (20 + STEP * np.arange(count, dtype=np.uint8))[:, None, None, None]
    frames[:, : height // 4, : width // 4] = (200, 40, 90)
    return frames


def numbers(frames: np.ndarray) -> list[int]:
    """Which frame each is, told by its middle."""
    height, width = frames.shape[1:3]
    middle = frames[:, height // 3 : -height // 4, width // 3 : -width // 4].reshape(len(frames), -1).mean(axis=1)
    return np.rint((middle - 20) / STEP).astype(int).tolist()


def video(
    path: Path, frames: np.ndarray, codec="libx264", pixels="yuv420p", rate=25, ticks=None, mux=None, kind=None,
    matrix=None, full=False, **options,
):  # fmt: skip
    """Write frames.

    Args:
        path, frames, codec, pixels, rate: As they are called.
        ticks: Presentation times in 1/1000 s.
        mux: The container's options.
        kind: The container, where the name does not say it.
        matrix, full: Of the colours, stored in the stream: a name of `Colorspace`, and whether their range is full.
        options: The codec's.
    """
    with av.open(str(path), "w", format=kind, options=mux or {}) as container:
        stream = container.add_stream(codec, rate=rate, options={name: str(value) for name, value in options.items()})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        coded = {"format": pixels}
        if matrix is not None:
            space, levels = Colorspace[matrix], ColorRange["JPEG" if full else "MPEG"]
            coded |= {"src_color_range": ColorRange.JPEG, "dst_colorspace": space, "dst_color_range": levels}
            stream.codec_context.colorspace, stream.codec_context.color_range = space.value, levels.value
        if codec not in ("libx264", "libx265", "ffv1"):
            stream.bit_rate = 4_000_000
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels_of_frame in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels_of_frame).reformat(**coded)
            if ticks is not None:
                frame.pts, frame.time_base = ticks[number], stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def gif(path: Path, frames: np.ndarray, ms: int = 40) -> Path:
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=ms, loop=0)
    return path


def folder(path: Path, frames, name="img_{:05d}.jpg") -> Path:
    path.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / name.format(number + 1), quality=95)
    return path


def shortened(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def boxes(data: bytes, begin: int = 0, end: int | None = None) -> dict[bytes, tuple[int, int]]:
    """Place and length of the boxes of an MP4, by kind."""
    found, end = {}, len(data) if end is None else end
    while begin < end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        found[kind] = begin, size
        begin += size
    return found


def edited(path: Path, edits: list[tuple[int, int]], movie_scale: int = 1000) -> Path:
    """The MP4 (its index last, one track, 25 frames a second) with another edit list: (frames shown, first frame).

    A first frame of -1 shows nothing for so long.
    """
    data = path.read_bytes()
    moov, moov_size = boxes(data)[b"moov"]
    trak, trak_size = boxes(data, moov + 8, moov + moov_size)[b"trak"]
    inside = boxes(data, trak + 8, trak + trak_size)
    mdia = inside[b"mdia"]
    mdhd = boxes(data, mdia[0] + 8, sum(mdia))[b"mdhd"][0]
    tick = struct.unpack_from(">I", data, mdhd + 20)[0] // 25
    delay = first_shown(data, mdia)
    entries = b"".join(
        struct.pack(">Iihh", count * movie_scale // 25, first if first < 0 else delay + first * tick, 1, 0)
        for count, first in edits
    )
    elst = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    edts = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    kept = b"".join(data[at : at + size] for kind, (at, size) in inside.items() if kind != b"edts")
    tkhd_end = inside[b"tkhd"][1]
    body = kept[:tkhd_end] + edts + kept[tkhd_end:]
    new_trak = struct.pack(">I4s", 8 + len(body), b"trak") + body
    whole = data[moov + 8 : trak] + new_trak + data[trak + trak_size : moov + moov_size]
    path.write_bytes(data[:moov] + struct.pack(">I4s", 8 + len(whole), b"moov") + whole)
    return path


def first_shown(data: bytes, mdia: tuple[int, int]) -> int:
    """The least composition time of an MP4's track, ticks: how long its B-frames delay the first frame."""
    place = data.find(b"ctts", mdia[0], sum(mdia))
    return struct.unpack_from(">i", data, place + 16)[0] if place > 0 else 0


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The MP4 with another display matrix (a, b, c, d) in its track header."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    data[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
