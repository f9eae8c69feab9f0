"""How the pixels of a case become the model's input: which frames, then which part of them, in training and in testing.

Images and clips go the same way; an image has no frames to choose.
"""

from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from ..images.colour import Read
from ..settings import Clip
from ..video.region import ClipRead
from ..video.sampling import middle_frames, test_frames, train_frames
from .augment import Augment, build_eval, build_train

File = TypeVar("File", contravariant=True)


class TrainView:
    """Random frames and a random crop.

    Args:
        augment: What is random in space.
        clip: How frames are sampled.
        frames: Frames of the model's input; 1 for images.
    """

    def __init__(self, augment: Augment, clip: Clip, frames: int):
        self.clip, self.frames = clip, frames
        self.repeats = clip.repeats if frames > 1 else 1
        self.in_space = build_train(augment)
        self.frame_by_frame = augment.randaug is not None  # which looks at the colours of one image

    def __call__(self, pixels, seed: int) -> np.ndarray:
        """Make the samples of one case.

        Args:
            pixels: (H, W) or (H, W, 3), or a clip (T, H, W) or (T, H, W, 3), uint8, that gives frames by `[ids]`.
            seed: Decides everything.

        Returns:
            (R, C, S, S), or (R, C, frames, S, S), uint8: R samples in space of the same frames.
        """
        if self.frames == 1:
            return _channels_first(self.in_space(pixels, seed))[None]
        if self.clip.sampling == "volume":
            frames = pixels
        else:
            frames = pixels[train_frames(self.clip, len(pixels), self.frames, seed)]
        samples = [over_frames(self.in_space, frames, seed + r, self.frame_by_frame) for r in range(self.repeats)]
        return np.stack(samples)


@dataclass(frozen=True)
class EvalView:
    """Views without randomness: `segments` in time x `crops` along the longer side (multi-clip multi-crop testing).

    Attributes:
        size: Side of the square result, px.
        mode, resize_px: As in `build_eval`.
        clip: How frames are chosen.
        frames: Frames of the model's input; 1 for images.
        segments: Views in time; 1 is the middle.
        crops: Views of each in space; 1 is the centre, more are squares spread along the longer side.
    """

    size: int
    mode: str
    resize_px: int | None
    clip: Clip
    frames: int
    segments: int = 1
    crops: int = 1

    def __len__(self) -> int:
        """Return how many views there are."""
        return self.segments * self.crops

    def single(self) -> "EvalView":
        """Return the middle of time and space alone."""
        return replace(self, segments=1, crops=1)

    def __call__(self, pixels, view: int = 0) -> np.ndarray:
        """Return view number `view` of a case: (1, C, S, S) or (1, C, frames, S, S) uint8."""
        segment, crop = divmod(view, self.crops)
        if self.crops > 1:
            in_space = build_eval(self.size, None, "squash")
            cut = lambda image, _: in_space(_square(image, crop, self.crops), 0)
        else:
            cut = build_eval(self.size, self.resize_px, self.mode)
        if self.frames == 1:
            return _channels_first(cut(pixels, 0))[None]
        if self.clip.sampling == "volume":
            frames = pixels
        else:
            frames = pixels[test_frames(self.clip, len(pixels), self.frames, segment, self.segments)]
        return over_frames(cut, frames, 0)[None]

    def frames_of(self, length: int) -> np.ndarray:
        """Return (frames,) int64: which frames of a clip of `length` the middle view shows; of volumes the nearest."""
        if self.clip.sampling == "volume":
            return ((np.arange(self.frames) + 0.5) * length / self.frames).astype(np.int64)
        return middle_frames(self.clip, length, self.frames)


def over_frames(in_space, frames: np.ndarray, seed: int, one_by_one: bool = False) -> np.ndarray:
    """Apply a transform of images to a clip, with the same random numbers for all frames.

    The frames go through as channels of one image, which is faster than one after the other.

    Args:
        in_space: `(image (H, W[, C]), seed)` to (S, S[, C]).
        frames: (T, H, W) or (T, H, W, 3) uint8.
        seed: Of the transform.
        one_by_one: Three channels are colours to the transform: it must see those of one frame, and no three frames.

    Returns:
        (C, T, S, S) uint8.
    """
    if one_by_one and (frames.ndim == 4 or len(frames) == 3):
        return np.stack([_channels_first(in_space(frame, seed)) for frame in frames], axis=1)
    length, height, width = frames.shape[:3]
    planes = frames if frames.ndim == 3 else frames.transpose(3, 0, 1, 2).reshape(-1, height, width)
    # A view: interleaving whole frames would cost as much as cropping them.
    out = in_space(np.moveaxis(planes, 0, -1), seed)
    return out.reshape(*out.shape[:2], -1, length).transpose(2, 3, 0, 1)


def _channels_first(image: np.ndarray) -> np.ndarray:
    """Return (H, W) or (H, W, C) as (C, H, W)."""
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def _square(image: np.ndarray, crop: int, crops: int) -> np.ndarray:
    """Return square number `crop` of `crops` along the longer side."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = ((extent - side) * crop // (crops - 1) for extent in (height, width))
    return image[top : top + side, left : left + side]


class Opens(Protocol[File]):
    """Opens files, or images in memory."""

    def opened(self, path: File, /) -> Read | ClipRead:
        """Return what gives uint8 pixels by `[...]`, and whether colours were lost."""


@dataclass(frozen=True)
class FileViews(Generic[File]):
    """From a file to all its views, for processes that read.

    Attributes:
        reader: Opens the file.
        views: How its pixels are shown.
    """

    reader: Opens[File]
    views: EvalView

    def __call__(self, path: File) -> ClipRead:
        """Return (V, C, [T,] S, S) uint8, whether grey was made of colours, and which part of a clip was read.

        Raises:
            DataError: The file cannot be read.
        """
        read = self.reader.opened(path)
        pixels = read.pixels
        with nullcontext() if isinstance(pixels, np.ndarray) else closing(pixels):
            shown = np.concatenate([self.views(pixels, view) for view in range(len(self.views))])
            lost_colour = bool(read.lost_colour or getattr(pixels, "lost_colour", False))
            return ClipRead(shown, lost_colour, read.region if isinstance(read, ClipRead) else None)
