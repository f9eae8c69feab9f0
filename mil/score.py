"""From what an aggregator says to the scores of bags and instances."""

import torch
from torch import Tensor

from .aggregator import Aggregated
from .dsmil import max_stream


def bag_logits(out: Aggregated, mask: Tensor | None, score: str) -> Tensor:
    """Return the (B, C) logits that a bag is judged by: its own, or (`average`) the mean of both streams of DSMIL."""
    return (out.logits + max_stream(out, mask)) / 2 if score == "average" else out.logits


def instance_scores(out: Aggregated, probability: Tensor, localise: str) -> Tensor:
    """Return (B, N, C) scores in 0..1 of every instance, for localisation.

    Args:
        out: What the aggregator returned in eval mode.
        probability: (B, C) of the bags.
        localise: `instance` is the sigmoid of the instance's own logit. `attention` is its attention over the largest
            of the bag, times the bag's probability, so that a healthy bag has no hot instance.
    """
    if localise == "instance":
        assert out.instance_logits is not None, "of an aggregator that has them"
        return out.instance_logits.float().sigmoid()
    assert out.attention is not None, "in eval mode there is one"
    largest = out.attention.amax(dim=2, keepdim=True).clamp(min=torch.finfo(out.attention.dtype).tiny)
    return (out.attention / largest * probability[:, :, None]).transpose(1, 2)
