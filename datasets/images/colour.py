"""Whether an image holds colours, and how they become grey."""

from typing import Any, NamedTuple

import numpy as np

# ITU-R BT.601 as Pillow rounds it: weights that add up to 1 exactly, so that equal channels give their value.
LUMA = np.array([19595, 38470, 7471]) / 65536

SAMPLE_PX = 64  # a side of so many sampled pixels is looked at
_LEAST_DIFFERENCE = 16  # of 256 levels between two channels: more than JPEG makes of a grey image
_LEAST_SHARE = 0.005  # of the pixels: a coloured letter in a radiograph is not what the image shows

LOST_COLOUR = "in colour, and read as grey: the model takes one channel"  # a warning of a prediction


class Read(NamedTuple):
    """What was read of a file.

    Attributes:
        pixels: An array of the image or clip, or an open clip.
        lost_colour: Whether the file holds colours and grey was made of them.
    """

    pixels: Any
    lost_colour: bool


def holds_colour(pixels: np.ndarray) -> bool:
    """Return whether the channels of an image differ; many grey images are stored with three equal ones.

    Args:
        pixels: (H, W) or (H, W, 3) uint8.
    """
    if pixels.ndim == 2:
        return False
    step = max(1, min(pixels.shape[:2]) // SAMPLE_PX)
    sample = pixels[::step, ::step].astype(np.int16)
    return bool((np.ptp(sample, axis=2) > _LEAST_DIFFERENCE).mean() > _LEAST_SHARE)


def colour_note(count: int, of: int) -> str:
    """Say that colours are lost; empty where none are.

    Args:
        count: Files in colour that are read as grey.
        of: Files that were looked at.
    """
    if not count:
        return ""
    verb = "is" if count == 1 else "are"
    return f"{count:,} of {of:,} files {verb} in colour and {verb} read as grey; --model.channels 3 keeps the colours"
