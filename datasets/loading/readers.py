"""From a file to the uint8 array that a cache keeps and a transform cuts: one reader for images, two for clips.

A reader is small and picklable. Its `name` says all that its pixels depend on: it names the cache folder.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError, UserError
from ...core.extras import require
from ..images.colour import Read
from ..manifest.rois import ROI, RoiBox, case_boxes
from ..settings import Clip
from ..video.region import ClipRead, Region

# Part of every name: a change of what a reader returns must not meet old pixels.
VERSION = 3

_RGB = {1: "", 3: "-rgb"}
_BLACKED = {False: "", True: "-blacked"}


def _decoded(fps: float | None, reader: str) -> str:
    return ("" if fps is None else f"-{fps:g}fps") + ("" if reader == "pyav" else f"-{reader}")


class Reader(ABC):
    """What caches and loaders ask of a reader.

    Attributes:
        channels: 1 for grey, 3 for RGB.
    """

    channels: int

    @property
    @abstractmethod
    def name(self) -> str:
        """Return a folder name for the pixels that it gives."""

    @abstractmethod
    def load(self, path: Path) -> Read | ClipRead:
        """Read all pixels, uint8, and note whether colours were lost.

        Raises:
            DataError: The file cannot be read.
        """

    def read(self, path: Path) -> np.ndarray:
        """Read all pixels, uint8."""
        return self.load(path).pixels

    def open(self, path: Path) -> Any:
        """Open what gives uint8 pixels by `[...]`: an array, or a clip that decodes the frames it is asked for."""
        return self.read(path)

    def opened(self, path: Path) -> Read | ClipRead:
        """Open as `open` does; of a clip it is known only when frames were decoded whether colours are lost."""
        return self.load(path)

    def loses_colour(self, path: Path) -> bool:
        """Return whether a file is in colour and is read as grey; of a clip the middle frame is looked at."""
        return self.load(path).lost_colour

    def facts_of(self, path: Path) -> str:
        """Return what else the pixels of one file depend on, as text."""
        return ""


@dataclass(frozen=True)
class ImageReader(Reader):
    """Reads images: (H, W) grey, or (H, W, 3) RGB.

    Attributes:
        shorter_px: Shorter side that larger images are shrunk to, px.
        least_px: A file whose shorter side has less is refused.
        channels: 1 for grey, 3 for RGB.
    """

    shorter_px: int
    least_px: int = 0
    channels: int = 1

    @property
    def name(self) -> str:
        """Return a folder name for the pixels."""
        least = f"-least{self.least_px}px" if self.least_px else ""
        return f"{self.shorter_px}px{least}{_RGB[self.channels]}-v{VERSION}"

    def load(self, path: Path) -> Read:
        """Read an image, and note whether colours were lost."""
        from ..images.radiographs import read_grey, read_radiograph

        if self.channels == 1:
            levels, lost_colour = read_grey(path, self.shorter_px)
        else:
            levels, lost_colour = read_radiograph(path, self.shorter_px, channels=self.channels), False
        pixels = np.rint(levels * 255).astype(np.uint8)
        height, width = pixels.shape[:2]
        if min(height, width) < self.least_px:
            raise DataError(
                f"{path}: {width} x {height} px, but its shorter side is read at {self.least_px}. "
                "Export it larger, or leave the finest of `scales` out."
            )
        return Read(pixels, lost_colour)


class CroppingReader(Reader):
    """What the readers of clips share: how they are decoded, and which part of their frames is read."""

    black_out: bool
    fps: float | None
    reader: str
    roi: str
    roi_margin: float
    boxes: Mapping[str, RoiBox | None] | None

    @property
    def _how(self) -> str:
        """Return the part of the name that both share."""
        rgb, blacked, decoded = _RGB[self.channels], _BLACKED[self.black_out], _decoded(self.fps, self.reader)
        roi = "" if self.roi == "none" else f"-{self.roi}{self.roi_margin:g}"
        return f"{rgb}{blacked}{decoded}{roi}-v{VERSION}"

    def facts_of(self, path: Path) -> str:
        """Return the box of a clip, which its pixels depend on."""
        return f"|{tuple(box)}" if self.boxes and (box := self.boxes.get(str(path))) else ""

    def region(self, path: Path) -> Region:
        """Return which part of a clip is read."""
        with closing(self._opened(path, None)) as clip:
            return clip.region

    def _opened(self, path: Path, shorter_px: int | None) -> Any:
        """Open a clip, cropped to its region of interest and with black surroundings where these are asked for."""
        from ..video.clips import open_clip

        clip = open_clip(path, colour=self.channels == 3, shorter_px=shorter_px, fps=self.fps, reader=self.reader)
        try:
            if self.roi != "none":
                clip.crop(self._region(clip, path))
            return _Blacked(clip, path) if self.black_out else clip
        except BaseException:
            clip.close()
            raise

    def _region(self, clip: Any, path: Path) -> Region:
        from ..video.roi import NO_BOX, NO_MOTION, moving_box, region_of

        if self.roi == "moving":
            return region_of(clip.frame_size, moving_box(clip), self.roi_margin, NO_MOTION)
        if self.boxes is None:
            raise DataError(
                f"{path}: clips are read cropped to the boxes of a table (data.clip.roi boxes), which is not at hand "
                f"here: give a manifest with {ROI} beside it."
            )
        box = self.boxes.get(str(path))
        shares = None if box is None else box.shares(path, *reversed(clip.frame_size))
        return region_of(clip.frame_size, shares, self.roi_margin, NO_BOX)


@dataclass(frozen=True)
class ClipReader(CroppingReader):
    """Reads clips, every frame: (T, H, W) grey, or (T, H, W, 3) RGB.

    Attributes:
        shorter_px: Shorter side that larger frames are shrunk to, px; of cropped ones that of the crop.
        channels: 1 for grey, the mean of the three; 3 for RGB.
        black_out: Blacken what never moves.
        fps: Frames a second, by time; None for the frames of the file.
        reader: What decodes videos, as of `settings.Clip`.
        roi, roi_margin: Which part is read, as of `settings.Clip`.
        boxes: By path the box of each clip, None where it has none; where `roi` is `boxes` alone (`with_boxes`).
    """

    shorter_px: int
    channels: int = 1
    black_out: bool = False
    fps: float | None = None
    reader: str = "pyav"
    roi: str = "none"
    roi_margin: float = 0.0
    boxes: Mapping[str, RoiBox | None] | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Return a folder name for the pixels."""
        return f"clips-{self.shorter_px}px{self._how}"

    def open(self, path: Path) -> Any:
        """Open a clip, of which the frames that are asked for are decoded."""
        return self._opened(path, self.shorter_px)

    def opened(self, path: Path) -> ClipRead:
        """Open a clip; see its own `lost_colour`."""
        clip = self.open(path)
        return ClipRead(clip, False, clip.region)

    def load(self, path: Path) -> ClipRead:
        """Read all frames, and note whether colours were lost, and which part was read."""
        with closing(self.open(path)) as clip:
            return ClipRead(clip[:], clip.lost_colour, clip.region)

    def loses_colour(self, path: Path) -> bool:
        """Return whether a clip is in colour and is read as grey, by its middle frame."""
        with closing(self.open(path)) as clip:
            clip[[len(clip) // 2]]
            return clip.lost_colour


@dataclass(frozen=True)
class VolumeReader(CroppingReader):
    """Reads whole clips as ERDES's networks take them: (`frames`, `size_px`, `size_px`) grey, or with 3 channels last.

    Mean over the channels, zero-padded to a square, then trilinear resampling of time, height and width at once
    (align_corners False, no anti-aliasing), whatever the length (official erdes_dataset.py). Rounded to uint8.
    """

    frames: int
    size_px: int
    channels: int = 1
    black_out: bool = False
    fps: float | None = None
    reader: str = "pyav"
    roi: str = "none"
    roi_margin: float = 0.0
    boxes: Mapping[str, RoiBox | None] | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Return a folder name for the pixels."""
        return f"volumes-{self.frames}x{self.size_px}px{self._how}"

    def load(self, path: Path) -> ClipRead:
        """Read and resample a clip, and note whether colours were lost, and which part was read."""
        with closing(self._opened(path, None)) as clip:
            side, region = max(clip.size), clip.region
            # Time first, then space: the same numbers, and never more than the wanted frames in memory as float.
            early, late, share = _between(len(clip), self.frames)
            near = np.unique(np.concatenate([early, late]))
            pixels = clip[near]
            lost_colour = clip.lost_colour
        squares = np.stack([_squared(frame, side, self.size_px) for frame in pixels])
        first, second = squares[np.searchsorted(near, early)], squares[np.searchsorted(near, late)]
        share = share.reshape(-1, *[1] * (squares.ndim - 1))
        return ClipRead(np.rint(first + (second - first) * share).astype(np.uint8), lost_colour, region)

    def loses_colour(self, path: Path) -> bool:
        """Return whether a clip is in colour and is read as grey, by its middle frame."""
        return ClipReader(self.size_px, self.channels).loses_colour(path)


def make_reader(
    clip: Clip, *, frames: int, size_px: int, cache_px: int, channels: int, least_px: int = 0
) -> ImageReader | ClipReader | VolumeReader:  # fmt: skip
    """Make the reader of a recipe.

    Args:
        clip: How clips are read.
        frames: Frames of the model's input; 1 reads images.
        size_px: Side of its input.
        cache_px: Shorter side of what is kept.
        channels: 1 reads everything in grey, 3 in RGB.
        least_px: Shorter side that an image must have.

    Raises:
        UserError: Another number of channels, what decodes clips is not installed, or images have a region of interest.
    """
    if channels not in (1, 3):
        raise UserError(f"model.channels {channels}: files are read with 1 channel (grey) or 3 (RGB).")
    if frames == 1:
        if clip.roi != "none":
            raise UserError(
                f"data.clip.roi {clip.roi}: clips are cropped so, not images (model.frames 1): set it none."
            )
        return ImageReader(cache_px, least_px, channels)
    if clip.reader != "pyav":
        require("av", "video", f"data.clip.reader {clip.reader}")
        from ..video.backends import refuse_absent

        refuse_absent(clip.reader)
    roi = clip.roi, clip.roi_margin if clip.roi != "none" else 0.0
    if clip.sampling == "volume":
        return VolumeReader(frames, size_px, channels, clip.black_out, clip.fps, clip.reader, *roi)
    return ClipReader(cache_px, channels, clip.black_out, clip.fps, clip.reader, *roi)


def with_boxes(reader: Reader, cases: Mapping[str, Any]) -> Reader:
    """Return a reader that knows the boxes of some cases, where it crops to boxes; any other as it is.

    Args:
        reader: Of a recipe or a card.
        cases: Columns or DataFrame with `id`, `path` and `rois.ROIS`.

    Raises:
        UserError: There is no table of boxes.
        DataError: It is damaged, or has a box of none of the cases.
    """
    if not isinstance(reader, ClipReader | VolumeReader) or reader.roi != "boxes":
        return reader
    return replace(reader, boxes=case_boxes(cases))


class _Blacked:
    """A clip whose static surroundings are black."""

    LOOKS = 32  # frames, spread over the clip, by which the moving region is found

    def __init__(self, clip, path: Path):
        from ..video.overlay import moving_region

        self.clip, self.size = clip, clip.size
        sample = np.unique(np.linspace(0, len(clip) - 1, self.LOOKS).round().astype(int))
        try:
            self.shown = moving_region(clip[sample])
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def __len__(self) -> int:
        return len(self.clip)

    def __getitem__(self, ids) -> np.ndarray:
        from ..video.overlay import black_out

        return black_out(self.clip[ids], self.shown)

    def close(self) -> None:
        self.clip.close()

    @property
    def lost_colour(self) -> bool:
        return self.clip.lost_colour

    @property
    def region(self) -> Region | None:
        return self.clip.region


def _between(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for linear resampling of `old` positions to `new` the one before, the one after and the latter's share."""
    place = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0)
    early = np.minimum(place.astype(np.int64), old - 1)
    return early, np.minimum(early + 1, old - 1), (place - early).clip(0, 1).astype(np.float32)


def _squared(frame: np.ndarray, side: int, size_px: int) -> np.ndarray:
    """Pad a frame (H, W[, 3]) with zeros to `side` and resample it bilinearly to (size_px, size_px[, 3]) float32."""
    import cv2

    top, left = ((side - extent) // 2 for extent in frame.shape[:2])
    square = np.zeros((side, side, *frame.shape[2:]), np.float32)
    square[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return cv2.resize(square, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
