"""Clips from video files, GIFs, multi-frame DICOM and folders of frames: uint8 images over time.

What a file is, its first bytes say, not its name: many `.avi` files are MP4 inside. Its size is checked before
anything is decoded, only the frames that are asked for are kept, and a clip that is damaged or cut off is
refused, never filled up with copies of its neighbours.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from ...core.errors import DataError
from ...core.extras import require
from ..images.colour import Read, holds_colour
from ..kinds import DICOM, EMPTY, IMAGES, VIDEOS, file_kind
from ..loading.limits import CLIP_GB
from .facts import frames_at, refuse_large
from .region import Region

CLIP_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mpeg", ".mpg", ".vob", ".ts", ".mts", ".m2ts", ".mkv", ".webm", ".wmv",
    ".flv", ".ogv", ".gif", ".dcm", ".dicom",
)  # fmt: skip


@dataclass(frozen=True)
class ClipInfo:
    """What opening a clip tells.

    Attributes:
        frames: Frames that can be decoded.
        height, width: Of the upright image, px.
        fps: Frames per second on average; None where unknown.
        seconds: Frames by frames per second; None where unknown.
        container, codec: In FFmpeg's or DICOM's words, such as `mov` and `h264`.
        colour: Whether its pixels hold colours; many ultrasound clips are grey images stored so.
    """

    frames: int
    height: int
    width: int
    fps: float | None
    seconds: float | None
    container: str
    codec: str
    colour: bool


class Frames(Protocol):
    """An open clip of one kind.

    Attributes:
        times: (T,) seconds, increasing from 0; frame numbers where no rate is known.
        fps: Frames per second on average, or None.
        size: (height, width) px, upright.
        container, codec, colour: As in `ClipInfo`.
    """

    times: np.ndarray
    fps: float | None
    size: tuple[int, int]
    container: str
    codec: str
    colour: bool

    def images(self, ids: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield (h, w) or (h, w, 3) uint8 of each of the increasing `ids`, shrunk to `size` or not at all."""

    def close(self) -> None:
        """Close the file."""


class Clip:
    """An open clip as an array over time. To be used with `with`, in the process that opened it.

    Attributes:
        times: (T,) float64, seconds of every frame after the first (its number if there is no `fps`).
        fps: Frames per second on average, or as asked for; None where unknown, as for a folder of frames.
        size: (height, width) px of the images that it gives.
        region: Which part of the frame it gives; None for the whole, uncropped.
        lost_colour: Whether a decoded frame held colours and grey was made of it; of what is decoded at once the
            first, the middle and the last frame are looked at.
    """

    def __init__(
        self,
        path: Path,
        frames: Frames,
        *,
        colour: bool,
        shorter_px: int | None,
        fps: float | None = None,
        max_frames: int | None = None,
    ):
        self._path, self._frames, self._colour, self._shorter_px = path, frames, colour, shorter_px
        self.region: Region | None = None
        self.times, self.fps, self._taken = frames.times, frames.fps, None
        if fps is not None:
            self._taken = self._frames_at(fps, max_frames)
            self.times, self.fps = np.arange(len(self._taken)) / fps, fps
        self.size = _shrunk_size(frames.size, shorter_px)
        self.lost_colour = False

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, ids: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Decode frames.

        Args:
            ids: Frame numbers from 0 in any order, also several times the same; or a slice.

        Returns:
            (n, H, W) uint8 grey levels, the mean of red, green and blue; (n, H, W, 3) RGB if in colour.

        Raises:
            DataError: A number past the end, a frame that is damaged, or more at once than `limits.CLIP_GB`.
        """
        numbers = self._numbers(ids)
        wanted, places = np.unique(numbers if self._taken is None else self._taken[numbers], return_inverse=True)
        shape = (len(wanted), *self.size, *([3] if self._colour else []))
        if CLIP_GB.exceeded(math.prod(shape) / 1e9):
            raise DataError(
                f"{self._path}: {len(wanted)} frames of {self.size[1]}x{self.size[0]} px are too much at once "
                f"({CLIP_GB.text()}). Cut it into clips, or shrink it."
            )
        images = np.empty(shape, np.uint8)
        sample = set() if self._colour else {0, len(wanted) // 2, len(wanted) - 1}
        part = None if self.region is None or self.region.whole else self.region
        for row, image in enumerate(self._frames.images(wanted, self.size if part is None else self._frames.size)):
            if part is not None:
                image = np.ascontiguousarray(image[part.top : part.bottom, part.left : part.right])
            self.lost_colour |= row in sample and holds_colour(image)
            images[row] = _converted(image, self.size, self._colour)
        return images if np.array_equal(places, np.arange(len(wanted))) else images[places]

    @property
    def frame_size(self) -> tuple[int, int]:
        """Return (height, width) px of the whole upright frame, as the file has it."""
        return self._frames.size

    def shrunk_to(self, shorter_px: int) -> "Clip":
        """Return all frames of the same open file, whole, grey, and of this size; it closes with this clip."""
        return Clip(self._path, self._frames, colour=False, shorter_px=shorter_px)

    def crop(self, region: Region) -> None:
        """Give this part of every frame from now on; it is cut out before it is shrunk."""
        self.region = region
        self.size = _shrunk_size((region.bottom - region.top, region.right - region.left), self._shorter_px)

    def close(self) -> None:
        """Close the file."""
        self._frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _frames_at(self, fps: float, max_frames: int | None) -> np.ndarray:
        """Return which frames show the clip at a rate."""
        if self.fps is None:
            raise DataError(
                f"{self._path}: how many frames a second it has is not known, as of folders of frames: it cannot be "
                "sampled by time (data.clip.fps). Leave it out of the list, or set data.clip.fps null."
            )
        refuse_large(self._path, (0, 0), round((self.times[-1] + 1 / self.fps) * fps), None, max_frames)
        return frames_at(self.times, fps, self.fps)

    def _numbers(self, ids: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        if isinstance(ids, slice):
            return np.arange(len(self))[ids]
        ids = np.atleast_1d(ids)
        if ids.size and ids.dtype.kind not in "iu":
            raise TypeError("frames are chosen by whole numbers")
        wrong = ids[(ids < 0) | (ids >= len(self))]
        if wrong.size:
            raise DataError(f"{self._path}: no frame {wrong[0]}: the clip has {len(self)} frames, the first is 0.")
        return ids.astype(np.int64)


def open_clip(
    path: str | Path,
    *,
    colour: bool = False,
    shorter_px: int | None = None,
    fps: float | None = None,
    reader: str = "pyav",
    max_megapixels: float | None = None,
    max_frames: int | None = None,
) -> Clip:
    """Open a clip; frames are decoded when they are asked for.

    The image is turned upright as the file says; pixels that are not square stay as they are. A folder is a
    clip of the images in it, in the order of the numbers in their names.

    Args:
        path: A video (MP4, MOV, AVI, Matroska, WebM, WMV, MPEG, MPEG-TS, FLV, Ogg), a GIF, a DICOM file, or a folder of
            JPEG or PNG frames.
        colour: RGB instead of grey.
        shorter_px: If given, images are shrunk by area averaging so that the shorter side has so many px.
            They are never enlarged.
        fps: Sample by time: the frames shown 0, 1 / fps, 2 / fps, ... seconds after the first. None for those of the
            file.
        reader: What decodes videos: `pyav`, `decord` or `torchcodec`. GIFs, DICOM files and folders of frames are read
            as always.
        max_megapixels: Greatest height x width / 10^6 of the file's image; None for `limits.FRAME_MEGAPIXELS`.
        max_frames: Greatest number of frames; None for `limits.FRAMES`.

    Raises:
        DataError: The file cannot be opened, is none of these, holds no images, is cut off, or too large; or its
            rate is not known, and `fps` asks for it.
    """
    path = Path(path)
    kind = _kind(path)
    limits: dict[str, Any] = {"max_megapixels": max_megapixels, "max_frames": max_frames}
    frames: Frames
    # Each reader is loaded when it is needed.
    if kind == "folder":
        from .frame_folder import FolderFrames

        frames = FolderFrames(path, kind, **limits)
    elif kind == DICOM:
        from .dicom_clip import DicomFrames

        frames = DicomFrames(path, kind, **limits)
    else:
        require("av", "video", path)
        if reader == "pyav" or kind == "gif":
            from .video_file import VideoFrames

            frames = VideoFrames(path, kind, **limits)
        else:
            from .backends import BACKENDS

            frames = BACKENDS[reader](path, kind, **limits)
    return Clip(path, frames, colour=colour, shorter_px=shorter_px, fps=fps, max_frames=max_frames)


def read_clip(
    path: str | Path,
    *,
    colour: bool = False,
    shorter_px: int | None = None,
    ids: Sequence[int] | np.ndarray | slice | None = None,
    reader: str = "pyav",
    max_megapixels: float | None = None,
    max_frames: int | None = None,
) -> np.ndarray:
    """Read all frames of a clip, or those of `ids`; arguments, result and errors as of `open_clip` and `Clip`."""
    with open_clip(
        path, colour=colour, shorter_px=shorter_px, reader=reader, max_megapixels=max_megapixels, max_frames=max_frames
    ) as clip:
        return clip[slice(None) if ids is None else ids]


def read_grey_clip(path: str | Path) -> Read:
    """Read all frames of a clip in grey, as `read_clip` does, and note whether they hold colours.

    Raises:
        DataError: As `read_clip`.
    """
    with open_clip(path) as clip:
        return Read(clip[:], clip.lost_colour)


def clip_info(path: str | Path) -> ClipInfo:
    """Return what is known of a clip once it is open, its limits being those of `open_clip`.

    Raises:
        DataError: As `open_clip`.
    """
    with open_clip(path) as clip:
        frames = clip._frames
        seconds = len(clip) / clip.fps if clip.fps else None
        return ClipInfo(len(clip), *frames.size, clip.fps, seconds, frames.container, frames.codec, frames.colour)


def _kind(path: Path) -> str:
    """Return `folder`, `DICOM`, or FFmpeg's name of the container that the first bytes announce."""
    if os.path.isdir(path):  # noqa: PTH112, which fails on no path, however long
        return "folder"
    kind = file_kind(path)
    if kind == EMPTY:
        raise DataError(f"{path}: the file is empty (0 bytes). Fetch it again.")
    if kind in IMAGES:
        raise DataError(
            f"{path}: a single image, not a clip. Put the frames of a clip into a folder and name that; convert an "
            "animated PNG or WebP to MP4."
        )
    if kind not in (*VIDEOS, DICOM):
        raise DataError(
            f"{path}: no clip that is read here: its first bytes are those of no MP4, MOV, AVI, Matroska, WebM, WMV, "
            "MPEG, MPEG-TS, FLV, Ogg, GIF or DICOM file. Whatever its name says, look what it is."
        )
    return kind


def _shrunk_size(size: tuple[int, int], shorter_px: int | None) -> tuple[int, int]:
    if shorter_px is None or min(size) <= shorter_px:
        return size
    height, width = (round(side * shorter_px / min(size)) for side in size)
    return height, width


def _converted(image: np.ndarray, size: tuple[int, int], colour: bool) -> np.ndarray:
    """Return (H, W) or (H, W, 3) from what a reader gave."""
    import cv2

    if image.shape[:2] != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    if colour and image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    if not colour and image.ndim == 3:
        return cv2.transform(image, np.full((1, 3), 1 / 3))  # the mean, rounded
    return image
