"""Channels of one scale after a LayerNorm: what differs between them moves into the next matmul (RepQ-ViT).

After a LayerNorm some channels are tens of times larger than others: one range for all loses most of them. The norm
divides each by its own factor and shifts it, and the next matmuls multiply it back: the same numbers in floating point,
and one range that fits all channels. Li et al. 2023, section 3.2.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from .ranges import Levels


def common_levels(levels: Levels) -> Levels:
    """Return the levels that all channels get: the means of their scales and zeros."""
    return Levels(np.mean(levels.scale), np.rint(np.mean(levels.zero)))


@torch.no_grad()
def fold_scales(norm: nn.LayerNorm, following: Sequence[nn.Linear], levels: Levels) -> Levels:
    """Give the channels after a norm one range, in place; the following matmuls give what they gave before.

    Args:
        norm: With weight and bias.
        following: All that sees what the norm gives.
        levels: Of each channel, (C,).

    Returns:
        The levels of all channels.
    """
    common = common_levels(levels)
    like = {"dtype": norm.weight.dtype, "device": norm.weight.device}
    ratio = torch.as_tensor(levels.scale / common.scale, **like)
    lowest, wanted = -levels.zero * levels.scale, -common.zero * common.scale
    shift = torch.as_tensor(lowest / (levels.scale / common.scale) - wanted, **like)
    norm.weight.div_(ratio)
    norm.bias.div_(ratio).sub_(shift)
    for linear in following:
        linear.weight.mul_(ratio)
        linear.bias.add_(linear.weight @ shift)
    return common


@torch.inference_mode()
def norm_pairs(network: nn.Module, pixels: Tensor) -> dict[str, list[str]]:
    """Return the LayerNorms of a network whose output plain linear layers see, by name, and the names of these layers.

    Only norms and layers with weights and biases count. That nothing else sees the output must be tried afterwards.

    Args:
        network: In eval mode.
        pixels: (1, C, [T,] H, W) normalised.
    """
    given: dict[int, str] = {}
    kept: list[Tensor] = []  # so that no other tensor gets the identity of one that is gone
    pairs: dict[str, list[str]] = {}

    def gave(name: str) -> Callable:
        def note(_, __, out: Tensor) -> None:
            given[id(out)] = name
            kept.append(out)

        return note

    def sees(name: str) -> Callable:
        def note(_, inputs: tuple) -> None:
            if id(inputs[0]) in given:
                pairs.setdefault(given[id(inputs[0])], []).append(name)

        return note

    handles = []
    for name, part in network.named_modules():
        if type(part) is nn.LayerNorm and part.weight is not None and part.bias is not None:
            handles.append(part.register_forward_hook(gave(name)))
        elif type(part) is nn.Linear and part.bias is not None:
            handles.append(part.register_forward_pre_hook(sees(name)))
    with _removed(handles):
        network(pixels)
    return pairs


@contextmanager
def _removed(handles: Sequence) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
