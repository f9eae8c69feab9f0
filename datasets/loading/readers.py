"""From a file to the uint8 array that a cache keeps and a transform cuts: one reader for images, two for clips.

A reader is small and picklable. Its `name` says all that its pixels depend on: it names the cache folder.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...core.errors import DataError
from ..settings import Clip

# Part of every name: a change of what a reader returns must not meet old pixels.
VERSION = 2


class Reader(Protocol):
    """What caches and loaders ask of a reader."""

    @property
    def name(self) -> str:
        """A folder name for the pixels that it gives."""

    def open(self, path: Path):
        """Something that gives uint8 pixels by `[...]`: an array, or a clip that decodes the frames it is asked for.

        Raises:
            DataError: The file cannot be read.
        """

    def read(self, path: Path) -> np.ndarray:
        """All pixels, uint8."""


@dataclass(frozen=True)
class ImageReader:
    """Radiographs: (H, W), shorter side at most `shorter_px`; a file with less than `least_px` is refused."""

    shorter_px: int
    least_px: int = 0

    @property
    def name(self) -> str:
        least = f"-least{self.least_px}px" if self.least_px else ""
        return f"{self.shorter_px}px{least}-v{VERSION}"

    def read(self, path: Path) -> np.ndarray:
        from ..images.radiographs import read_radiograph

        pixels = np.rint(read_radiograph(path, shorter_px=self.shorter_px) * 255).astype(np.uint8)
        if min(pixels.shape) < self.least_px:
            raise DataError(
                f"{path}: {pixels.shape[1]} x {pixels.shape[0]} px, but its shorter side is read at {self.least_px}. "
                "Export it larger, or leave the finest of `scales` out."
            )
        return pixels

    open = read


@dataclass(frozen=True)
class ClipReader:
    """Clips: (T, H, W) grey or (T, H, W, 3), every frame, shorter side at most `shorter_px`."""

    shorter_px: int
    colour: bool = False
    black_out: bool = False

    @property
    def name(self) -> str:
        what = ("-colour" if self.colour else "") + ("-blacked" if self.black_out else "")
        return f"clips-{self.shorter_px}px{what}-v{VERSION}"

    def open(self, path: Path):
        from ..video.clips import open_clip

        clip = open_clip(path, colour=self.colour, shorter_px=self.shorter_px)
        return _Blacked(clip, path) if self.black_out else clip

    def read(self, path: Path) -> np.ndarray:
        with closing(self.open(path)) as clip:
            return clip[:]


@dataclass(frozen=True)
class VolumeReader:
    """Whole clips as ERDES's networks take them: (`frames`, `size_px`, `size_px`) grey.

    Mean over the channels, zero-padded to a square, then trilinear resampling of time, height and width at once
    (align_corners False, no anti-aliasing), whatever the length (official erdes_dataset.py). Rounded to uint8.
    """

    frames: int
    size_px: int
    black_out: bool = False

    @property
    def name(self) -> str:
        return f"volumes-{self.frames}x{self.size_px}px{'-blacked' if self.black_out else ''}-v{VERSION}"

    def read(self, path: Path) -> np.ndarray:
        from ..video.clips import open_clip

        with open_clip(path) as clip:
            frames = _Blacked(clip, path) if self.black_out else clip
            side = max(clip.size)
            # Time first, then space: the same numbers, and never more than the wanted frames in memory as float.
            early, late, share = _between(len(clip), self.frames)
            near = np.unique(np.concatenate([early, late]))
            pixels = frames[near]
        squares = np.stack([_squared(frame, side, self.size_px) for frame in pixels])
        first, second = squares[np.searchsorted(near, early)], squares[np.searchsorted(near, late)]
        return np.rint(first + (second - first) * share[:, None, None]).astype(np.uint8)

    open = read


def make_reader(
    clip: Clip, *, frames: int, size_px: int, cache_px: int, least_px: int = 0
) -> ImageReader | ClipReader | VolumeReader:  # fmt: skip
    """The reader of a recipe.

    Args:
        clip: How clips are read.
        frames: Frames of the model's input; 1 reads images.
        size_px: Side of its input.
        cache_px: Shorter side of what is kept.
        least_px: Shorter side that an image must have.
    """
    if frames == 1:
        return ImageReader(cache_px, least_px)
    if clip.sampling == "volume":
        return VolumeReader(frames, size_px, clip.black_out)
    return ClipReader(cache_px, clip.colour, clip.black_out)


class _Blacked:
    """A clip whose static surroundings are black."""

    LOOKS = 32  # frames, spread over the clip, by which the moving region is found

    def __init__(self, clip, path: Path):
        from ..video.overlay import moving_region

        self.clip, self.size = clip, clip.size
        spread = np.unique(np.linspace(0, len(clip) - 1, self.LOOKS).round().astype(int))
        try:
            self.region = moving_region(clip[spread])
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def __len__(self) -> int:
        return len(self.clip)

    def __getitem__(self, ids) -> np.ndarray:
        from ..video.overlay import black_out

        return black_out(self.clip[ids], self.region)

    def close(self) -> None:
        self.clip.close()


def _between(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For linear resampling of `old` places to `new`: the place before, the one after, and the share of the latter."""
    place = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0)
    early = np.minimum(place.astype(np.int64), old - 1)
    return early, np.minimum(early + 1, old - 1), (place - early).clip(0, 1).astype(np.float32)


def _squared(frame: np.ndarray, side: int, size_px: int) -> np.ndarray:
    """(H, W) uint8, padded with zeros to `side`, resampled bilinearly to (size_px, size_px) float32."""
    import cv2

    top, left = ((side - extent) // 2 for extent in frame.shape)
    square = np.zeros((side, side), np.float32)
    square[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return cv2.resize(square, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
