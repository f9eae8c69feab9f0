"""A network that answers as a device of few bits would: inputs and weights of linear layers rounded to levels."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .ranges import Levels, levels_between


@contextmanager
def rounded(network: nn.Module, levels: Mapping[str, Levels], bits: int) -> Iterator[None]:
    """Round what linear layers see, and their weights, while the block runs; sums stay in floating point.

    Weights have a range for each output channel, from the least to the largest, as in RepQ-ViT.

    Args:
        network: In eval mode.
        levels: Of what each layer sees, by its name; other layers stay as they are.
        bits: Of inputs and weights.
    """
    parts = dict(network.named_modules())
    kept = {name: parts[name].weight.detach().clone() for name in levels}
    handles = [parts[name].register_forward_pre_hook(_rounding(own, bits)) for name, own in levels.items()]
    try:
        with torch.no_grad():
            for name, weight in kept.items():
                parts[name].weight.copy_(_rounded_weight(weight, bits))
        yield
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for name, weight in kept.items():
                parts[name].weight.copy_(weight)


def _rounding(levels: Levels, bits: int) -> Callable:
    return lambda _, inputs: torch.from_numpy(levels.restored(inputs[0].detach().numpy(), bits)).to(inputs[0].dtype)


def _rounded_weight(weight: Tensor, bits: int) -> Tensor:
    values = weight.double().numpy()
    return torch.from_numpy(levels_between(values.min(axis=1), values.max(axis=1), bits).restored(values.T, bits).T)
