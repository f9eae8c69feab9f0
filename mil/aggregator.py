"""What all aggregators share: the interface, masks, and instance-wise layers that are computed in chunks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# Bags of more instances than `WHOLE` are computed in chunks whose inside is computed again in the backward pass, so
# that 100,000 instances need the memory of their inputs, not of every hidden layer. Smaller ones are quicker without.
WHOLE, CHUNK = 32_768, 8192
Criterion = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Aggregated:
    """What an aggregator says of B bags of N instances.

    Attributes:
        logits: (B, C) of the bags.
        attention: (B, A, N) weights, summing to 1 over the instances of a bag, 0 at padding; A is the number of
            classes C, or 1 where all classes share it. None from TransMIL while training, where nothing needs it.
        instance_logits: (B, N, C) of the instances, meaningless at padding; None where the method has none.
        pooled: (B, A, W) what the classifier sees of the bags; None where it sees no weighted mean of the instances.
    """

    logits: Tensor
    attention: Tensor | None
    instance_logits: Tensor | None = None
    pooled: Tensor | None = None


class Aggregator(nn.Module):
    """Base: `forward(features (B, N, D), mask (B, N) or None)` gives `Aggregated`.

    `mask` is True at instances, False at padding (whose features are finite); every bag has an instance. Features may
    be of any floating type.

    Attributes:
        localise: What hashes an instance on a heat map: `attention` or `instance` (see `score.instance_scores`).
    """

    localise = "attention"

    def loss(self, out: Aggregated, target: Tensor, mask: Tensor | None, criterion: Criterion) -> Tensor:
        """Return the method's loss.

        Args:
            out: What `forward` returned.
            target: (B, C) of 0, 1 and NaN (unknown).
            mask: (B, N) or None, as given to `forward`.
            criterion: Loss of (B, C) logits against the target.
        """
        return criterion(out.logits, target)


class Standardised(Aggregator):
    """An aggregator of features that are standardised first, by the instances of the training bags.

    Args:
        inner: The aggregator.
        width: Features D of an instance.
    """

    def __init__(self, inner: Aggregator, width: int):
        super().__init__()
        self.inner, self.localise = inner, inner.localise
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def fit(self, bags: Iterable[np.ndarray]) -> None:
        """Take mean and standard deviation of the instances of these bags (n, D), each bag counting alike."""
        moments = [(bag.mean(0, dtype=np.float64), np.square(bag, dtype=np.float64).mean(0)) for bag in bags]
        mean, square = (np.mean(part, axis=0) for part in zip(*moments))
        self.mean = torch.from_numpy(mean).float()
        self.std = torch.from_numpy(np.sqrt((square - mean**2).clip(0)).clip(1e-6)).float()

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Aggregated:
        return self.inner((features - self.mean) / self.std, mask)

    def loss(self, out: Aggregated, target: Tensor, mask: Tensor | None, criterion: Criterion) -> Tensor:
        """Return the loss of the aggregator."""
        return self.inner.loss(out, target, mask, criterion)


class Embedding(nn.Sequential):
    """Linear layer, ReLU and dropout on every instance."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout))


def embedding(width: int, hidden: int, dropout: float) -> nn.Module:
    """Return an `Embedding`, or dropout on the features themselves where `hidden` is 0."""
    return Embedding(width, hidden, dropout) if hidden else nn.Dropout(dropout)


def at_once(instances: Tensor) -> bool:
    """Return whether (B, N, D) instances are few enough to compute at once; always so in an exported graph."""
    return torch.compiler.is_exporting() or instances.shape[1] <= WHOLE


def each_instance(function: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `function` of (B, N, D) instances, computed in chunks of instances.

    Args:
        function: Acts on every instance by itself.
        x: Of any floating type; only a chunk at a time is converted.
        dtype: Type that the instances are converted to.
    """
    if at_once(x):
        return function(in_type(x, dtype))
    parts = x.split(CHUNK, dim=1)
    return torch.cat([recomputed(lambda part: function(in_type(part, dtype)), part) for part in parts], dim=1)


def recomputed(function: Callable, *inputs: Tensor):
    """Return `function(*inputs)`, computed again in the backward pass instead of kept."""
    if not torch.is_grad_enabled():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False)


def compute_type(module: nn.Module) -> torch.dtype:
    """Return the floating type of a module's matmuls: autocast's where it is on, else that of its weights."""
    weight = next(module.parameters())
    if torch.is_autocast_enabled(weight.device.type):
        return torch.get_autocast_dtype(weight.device.type)
    return weight.dtype


def in_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return features in the type of all matmuls with them: autocast would convert them for each one again."""
    # PyTorch's direct conversion takes twice the time of the one through float32 on a CPU: it is not vectorised.
    if x.dtype == torch.float16 and dtype == torch.bfloat16 and x.device.type == "cpu":
        x = x.float()
    return x.to(dtype)


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax of (B, A, N) over the instances where `mask` (B, N) is True; exactly 0 elsewhere."""
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], -torch.inf)
    return scores.float().softmax(dim=-1)


def critical_instances(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Return (B, C), the index of the instance with the largest logit of each class; logits are (B, N, C)."""
    if mask is not None:
        logits = logits.masked_fill(~mask[:, :, None], -torch.inf)
    return logits.argmax(dim=1)


def at_instances(values: Tensor, index: Tensor) -> Tensor:
    """Return (B, C), the value of class c at instance `index[b, c]`; values are (B, N, C)."""
    return values.gather(1, index[:, None]).squeeze(1)
