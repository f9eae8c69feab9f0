"""Videos and GIFs as clips, decoded by FFmpeg through PyAV.

Grey and colour come from RGB at full range, whatever range and depth the file stores. An image in its own
size is converted as torchvision and decord do it; a smaller one is averaged over areas by FFmpeg's scaler,
with its exact arithmetic (its fast one is about a grey level too dark).
"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from ...core.errors import DataError
from ..loading.limits import FRAME_MEGAPIXELS, FRAMES
from .facts import measured_times, refuse_large

_OWN_SIZE = int(Interpolation.BILINEAR)
_SHRUNK = int(Interpolation.AREA) | 0x40000 | 0x2000  # ACCURATE_RND, FULL_CHR_H_INT: without names before PyAV 18

# Containers that store when each frame is shown, and codecs of which every packet gives one frame. Others may
# hide frames or say "as before", so that their frames are counted by decoding them.
_TIMED = ("mov", "matroska")
_PLAIN = ("h264", "hevc", "av1", "vp9", "mjpeg", "prores", "ffv1")
_GREY = ("gray", "mono", "ya")
# An element of Matroska that holds all others, and the object of WMV that holds the length of the file.
_SEGMENT = b"\x18\x53\x80\x67"
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_LEAP = 8  # frames to be left out for which going to a key frame is dearer than decoding on


class _Table(NamedTuple):
    """When the frames of a video are shown.

    Attributes:
        stamps: (T,) increasing: presentation times in the stream's ticks, or 0, 1, ... if only the order of
            the frames is known.
        seconds: (T,) presentation times.
        keys: (K,) increasing: presentation times of the frames where decoding can begin. None if it must begin
            with the first.
    """

    stamps: np.ndarray
    seconds: np.ndarray
    keys: np.ndarray | None


class VideoFrames:
    """The frames of the main video stream of a file."""

    def __init__(self, path: Path, kind: str, *, max_megapixels: float | None, max_frames: int | None):
        self._path, self.container = path, kind
        self._max_megapixels, self._max_frames = max_megapixels, max_frames
        self._most_megapixels = FRAME_MEGAPIXELS.value() if max_megapixels is None else max_megapixels
        self._most_frames = int(FRAMES.value() if max_frames is None else max_frames)
        _refuse_cut_off(path, kind)
        with _decoding(path):
            self._open()
            self.codec = self._stream.codec_context.codec.canonical_name
            self._table = self._packet_table() or self._decoded_table()
            self.times, self.fps = measured_times(self._table.seconds, self._stream.average_rate)
        first = next(self._decoded(np.array([0])))
        refuse_large(path, (first.height, first.width), 1, max_megapixels, max_frames)
        # In quarters, counter-clockwise. The whole display matrix would also tell of mirrors, which nobody writes,
        # but asking PyAV for it loses the frame's memory for good.
        self._turns = round(first.rotation / 90)
        self._stored = first.height, first.width
        self.size = self._turned(self._stored)
        self.colour = not first.format.name.startswith(_GREY)

    def images(self, ids: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield (h, w, 3) RGB of each frame in the wanted size."""
        height, width = self._turned(size)
        convert, how = VideoReformatter(), _OWN_SIZE if size == self.size else _SHRUNK
        for number, frame in zip(ids, self._decoded(ids)):
            if (frame.height, frame.width) != self._stored:
                raise DataError(f"{self._path}: the size of the images changes at frame {number}. Cut the clip there.")
            image = convert.reformat(frame, width, height, "rgb24", interpolation=how, threads=1).to_ndarray()
            yield np.rot90(image, self._turns)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _turned(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[::-1] if self._turns % 2 else size

    def _open(self) -> None:
        """Open the container anew, at its first packet."""
        # FFmpeg reads a name with a colon as an address, unless it is told that it is a file.
        self._container = av.open(f"file:{self._path}", format=self.container, metadata_errors="ignore")
        self._stream: Any = self._container.streams.best("video")  # PyAV's types allow no stream, and no video
        if self._stream is None or self._stream.disposition & Disposition.attached_pic:
            raise DataError(f"{self._path}: holds no video, perhaps sound only. Take it out of the list.")
        context = self._stream.codec_context
        if context is None:
            raise DataError(
                f"{self._path}: a video of a kind that FFmpeg does not know. Is it damaged? Fetch it again."
            )
        refuse_large(
            self._path, (context.height, context.width), self._stream.frames, self._max_megapixels, self._max_frames
        )
        # Loading runs in many processes; each decoder has one thread.
        context.thread_type, context.thread_count = "NONE", 1
        context.options = {"max_pixels": str(int(self._most_megapixels * 1e6))}

    def _packet_table(self) -> _Table | None:
        """Make the table from the packets alone, nothing being decoded; None where these do not tell."""
        if self.container not in _TIMED or self.codec not in _PLAIN:
            return None
        packets = [
            (packet.pts, packet.is_keyframe, packet.is_discard)
            for packet in itertools.islice(self._container.demux(self._stream), self._most_frames + 1)
            if packet.size  # the last one of PyAV is empty
        ]
        refuse_large(self._path, (0, 0), len(packets), self._max_megapixels, self._max_frames)
        if self.container == "mov" and len(packets) < self._stream.frames:
            raise DataError(
                f"{self._path}: cut off: of {self._stream.frames} frames only {len(packets)} are there. Fetch it again."
            )
        keys = [pts for pts, key, _ in packets if key]
        shown = [pts for pts, _, discarded in packets if not discarded]
        complete = keys and shown and None not in keys + shown
        if not complete or len(set(shown)) < len(shown) or min(shown) < min(keys):
            self._reopen()
            return None
        stamps = np.sort(shown)
        return _Table(stamps, stamps * float(self._stream.time_base), np.sort(keys))

    def _decoded_table(self) -> _Table:
        """Make the table from the frames themselves, of which no image is made."""
        frames = itertools.islice(self._container.decode(self._stream), self._most_frames + 1)
        seconds = [np.nan if frame.pts is None else float(frame.pts * self._stream.time_base) for frame in frames]
        refuse_large(self._path, (0, 0), len(seconds), self._max_megapixels, self._max_frames)
        if not seconds:
            raise DataError(f"{self._path}: a video without an image that can be decoded. Fetch it again.")
        return _Table(np.arange(len(seconds)), np.array(seconds), None)

    def _decoded(self, ids: np.ndarray) -> Iterator[av.VideoFrame]:
        """Yield the frames of increasing numbers, leaping to a key frame where that saves decoding."""
        frames: Iterator[tuple[int, av.VideoFrame]] = iter(())
        last = None
        for number in ids:
            with _decoding(self._path, f" near frame {number}"):
                key = self._key(number)
                if last is None or self._number(key) > last + _LEAP:
                    frames = self._from_key(key)
                frame = self._next(frames, number)
            last = number
            yield frame

    def _next(self, frames: Iterator[tuple[int, av.VideoFrame]], number: int) -> av.VideoFrame:
        """Decode up to a frame. A damaged one on the way spoils those that are built on it."""
        wanted = self._table.stamps[number]
        for stamp, frame in frames:
            if frame.is_corrupt:
                raise DataError(f"{self._path}: damaged at or before frame {number}. Fetch it again.")
            if stamp == wanted:
                return frame
            if stamp > wanted:
                break
        raise DataError(
            f"{self._path}: frame {number} of {len(self.times)} cannot be decoded: damaged or cut off. Fetch it again."
        )

    def _key(self, number: int) -> int:
        """Return which key frame is the last one up to a frame."""
        if self._table.keys is None:
            return 0
        return int(np.searchsorted(self._table.keys, self._table.stamps[number], "right")) - 1

    def _number(self, key: int) -> int:
        """Return the frame number of a key frame."""
        if self._table.keys is None:
            return 0
        return int(np.searchsorted(self._table.stamps, self._table.keys[key]))

    def _from_key(self, key: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield frames with their stamps from a key frame on."""
        if self._table.keys is None:
            self._reopen()
            yield from enumerate(self._container.decode(self._stream))
            return
        begin = self._table.keys[key]
        self._container.seek(int(begin), stream=self._stream)
        # Frames shown before the key frame may lack what they are built on.
        frames: Iterator[tuple[int, av.VideoFrame]] = itertools.dropwhile(
            lambda one: one[0] < begin, self._timed_frames()
        )
        first = next(frames, None)
        if first is None or (first[0] > begin and first[0] > self._table.stamps[0]):  # led past it
            self._reopen()
            frames = self._timed_frames()
        else:
            yield first
        yield from frames

    def _timed_frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield what comes next, with presentation times; a frame without one is none of the table."""
        return ((frame.pts, frame) for frame in self._container.decode(self._stream) if frame.pts is not None)

    def _reopen(self) -> None:
        """Go back to the first packet, as seeking does not in every container."""
        self._container.close()
        self._open()


def _refuse_cut_off(path: Path, container: str) -> None:
    """Raise if a file ends earlier than it says itself.

    FFmpeg would give the last frame of an AVI or a GIF half grey, or half the one before, and leave out the missing
    frames of Matroska and WMV.
    """
    with path.open("rb") as file:
        declared = _declared_length(file.read(4096), container)
        file.seek(0, 2)
        length = file.tell()
        file.seek(max(0, length - 64))
        end = file.read()
    if declared > length or (container == "gif" and not end.rstrip(b"\0\r\n ").endswith(b";")):
        raise DataError(f"{path}: cut off: the end of the file is missing. Fetch it again.")


def _declared_length(head: bytes, container: str) -> int:
    """Return how long a file says that it is, by its first bytes; 0 where it does not."""
    if container == "avi":
        return int.from_bytes(head[4:8], "little") + 8
    if container == "matroska":
        place = 4 + sum(_ebml_number(head, 4))  # behind the first element
        size, width = _ebml_number(head, place + 4) if head[place : place + 4] == _SEGMENT else (0, 0)
        return 0 if size == 2 ** (7 * width) - 1 else place + 4 + width + size  # all ones: recorded live, unknown
    if container == "asf" and (place := head.find(_ASF_PROPERTIES)) >= 0:
        return int.from_bytes(head[place + 40 : place + 48], "little")
    return 0


def _ebml_number(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of Matroska, and how many bytes it takes."""
    width = 9 - data[place].bit_length() if place < len(data) else 8
    return int.from_bytes(data[place : place + width], "big") & (2 ** (7 * width) - 1), width


@contextlib.contextmanager
def _decoding(path: Path, where: str = "") -> Iterator[None]:
    """Turn what FFmpeg raises on a broken file into a DataError."""
    try:
        yield
    except av.ArgumentError:  # how a decoder refuses a size
        raise DataError(f"{path}: its images are too large, or of no size{where}. Leave it out.") from None
    except av.FFmpegError as error:
        raise DataError(
            f"{path}: broken, cut off or not finished{where} ({error.strerror}). Fetch or record it again."
        ) from error
