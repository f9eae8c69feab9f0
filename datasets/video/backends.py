"""Other decoders of videos than PyAV: decord and torchcodec.

PyAV opens each file first: which frames are presented, when, how large and how upright is known from there, and what is
cut off is refused. The other library then gives the pixels. Where it is known to give other frames, it is refused:
tried over all containers with burned-in frame numbers (decord 0.6.0, torchcodec 0.17).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError, UserError
from ...core.extras import require
from .orientation import Orientation
from .video_file import VideoFrames

_AT_ONCE = 32  # frames that are decoded together
_REORDERED = ("avi", "flv")  # containers that say when a frame is decoded, not when it is shown
_BY_BYTES = ("mpeg", "mpegvideo", "mpegts")  # containers without an index, of which key frames are not known


class _Backend(VideoFrames):
    """A video whose pixels another library decodes, in their full size.

    Attributes:
        name: Of the library.

    Raises:
        DataError: The library is known to give other frames of such a file.
    """

    name: str

    def __init__(self, path: Path, kind: str, *, max_megapixels: float | None, max_frames: int | None):
        super().__init__(path, kind, max_megapixels=max_megapixels, max_frames=max_frames)
        self._decoder: Any = None
        delayed, reason = self._stream.codec_context.has_b_frames, self._wrong()
        if kind in _BY_BYTES:
            reason = f"of {kind} streams, which have no index"
        elif kind in _REORDERED and delayed:
            reason = f"of {kind} files with B-frames"
        if reason:
            super().close()
            raise DataError(
                f"{path}: {self.name} is known to give wrong frames {reason}. Take data.clip.reader pyav, or convert "
                "the file to MP4."
            )

    def images(self, ids: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) RGB of each frame in its full size."""
        for start in range(0, len(ids), _AT_ONCE):
            numbers = [int(number) for number in ids[start : start + _AT_ONCE]]
            try:
                if self._decoder is None:
                    self._decoder = self._opened()
                count, frames = len(self._decoder), self._batch(numbers)
            except UserError:
                raise
            except Exception as error:  # whatever a library of C++ raises
                words = " ".join(str(error).split())[:200]
                raise DataError(
                    f"{self._path}: {self.name} cannot decode it near frame {numbers[0]} ({words}). Is it damaged? "
                    "data.clip.reader pyav says more."
                ) from None
            if count != len(self.times) or frames.shape[1:3] != self.size:
                raise DataError(
                    f"{self._path}: {self.name} finds {count} frames of {frames.shape[2]}x{frames.shape[1]} px where "
                    f"{len(self.times)} of {self.size[1]}x{self.size[0]} px are shown. Take data.clip.reader pyav."
                )
            yield from frames

    def close(self) -> None:
        """Close the file."""
        self._decoder = None
        super().close()

    def _wrong(self) -> str:
        """Return of which files, this being one of them, the library gives wrong frames; empty if of none."""
        raise NotImplementedError

    def _opened(self) -> Any:
        raise NotImplementedError

    def _batch(self, numbers: list[int]) -> np.ndarray:
        """Return (n, H, W, 3) uint8 RGB."""
        raise NotImplementedError


class DecordFrames(_Backend):
    """Decoded by decord, which puts copies of their neighbours in place of damaged frames and does not say so."""

    name = "decord"

    def _wrong(self) -> str:
        if self.edited:
            return "of files with an edit list"
        if self.upright != Orientation():
            return "of files that are turned or mirrored"
        if self.open_gop:
            return "of files with open GOPs (frames that need those of the part before)"
        return f"of {self.container} files" if self.container in ("gif", "ogg") else ""

    def _opened(self) -> Any:
        decord = require("decord", "decord", self._path)
        decord.logging.set_level(decord.logging.FATAL)
        return decord.VideoReader(str(self._path), num_threads=1)

    def _batch(self, numbers: list[int]) -> np.ndarray:
        return self._decoder.get_batch(numbers).asnumpy()


class TorchcodecFrames(_Backend):
    """Decoded by torchcodec, which turns frames upright itself, and needs FFmpeg's shared libraries on the machine."""

    name = "torchcodec"

    def _wrong(self) -> str:
        return "of files that are mirrored" if self.upright.mirrored else ""

    def _opened(self) -> Any:
        decoders = require("torchcodec.decoders", "torchcodec", self._path)
        return decoders.VideoDecoder(
            str(self._path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact", device="cpu"
        )

    def _batch(self, numbers: list[int]) -> np.ndarray:
        steps = set(np.diff(numbers).tolist())
        if len(steps) == 1 and min(steps) > 0:  # a fifth of the time that single frames take
            return self._decoder.get_frames_in_range(numbers[0], numbers[-1] + 1, steps.pop()).data.numpy()
        return self._decoder.get_frames_at(numbers).data.numpy()


BACKENDS = {"decord": DecordFrames, "torchcodec": TorchcodecFrames}


def refuse_absent(reader: str) -> None:
    """Raise UserError if a library is not installed, or lacks what it needs itself."""
    use = f"data.clip.reader {reader}"
    if reader == "decord":
        require("decord", "decord", use)
    if reader == "torchcodec":
        decoders = require("torchcodec.decoders", "torchcodec", use)
        try:
            decoders.VideoDecoder(b"no video")
        except RuntimeError as error:
            if "libtorchcodec" in str(error):
                raise UserError(
                    f"{use}: torchcodec finds no FFmpeg that it can use on this machine. Install FFmpeg with its "
                    "shared libraries (such as `apt install ffmpeg`), or take data.clip.reader pyav."
                ) from None
        except ValueError:
            return  # it looked at what is no video
