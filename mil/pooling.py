"""Mean and max pooling: the two plain aggregators that every other one has to beat."""

import torch
from torch import Tensor, nn

from .aggregator import Aggregated, Aggregator, at_instances, compute_type, critical_instances, each_instance, embedding


class _InstanceClassifier(Aggregator):
    """A linear classifier of every (embedded) instance.

    Args:
        width: Features D of an instance.
        classes: Logits C.
        hidden: Width that instances are embedded to first; 0 for none.
        dropout: Rate of dropout on the instances' (embedded) features.
    """

    localise = "instance"

    def __init__(self, width: int, classes: int, hidden: int = 0, dropout: float = 0.0):
        super().__init__()
        self.embed = embedding(width, hidden, dropout)
        self.head = nn.Linear(hidden or width, classes)

    def instance_logits(self, features: Tensor) -> Tensor:
        """Return (B, N, C) logits."""
        return each_instance(lambda x: self.head(self.embed(x)), features, compute_type(self))


class MeanPooling(_InstanceClassifier):
    """The mean of the instances' logits, which is the logit of their mean."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Aggregated:
        logits = self.instance_logits(features)
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        attention = (mask / mask.sum(dim=1, keepdim=True)).to(logits.dtype)[:, None]
        return Aggregated((attention @ logits).squeeze(1), attention, logits)


class MaxPooling(_InstanceClassifier):
    """The largest logit among the instances, per class; it has all the attention."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Aggregated:
        logits = self.instance_logits(features)
        critical = critical_instances(logits, mask)
        attention = torch.zeros_like(logits).scatter(1, critical[:, None], 1.0).transpose(1, 2)
        return Aggregated(at_instances(logits, critical), attention, logits)
