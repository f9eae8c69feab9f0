"""Which frames of a clip the model sees, in training and in testing.

The rules of VideoMAE V2's code (dataset/pretrain_datasets.py, dataset/datasets.py), without its sampling of other files
in place of broken ones. Indices are zero-based; a clip shorter than asked repeats its last frames.
"""

import numpy as np

from ..settings import Clip


def train_frames(clip: Clip, length: int, frames: int, seed: int) -> np.ndarray:
    """Choose the frames (frames,) int64 of one sample from a clip of `length` frames, in order."""
    draw = np.random.default_rng(seed)
    window = frames * clip.stride
    if clip.sampling == "strided":
        start = draw.integers(0, max(1, length - window + 1))
        return _strided(length, frames, clip.stride, int(start))
    if clip.sampling == "dense":
        end = window if length <= window else int(draw.integers(window, length))
        return _dense(length, frames, clip.stride, end)
    if clip.sampling == "sparse":
        return _sparse(length, frames, draw)
    return _uniform(length, frames)


def middle_frames(clip: Clip, length: int, frames: int) -> np.ndarray:
    """Choose the frames (frames,) int64 of the one central view, for validation while training."""
    window = frames * clip.stride
    if clip.sampling == "strided":
        return _strided(length, frames, clip.stride, max(0, (length - window) // 2))
    if clip.sampling == "dense":
        return _dense(length, frames, clip.stride, (window + max(length, window)) // 2)
    if clip.sampling == "sparse":
        return _sparse(length, frames, None)
    return _uniform(length, frames)


def test_frames(clip: Clip, length: int, frames: int, view: int, views: int) -> np.ndarray:
    """Choose the frames (frames,) int64 of one of several views in time (multi-clip testing).

    strided and dense: views of every `stride`-th frame, their starts spread evenly over the clip. sparse: the views
    interleave, each with one frame of every segment. uniform and volume: one view is all there is.
    """
    if views == 1 or clip.sampling in ("uniform", "volume"):
        return middle_frames(clip, length, frames)
    if clip.sampling == "sparse":
        places = np.arange(frames * views) * (length / (frames * views))
        return np.minimum(places.astype(np.int64), length - 1)[view::views]
    strided = np.arange(0, length, clip.stride)
    strided = np.concatenate([strided, np.full(max(0, frames - len(strided)), strided[-1])])
    start = int(view * (len(strided) - frames) / (views - 1))
    return strided[start : start + frames]


def _strided(length: int, frames: int, stride: int, start: int) -> np.ndarray:
    ids = start + stride * np.arange(frames)
    last = ids[ids < length][-1]
    return np.minimum(ids, last)


def _dense(length: int, frames: int, stride: int, end: int) -> np.ndarray:
    window = frames * stride
    if length <= window:
        ids = np.linspace(0, length, num=max(1, length // stride))[:frames]
        ids = np.concatenate([ids, np.full(frames - len(ids), length)])
        return np.clip(ids, 0, length - 1).astype(np.int64)
    start = end - window
    return np.clip(np.linspace(start, end, num=frames), start, end - 1).astype(np.int64)


def _sparse(length: int, frames: int, draw: np.random.Generator | None) -> np.ndarray:
    """Choose one frame of each of `frames` equal segments: random, or its middle."""
    segment = length // frames
    if not segment:
        return _uniform(length, frames)
    inside = np.full(frames, segment // 2) if draw is None else draw.integers(0, segment, frames)
    return np.arange(frames) * segment + inside


def _uniform(length: int, frames: int) -> np.ndarray:
    """Choose frames evenly over the clip, from the middle of the first of `frames` parts to the middle of the last."""
    return np.minimum(((np.arange(frames) + 0.5) * length / frames).astype(np.int64), length - 1)
