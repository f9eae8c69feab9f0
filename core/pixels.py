"""From stored pixels to what a network takes: the one normalisation of training, prediction and explanation."""

from collections.abc import Sequence

import torch
from torch import Tensor


def unit_range(pixels: Tensor) -> Tensor:
    """Return pixels in 0..1: uint8 over 255; floats are so already."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def normalised(pixels: Tensor, mean: Tensor | Sequence[float], std: Tensor | Sequence[float]) -> Tensor:
    """Return pixels in 0..1, minus mean, over std, in float.

    Args:
        pixels: (B, C, [T,] H, W), uint8, or float in 0..1, on the device of the computation: uint8 is a quarter of
            the bytes to copy there.
        mean: One value per channel.
        std: One value per channel.
    """
    shape = (1, -1, *[1] * (pixels.ndim - 2))
    mean, std = (torch.as_tensor(values, device=pixels.device).view(shape) for values in (mean, std))
    return (unit_range(pixels) - mean) / std
