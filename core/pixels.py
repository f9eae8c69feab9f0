"""From stored pixels to what a network takes: the one normalisation of training, prediction and explanation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# A tensor, or an array where torch is not installed (`clinvit-runtime`).
Pixels = TypeVar("Pixels", "Tensor", np.ndarray)


def unit_range(pixels: Pixels) -> Pixels:
    """Return pixels in 0..1: uint8 over 255; floats are so already."""
    if not str(pixels.dtype).endswith("uint8"):
        return pixels
    return (pixels.astype(np.float32) if isinstance(pixels, np.ndarray) else pixels.float()) / 255


def normalised(pixels: Pixels, mean: Any | Sequence[float], std: Any | Sequence[float]) -> Pixels:
    """Return pixels in 0..1, minus mean, over std, in float.

    Args:
        pixels: (B, C, [T,] H, W), uint8, or float in 0..1, on the device of the computation: uint8 is a quarter of
            the bytes to copy there.
        mean: One value per channel.
        std: One value per channel.
    """
    shape = (1, -1, *[1] * (pixels.ndim - 2))
    mean, std = (_alike(values, pixels).reshape(shape) for values in (mean, std))
    return (unit_range(pixels) - mean) / std


def _alike(values: Any, pixels: Any) -> Any:
    """Return values as an array where the pixels are one, else as a tensor on their device."""
    if isinstance(pixels, np.ndarray):
        return np.asarray(values, np.float32)
    import torch

    return torch.as_tensor(values, device=pixels.device)
