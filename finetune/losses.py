"""Losses that leave unknown labels out, the same over one process or many."""

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from ..engine.launcher import connected


def masked_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Return binary cross-entropy, mean over the known labels.

    Args:
        logits: (B, L).
        targets: (B, L) in 0..1, NaN = unknown.
    """
    known = ~targets.isnan()
    each = F.binary_cross_entropy_with_logits(logits.float(), targets.nan_to_num(), reduction="none")
    return known_mean(each * known, known)


def masked_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of exclusive classes, mean over the cases whose class is known.

    Args:
        logits: (B, L).
        targets: (B, L) class probabilities (one-hot or mixed); a row with a NaN is unknown.
    """
    known = ~targets.isnan().any(dim=1)
    each = -(targets.nan_to_num() * logits.float().log_softmax(dim=1)).sum(dim=1)
    return known_mean(each * known, known)


def known_mean(values: Tensor, known: Tensor) -> Tensor:
    """Return the sum over the known values by their mean number per process: averaged gradients are exact.

    Args:
        values: The unknown ones are 0.
        known: Which are known, bool of the same shape.
    """
    count = known.sum().to(values.dtype)
    if connected():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return values.sum() / count.clamp(min=torch.finfo(values.dtype).tiny)
