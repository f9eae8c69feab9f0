"""The dual-stream aggregator (DSMIL; Li, Li and Eliceiri, CVPR 2021), in the two generations of its code.

`dsmil`: today's (nonlinear query, no value layer). `self_vit_mil`: the one that Self-ViT-MIL (Gul et al. 2022) builds
on (linear query, linear value). Parameter names are those of the official files.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .aggregator import (
    CHUNK,
    Aggregated,
    Aggregator,
    Criterion,
    Embedding,
    at_instances,
    at_once,
    compute_type,
    critical_instances,
    each_instance,
    in_type,
    masked_softmax,
    recomputed,
)


class DualStream(Aggregator):
    """Max pooling over instance logits, and attention of every instance to the critical one of each class.

    Args:
        width: Features D of an instance.
        classes: Logits C.
        hidden: Width that instances are embedded to first; 0 for none, as in the paper.
        attention: Width of the query (128 in the paper).
        linear: The older generation: query and value are linear layers.
        dropout: Rate of dropout on the features before they are pooled.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        hidden: int = 0,
        attention: int = 128,
        linear: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        # Without the nonlinear query, attention is likeness to the critical instance and little else.
        self.localise = "instance" if linear else "attention"
        self.embed = Embedding(width, hidden, 0.0) if hidden else None
        width = hidden or width
        self.i_classifier = nn.ModuleDict({"fc": nn.Sequential(nn.Linear(width, classes))})
        query: nn.Module = nn.Linear(width, attention)
        if not linear:
            query = nn.Sequential(query, nn.ReLU(), nn.Linear(attention, attention), nn.Tanh())
        value = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, width) if linear else nn.Identity())
        self.b_classifier = nn.ModuleDict({"q": query, "v": value, "fcc": nn.Conv1d(classes, classes, width)})

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Aggregated:
        dtype = compute_type(self)
        x = in_type(features, dtype) if at_once(features) else features
        if self.embed is not None:
            x = each_instance(self.embed, x, dtype)
        instance_logits = each_instance(self.i_classifier["fc"], x, dtype)
        critical = critical_instances(instance_logits, mask)
        query = each_instance(self.b_classifier["q"], x, dtype)
        # Asked for by themselves: as rows of `query`, their gradient would be as large as that of all instances.
        asked = self.b_classifier["q"](x.gather(1, critical[:, :, None].expand(-1, -1, x.shape[-1])).to(dtype))
        # The instances first: the gradient then comes in the layout of `query`.
        scores = (query @ asked.transpose(1, 2)).transpose(1, 2)
        attention = masked_softmax(scores / math.sqrt(query.shape[-1]), mask)
        # The value layer is linear and the weights of a bag sum to 1: it acts alike on the pooled features, where it
        # costs one matmul per class instead of one per instance.
        layers: Any = self.b_classifier["v"]
        dropout, value = layers
        bags = value(weighted_sum(attention, x, dropout, dtype))
        return Aggregated(self.b_classifier["fcc"](bags).squeeze(2), attention, instance_logits, bags)

    def loss(self, out: Aggregated, target: Tensor, mask: Tensor | None, criterion: Criterion) -> Tensor:
        """Return the mean loss of the two streams."""
        return 0.5 * criterion(out.logits, target) + 0.5 * criterion(max_stream(out, mask), target)


def weighted_sum(attention: Tensor, x: Tensor, dropout: nn.Module, dtype: torch.dtype) -> Tensor:
    """Return (B, A, D) of (B, A, N) weights and (B, N, D) instances, in `dtype`.

    Large bags are converted chunk by chunk.
    """

    def chunk(weights: Tensor, part: Tensor) -> Tensor:
        return weights.to(dtype) @ dropout(in_type(part, dtype))

    if at_once(x):
        return chunk(attention, x)
    return sum(recomputed(chunk, *pair) for pair in zip(attention.split(CHUNK, dim=2), x.split(CHUNK, dim=1)))


def max_stream(out: Aggregated, mask: Tensor | None) -> Tensor:
    """Return the (B, C) logits of the first stream: those of the critical instances."""
    assert out.instance_logits is not None, "DSMIL has them"
    return at_instances(out.instance_logits, critical_instances(out.instance_logits, mask))
