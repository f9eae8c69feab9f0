"""What every reader of clips settles the same way: whether a clip is small enough, and when its frames are shown."""

from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ..loading.limits import FRAME_MEGAPIXELS, FRAMES


def refuse_large(
    path: Path, size: tuple[int, int], count: int, max_megapixels: float | None, max_frames: int | None
) -> None:
    """Raise DataError if images of `size` (height, width) or their number are beyond the limits.

    A limit that is None is that of all clips.
    """
    height, width = size
    if FRAME_MEGAPIXELS.exceeded(height * width / 1e6, max_megapixels):
        raise DataError(
            f"{path}: its images are {width}x{height} px, too large ({FRAME_MEGAPIXELS.text(max_megapixels)}). "
            "Shrink the clip, or leave it out."
        )
    if FRAMES.exceeded(count, max_frames):
        raise DataError(f"{path}: too long ({FRAMES.text(max_frames)}). Cut it into clips, or leave it out.")


def steady_times(count: int, fps: float | None) -> tuple[np.ndarray, float | None]:
    """Return (T,) seconds of frames at a steady rate, and the rate.

    If the rate is unknown or nonsense, the numbers of the frames and None.
    """
    fps = float(fps) if fps and 0 < fps <= 1000 else None
    return np.arange(count) / (fps or 1.0), fps


def measured_times(seconds: np.ndarray, fps: float | None) -> tuple[np.ndarray, float | None]:
    """Return seconds after the first frame, and the mean rate; steady times at `fps` if those given cannot be.

    Args:
        seconds: (T,) presentation time of every frame, perhaps nonsense.
        fps: What the file announces.
    """
    after = seconds - seconds[:1]
    steps = np.diff(after)
    if len(steps) and (steps > 0).all() and 0 < 1 / steps.mean() <= 1000:
        return after, float(1 / steps.mean())
    return steady_times(len(seconds), fps)


def frames_at(times: np.ndarray, fps: float, own_fps: float) -> np.ndarray:
    """Return (n,) int64: which frame is shown at 0, 1 / fps, 2 / fps, ... seconds, to the end of the clip.

    Args:
        times: (T,) seconds of every frame.
        fps: Frames wanted a second, above or below those of the clip.
        own_fps: The clip's mean; its last frame is shown for the mean step.
    """
    step = 1 / fps
    # Containers round their times: a frame that begins a little later than asked for is the one that is meant.
    late = 0.25 * min(step, 1 / own_fps)
    count = max(1, int((times[-1] + 1 / own_fps + late) * fps))
    return np.searchsorted(times, np.arange(count) * step + late, side="right") - 1
