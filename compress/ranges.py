"""Ranges of activations and the levels between: uniform, and log-sqrt2 for attention weights (RepQ-ViT, ICCV 2023).

A range is chosen on calibration images, of three percentiles the one that loses least. Formulas: Li et al. 2023,
"RepQ-ViT: Scale Reparameterization for Post-Training Quantization of Vision Transformers", sections 3.1 and 3.3.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

PERCENTILES = (0.999, 0.9999, 0.99999)
IMAGES = 32  # that ranges are chosen on
_MOST_VALUES = 2**27  # activations that are kept at once, 0.5 GB


class Levels(NamedTuple):
    """Uniform levels: x is kept as q = clamp(round(x / scale) + zero, 0, 2^bits - 1).

    Attributes:
        scale: Distance between two levels, above 0; an array of one value per channel, or a number.
        zero: The level of x = 0, in 0..2^bits - 1.
    """

    scale: np.ndarray
    zero: np.ndarray

    def restored(self, x: np.ndarray, bits: int = 8) -> np.ndarray:
        """Return what is left of (..., C) values in `bits` bits."""
        stored = np.clip(np.rint(x / self.scale) + self.zero, 0, 2**bits - 1)
        return (stored - self.zero) * self.scale


def levels_between(low: np.ndarray, high: np.ndarray, bits: int = 8) -> Levels:
    """Return the levels of a range, or of one per channel, widened to include 0."""
    low, high = np.minimum(np.asarray(low, np.float64), 0), np.maximum(np.asarray(high, np.float64), 0)
    scale = np.maximum((high - low) / (2**bits - 1), 1e-12)
    return Levels(scale, np.rint(-low / scale))


def best_levels(values: np.ndarray, bits: int = 8) -> Levels:
    """Return the levels of all values (any shape) between the percentiles that lose least in the mean of squares."""
    found = best_channel_levels(np.reshape(values, (-1, 1)), bits)
    return Levels(found.scale[0], found.zero[0])


def best_channel_levels(values: np.ndarray, bits: int = 8) -> Levels:
    """Return the levels of each channel of (N, C) values, likewise: scales and zeros (C,)."""
    shares = np.quantile(values, [*(1 - share for share in PERCENTILES), *PERCENTILES], axis=0)
    tried = [
        levels_between(low, high, bits) for low, high in zip(shares[: len(PERCENTILES)], shares[len(PERCENTILES) :])
    ]
    losses = [np.square(values - levels.restored(values, bits)).mean(axis=0) for levels in tried]
    best, channels = np.argmin(losses, axis=0), np.arange(values.shape[1])
    scales, zeros = (np.array([getattr(levels, name) for levels in tried]) for name in ("scale", "zero"))
    return Levels(scales[best, channels], zeros[best, channels])


def log_sqrt2(x: np.ndarray, scale: float = 1.0, bits: int = 8) -> np.ndarray:
    """Return what is left of attention weights at least 0, stored as powers of the square root of 2.

    q = clamp(round(-2 log2(x / scale)), 0, 2^bits - 1); x' = scale 2^-ceil(q / 2) (1 + (sqrt 2 - 1) (q mod 2)). What is
    smaller than the last level is 0.
    """
    with np.errstate(divide="ignore"):
        stored = np.rint(-2 * np.log2(np.asarray(x, np.float64) / scale))
    beyond = stored > 2**bits - 1
    stored = np.clip(stored, 0, 2**bits - 1)
    return np.where(beyond, 0.0, scale * 2.0 ** -np.ceil(stored / 2) * (1 + (np.sqrt(2) - 1) * (stored % 2)))


def weight_levels(weight: Tensor, bits: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return the int8 weights (out, in) of a matmul and their scales (out,): symmetric, a range per output channel."""
    values = weight.detach().cpu().double().numpy()
    most = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(values).max(axis=1), 1e-12) / most
    return np.clip(np.rint(values / scale[:, None]), -most, most).astype(np.int8), scale


def matmuls(network: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers of a network by name, but for the last one, which gives the scores."""
    found = {name: part for name, part in network.named_modules() if isinstance(part, nn.Linear)}
    return dict(list(found.items())[:-1])


@torch.inference_mode()
def seen_by_layers(network: nn.Module, pixels: Tensor, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what linear layers see of calibration images: name and (N, C) inputs, in few passes over the images.

    Args:
        network: In eval mode.
        pixels: (B, C, [T,] H, W) normalised.
        names: Of the layers.
    """
    parts, sizes = dict(network.named_modules()), {}

    def measure(name: str) -> Callable:
        return lambda _, inputs: sizes.__setitem__(name, inputs[0].numel() * len(pixels))

    names = list(names)
    with _hooked({parts[name]: measure(name) for name in names}):
        network(pixels[:1])
    group: list[str] = []
    for place, name in enumerate(names):
        group.append(name)
        full = sum(sizes[each] for each in group) + sizes.get(names[min(place + 1, len(names) - 1)], 0)
        if full > _MOST_VALUES or place == len(names) - 1:
            yield from _inputs(network, pixels, group)
            group = []


def _inputs(network: nn.Module, pixels: Tensor, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    parts = dict(network.named_modules())
    seen: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def keep(name: str) -> Callable:
        return lambda _, inputs: seen[name].append(inputs[0].flatten(0, -2).float().cpu().numpy())

    with _hooked({parts[name]: keep(name) for name in seen}):
        for image in pixels.split(8):
            network(image)
    for name in list(seen):
        yield name, np.concatenate(seen.pop(name))


@contextmanager
def _hooked(hooks: dict[nn.Module, Callable]) -> Iterator[None]:
    handles = [part.register_forward_pre_hook(hook) for part, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
