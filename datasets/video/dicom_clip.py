"""Multi-frame DICOM as clips: each frame is decoded as if it were a file of its own; a video in it as other videos.

Grey levels come as for radiographs (see `dicom`), but that all frames share one range, and that colours
become grey by their plain mean as in videos. No message carries a value of the header.
"""

import math
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_fragments, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import HEVCM10P51, HEVCMP51, UID, MPEGTransferSyntaxes

from ...core.errors import DataError
from ...core.extras import require
from ..images.dicom import PIXEL_TAGS, decoding, frame_levels, palette_colours, quiet, read_elements
from ..images.dicom_frames import complete, refuse_impossible, refuse_wrong_length, stored_pixels
from ..kinds import HEAD, VIDEOS, kind_of
from .facts import measured_times, refuse_large, steady_times

_RATES = ("CineRate", "RecommendedDisplayFrameRate")
# Transfer syntaxes of videos (PS3.5 A.4.5 to A.4.9), and what such a stream is if it lies in no container. H.264 in
# stereo is not among them: FFmpeg would give one of the two.
_VIDEO = {
    **dict.fromkeys(MPEGTransferSyntaxes[:4], "mpegvideo"),
    **{uid: "h264" for uid in MPEGTransferSyntaxes if re.search(r"\.4\.10[2-5](\.1)?$", uid)},
    **dict.fromkeys((HEVCMP51, HEVCM10P51), "hevc"),
}
_TAGS = (*PIXEL_TAGS, "FrameTime", "FrameTimeVector", *_RATES)


class DicomFrames:
    """The frames of a DICOM file; one frame is a clip of one. The pixel data stay in memory as stored."""

    container = "DICOM"

    def __init__(self, path: Path, kind: str, *, max_megapixels: float | None, max_frames: int | None):
        self._path = path
        with path.open("rb") as file:
            header = read_elements(path, file, _TAGS, stop_before_pixels=True)
            with decoding(path):
                self.size, count = _extent(path, header)
            refuse_large(path, self.size, count, max_megapixels, max_frames)
            self._dataset = read_elements(path, file, _TAGS)
        syntax = self._dataset.file_meta.TransferSyntaxUID
        self.codec = syntax.name
        self.colour = not header.get("PhotometricInterpretation", "").startswith("MONOCHROME")
        self._video = None
        if syntax in _VIDEO:
            self._open_video(header, max_megapixels, max_frames)
            return
        _refuse_unread(path, syntax)
        complete(self._dataset)
        with decoding(path), quiet():
            self._encapsulated = syntax.is_encapsulated
            self._stored = _stored_frames(path, self._dataset, count)
            self.times, self.fps = _times(header, count)
        self._dataset.NumberOfFrames = 1

    def images(self, ids: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield (H, W) or (H, W, 3) RGB of each frame, in its full size unless it is of a video."""
        if self._video is not None:
            yield from self._video.images(ids, size)
            return
        for number in ids:
            with decoding(self._path), quiet():
                frame = self._stored[number]
                self._dataset.PixelData = encapsulate([frame]) if self._encapsulated else bytes(frame)
                image = _image(self._path, self._dataset)
            yield image

    def close(self) -> None:
        """Close the file."""
        self._stored = []
        self._dataset = Dataset()
        if self._video is not None:
            self._video.close()

    def _open_video(self, header: Dataset, max_megapixels: float | None, max_frames: int | None) -> None:
        """Open the one stream that all fragments make together; it decides size and number of the frames."""
        require("av", "video", self._path)
        from .video_file import VideoFrames

        with decoding(self._path), quiet():
            data = b"".join(islice(generate_fragments(self._dataset.PixelData), 1, None))  # behind the offsets
        syntax = self._dataset.file_meta.TransferSyntaxUID
        full = header.get("PhotometricInterpretation", "").startswith("YBR_FULL")
        self._dataset = Dataset()
        kind = kind_of(data[:HEAD])
        self._video = VideoFrames(
            self._path,
            kind if kind in VIDEOS else _VIDEO[syntax],
            max_megapixels=max_megapixels,
            max_frames=max_frames,
            data=data,
            full_range=full,
        )
        self.size, self.colour = self._video.size, self.colour and self._video.colour
        with decoding(self._path), quiet():
            times, fps = _times(header, len(self._video.times))
        self.times, self.fps = (self._video.times, self._video.fps) if fps is None else (times, fps)


def _refuse_unread(path: Path, syntax: UID) -> None:
    """Raise DataError that names a transfer syntax without a decoder, before its frames are counted."""
    try:
        get_decoder(syntax)
    except NotImplementedError:
        raise DataError(
            f"{path}: the transfer syntax {syntax.name} is not read. Export the file uncompressed."
        ) from None


def _extent(path: Path, header: Dataset) -> tuple[tuple[int, int], int]:
    """Return (height, width) and the number of frames."""
    if "Rows" not in header or "Columns" not in header:
        kind = header.get("SOPClassUID")
        kind = f" (it is a {kind.name})" if isinstance(kind, UID) and kind.name != kind else ""
        raise DataError(f"{path}: a DICOM file without images{kind}. Take it out of the list.")
    height, width, count = int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1)
    if min(height, width, count) < 1:
        raise DataError(f"{path}: its header describes no possible frames. Fetch the file again.")
    return (height, width), count


def _stored_frames(path: Path, dataset: Dataset, count: int) -> list[bytes | memoryview]:
    """Return the pixel data of each frame, as stored."""
    refuse_impossible(path, dataset)
    data = dataset.get("PixelData") or b""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else dataset.SamplesPerPixel
        length = dataset.Rows * dataset.Columns * samples * (dataset.BitsAllocated // 8)
        frames: list[bytes | memoryview] = [
            memoryview(data)[start : start + length]
            for start in range(0, count * length, length)
            if start + length <= len(data)
        ]
    else:
        offsets = [dataset.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
        tables = tuple(offsets) if all(offsets) else None
        frames = list(generate_frames(data, number_of_frames=count, extended_offsets=tables)) if data else []
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        dataset.pop(name, None)
    if len(frames) < count:
        raise DataError(f"{path}: cut off: of {count} frames only {len(frames)} are there. Fetch it again.")
    refuse_wrong_length(path, dataset, count)
    return frames[:count]


def _image(path: Path, dataset: Dataset) -> np.ndarray:
    """Return (H, W) or (H, W, 3) uint8 of a data set that holds one frame."""
    stored, colour = stored_pixels(path, dataset)
    if colour == "RGB":
        return _uint8(stored / (2**dataset.BitsStored - 1))
    if colour == "PALETTE COLOR":
        colours, _, most = palette_colours(stored, dataset)
        return _uint8(colours / most)
    if colour not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"{path}: colours of the kind {colour!r} are not read. Export the file as RGB.")
    levels = frame_levels(path, stored, dataset)
    return _uint8(1 - levels if colour == "MONOCHROME1" else levels)


def _uint8(levels: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)


def _times(header: Dataset, count: int) -> tuple[np.ndarray, float | None]:
    """Return seconds of every frame and frames per second: by the frame times, else the frame time, else the rates."""
    steps_ms = header.get("FrameTimeVector")
    frame_ms = float(header.get("FrameTime") or math.nan)
    rates = [1000 / frame_ms if frame_ms > 0 else None, *(header.get(name) for name in _RATES)]
    rate = next((float(rate) for rate in rates if rate and float(rate) > 0), None)
    if steps_ms is None or np.size(steps_ms) != count:
        return steady_times(count, rate)
    return measured_times(np.cumsum(np.asarray(steps_ms, float)) / 1000, rate)
