"""Which linear layers a network's answers depend on most: measured, or by relevance (LRP-QViT, Ranjan & Savakis)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import UserError
from .lrp import layer_relevance
from .ranges import Levels, weight_levels

METHODS = ("measured", "relevance")


def layer_sensitivity(
    network: nn.Module, pixels: Tensor, levels: Mapping[str, Levels], method: str = "measured"
) -> dict[str, float]:
    """Return how sensitive the answers are to each layer in int8, the most sensitive first.

    Args:
        network: A classifier, in eval mode.
        pixels: (B, C, [T,] H, W) normalised calibration images.
        levels: Of the inputs of linear layers, by name.
        method: `measured`, the mean square by which the logits change where this layer alone is in int8; `relevance`,
            its share of the relevance (`lrp`), for which nothing need be tried.

    Raises:
        UserError: An unknown method, or relevance of a network that has no rules for it.
    """
    if method not in METHODS:
        raise UserError(f"--sensitivity {method!r}: one of {', '.join(METHODS)}.")
    if method == "relevance":
        found = layer_relevance(network, pixels, levels)
    else:
        with torch.inference_mode():
            exact = network(pixels)
            found = {name: _loss(network, pixels, exact, name, own) for name, own in levels.items()}
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _loss(network: nn.Module, pixels: Tensor, exact: Tensor, name: str, levels: Levels) -> float:
    with in_int8(network, {name: levels}):
        return float((network(pixels) - exact).double().square().mean())


@contextmanager
def in_int8(network: nn.Module, levels: Mapping[str, Levels]) -> Iterator[None]:
    """Let linear layers compute as in int8, in floating point, while the block runs.

    Args:
        network: Their network.
        levels: Of their inputs, by name.
    """
    parts, handles, kept = dict(network.named_modules()), [], {}
    try:
        for name, own in levels.items():
            linear = parts[name]
            assert isinstance(linear, nn.Linear)
            handles.append(linear.register_forward_pre_hook(_rounding(own)))
            kept[name], (stored, scale) = linear.weight.data, weight_levels(linear.weight)
            restored = torch.from_numpy(stored * scale[:, None].astype(np.float64))
            linear.weight.data = restored.to(linear.weight)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, weight in kept.items():
            parts[name].weight.data = weight


def _rounding(levels: Levels):
    scale, zero = float(levels.scale), float(levels.zero)

    def rounded(_, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        stored = torch.clamp(torch.round(inputs[0] / scale) + zero, 0, 255)
        return ((stored - zero) * scale, *inputs[1:])

    return rounded
