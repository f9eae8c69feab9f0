"""Videos and GIFs as clips, decoded by FFmpeg through PyAV.

Grey and colour come from RGB at full range, whatever range and depth the file stores. An image in its own
size is converted as torchvision and decord do it; a smaller one is averaged over areas by FFmpeg's scaler,
with its exact arithmetic (its fast one is about a grey level too dark).
"""

import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from ...core.errors import DataError
from ..loading.limits import FRAME_MEGAPIXELS
from .endings import refuse_cut_off
from .facts import measured_times, refuse_large
from .orientation import orientation

_OWN_SIZE = int(Interpolation.BILINEAR)
_SHRUNK = int(Interpolation.AREA) | 0x40000 | 0x2000  # ACCURATE_RND, FULL_CHR_H_INT: without names before PyAV 18

# Containers that store when each frame is shown, and codecs of which every packet gives one frame. Others may
# hide frames or say "as before", so that their frames are counted by decoding them.
_TIMED = ("mov", "matroska")
_PLAIN = ("h264", "hevc", "av1", "vp9", "mjpeg", "prores", "ffv1")
_GREY = ("gray", "mono", "ya")
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
    """The frames of the main video stream of a file: those that are presented, whatever a header counts.

    Args:
        path: The file, for messages.
        kind: FFmpeg's name of the container.
        max_megapixels, max_frames: As of `open_clip`.
        data: The video itself, where it is a part of the file.
        full_range: What a video that does not say its range of levels has.

    Attributes:
        upright: How its frames are turned and mirrored.
        edited: Whether an edit list leaves frames out.
        open_gop: Whether frames that are shown before a key frame are stored behind it.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        *,
        max_megapixels: float | None,
        max_frames: int | None,
        data: bytes | None = None,
        full_range: bool = False,
    ):
        self._path, self.container, self._data, self._full_range = path, kind, data, full_range
        self._max_megapixels, self._max_frames = max_megapixels, max_frames
        self._most_megapixels = FRAME_MEGAPIXELS.value() if max_megapixels is None else max_megapixels
        self.edited = self.open_gop = False
        if data is None:
            refuse_cut_off(path, kind)
        with _decoding(path):
            self._open()
            self.codec = self._stream.codec_context.codec.canonical_name
            self._table = self._packet_table() or self._decoded_table()
        first = next(self._decoded(np.array([0])))
        with _decoding(path):
            if first.interlaced_frame and self._table.keys is not None:  # two packets may make one frame
                self._reopen()
                self._table = self._decoded_table()
            self.times, self.fps = measured_times(self._table.seconds, self._stream.average_rate)
            self.upright = orientation(first, self._stream.time_base)
        refuse_large(path, (first.height, first.width), 1, max_megapixels, max_frames)
        self._stored = first.height, first.width
        self.size = self.upright.size(self._stored)
        self.colour = not first.format.name.startswith(_GREY)

    def images(self, ids: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield (h, w, 3) RGB of each frame in the wanted size."""
        height, width = self.upright.size(size)
        convert, how = VideoReformatter(), _OWN_SIZE if size == self.size else _SHRUNK
        for number, frame in zip(ids, self._decoded(ids)):
            if (frame.height, frame.width) != self._stored:
                raise DataError(f"{self._path}: the size of the images changes at frame {number}. Cut the clip there.")
            full = ColorRange.JPEG if self._full_range and frame.color_range == ColorRange.UNSPECIFIED else None
            image = convert.reformat(
                frame, width, height, "rgb24", src_color_range=full, interpolation=how, threads=1
            ).to_ndarray()
            yield self.upright(image)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _open(self) -> None:
        """Open the container anew, at its first packet."""
        # FFmpeg reads a name with a colon as an address, unless it is told that it is a file.
        source: Any = f"file:{self._path}" if self._data is None else io.BytesIO(self._data)
        self._container = av.open(source, format=self.container, metadata_errors="ignore")
        self._stream: Any = self._container.streams.best("video")  # PyAV's types allow no stream, and no video
        if self._stream is None or self._stream.disposition & Disposition.attached_pic:
            raise DataError(f"{self._path}: holds no video, perhaps sound only. Take it out of the list.")
        context = self._stream.codec_context
        if context is None:
            raise DataError(
                f"{self._path}: a video of a kind that FFmpeg does not know. Is it damaged? Fetch it again."
            )
        refuse_large(self._path, (context.height, context.width), 1, self._max_megapixels, self._max_frames)
        # Loading runs in many processes; each decoder has one thread.
        context.thread_type, context.thread_count = "NONE", 1
        context.options = {"max_pixels": str(int(self._most_megapixels * 1e6))}

    def _packet_table(self) -> _Table | None:
        """Make the table from the packets alone, nothing being decoded; None where these do not tell."""
        if self.container not in _TIMED or self.codec not in _PLAIN:
            return None
        packets: list[tuple[int | None, bool, bool]] = []
        for packet in self._whole_packets():
            packets.append((packet.pts, packet.is_keyframe, packet.is_discard))
            refuse_large(self._path, (0, 0), len(packets), self._max_megapixels, self._max_frames)
        self._refuse_missing()
        self.edited = any(discarded for _, _, discarded in packets) or (
            self.container == "mov" and len(packets) < self._stream.frames
        )
        self.open_gop = _leading(packets)
        keys = [pts for pts, key, _ in packets if key]
        shown = [pts for pts, _, discarded in packets if not discarded]
        # An edit list may show a frame never or several times, in any order: decoding tells.
        complete = keys and shown and None not in keys + shown and len(shown) == len(packets)
        if not complete or len(set(shown)) < len(shown) or min(shown) < min(keys):
            self._reopen()
            return None
        stamps = np.sort(shown)
        return _Table(stamps, stamps * float(self._stream.time_base), np.sort(keys))

    def _decoded_table(self) -> _Table:
        """Make the table from the frames themselves, of which no image is made."""
        seconds = []
        for frame in self._frames_of_packets():
            seconds.append(np.nan if frame.pts is None else float(frame.pts * self._stream.time_base))
            refuse_large(self._path, (0, 0), len(seconds), self._max_megapixels, self._max_frames)
        self._refuse_missing()
        if not seconds:
            raise DataError(f"{self._path}: a video without an image that can be decoded. Fetch it again.")
        return _Table(np.arange(len(seconds)), np.array(seconds), None)

    def _whole_packets(self) -> Iterator[av.Packet]:
        """Yield the packets of the stream.

        Raises:
            DataError: One ends before its time.
        """
        for packet in self._container.demux(self._stream):
            # In MPEG-TS the mark means that a packet before was lost.
            if packet.is_corrupt and self.container != "mpegts":
                self._refuse_missing()
                raise DataError(f"{self._path}: cut off: a frame ends with the file. Fetch it again.")
            if packet.size:  # the last one of PyAV is empty
                yield packet

    def _frames_of_packets(self) -> Iterator[av.VideoFrame]:
        """Yield all frames, from the first packet on."""
        for packet in self._whole_packets():
            yield from packet.decode()
        yield from self._stream.codec_context.decode(None)

    def _refuse_missing(self) -> None:
        """Raise if the index, read by now, names a frame beyond the end of the file; FFmpeg leaves such out."""
        if self.container != "mov":
            return
        length = self._path.stat().st_size if self._data is None else len(self._data)
        entries = list(self._stream.index_entries)
        missing = sum(entry.pos + entry.size > length for entry in entries)
        if missing:
            there = len(entries) - missing
            raise DataError(f"{self._path}: cut off: of {len(entries)} frames only {there} are there. Fetch it again.")

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


def _leading(packets: list[tuple[int | None, bool, bool]]) -> bool:
    """Return whether packets, in their order in the file, are shown before the last key frame before them."""
    begin = None
    for pts, key, _ in packets:
        begin = pts if key else begin
        if None not in (pts, begin) and pts < begin:
            return True
    return False


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
