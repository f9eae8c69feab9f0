"""Clustering-constrained attention (CLAM; Lu et al., Nature Biomedical Engineering 2021), single- and multi-branch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..finetune.losses import known_mean
from .abmil import AttentionScores, attended
from .aggregator import Aggregated, Aggregator, Criterion, embedding


class Clam(Aggregator):
    """Gated attention with instance classifiers that learn to separate the most from the least attended instances.

    The single branch shares one attention map between the classes, the multi-branch one has a map and a classifier per
    class. The instance classifier of a class gives one logit, the margin between the paper's two.

    Args:
        width: Features D of an instance.
        classes: Logits C.
        hidden: Width that instances are embedded to (512 in the paper); 0 for none.
        attention: Width of the attention's hidden layer (256 in the paper).
        branches: One attention map per class.
        dropout: Rate of dropout on the embedding and the attention's hidden layer (0.25 in the paper).
        top: Instances B of each kind that the instance loss looks at; at most half of a bag.
        instance_loss: `svm` (smooth top-1, temperature 1, margin 1) or `ce`.
        instance_weight: Share of the instance loss (0.3 in the paper).
    """

    def __init__(
        self, width: int, classes: int, hidden: int = 512, attention: int = 256, branches: bool = False,
        dropout: float = 0.25, top: int = 8, instance_loss: str = "svm", instance_weight: float = 0.3,
    ):  # fmt: skip
        super().__init__()
        self.branches, self.top, self.instance_weight = branches, top, instance_weight
        self.margin = 1.0 if instance_loss == "svm" else 0.0
        self.embed = embedding(width, hidden, dropout)
        width = hidden or width
        self.attention = AttentionScores(width, attention, classes if branches else 1, dropout=dropout)
        self.heads = nn.Parameter(torch.empty(classes, width))
        self.bias = nn.Parameter(torch.zeros(classes))
        nn.init.xavier_normal_(self.heads)
        self.instances = nn.Linear(width, classes)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Aggregated:
        pooled, attention, logits = attended(features, mask, self.embed, self.attention, self.instances)
        return Aggregated((pooled * self.heads).sum(dim=2) + self.bias, attention, logits, pooled)

    def loss(self, out: Aggregated, target: Tensor, mask: Tensor | None, criterion: Criterion) -> Tensor:
        """Return the weighted sum of bag loss and instance-clustering loss."""
        bags = criterion(out.logits, target)
        return (1 - self.instance_weight) * bags + self.instance_weight * self.clustering_loss(out, target, mask)

    def clustering_loss(self, out: Aggregated, target: Tensor, mask: Tensor | None) -> Tensor:
        """Return the mean loss of the instances that are taken as examples of a class or of its absence.

        In a bag with the class, the most attended instances are examples and the least attended ones are not; in a bag
        without it the most attended are not (the paper's rule for exclusive classes, and for normal against tumour).
        """
        assert out.instance_logits is not None and out.attention is not None, "CLAM has both"
        batch, count, classes = out.instance_logits.shape
        top = min(self.top, count)
        sizes = torch.full((batch,), count, device=target.device) if mask is None else mask.sum(dim=1)
        real = torch.arange(top, device=target.device) < (sizes // 2).clamp(1, top)[:, None]  # (B, top)
        attention = out.attention.detach().expand(-1, classes, -1)
        most = self._ranked(attention, out.instance_logits, mask, top)
        least = self._ranked(-attention, out.instance_logits, mask, top)
        positive, known = target == 1, ~target.isnan()
        sign = torch.where(positive, 1.0, -1.0)[:, :, None]
        losses = torch.cat([F.softplus(self.margin - sign * most), F.softplus(self.margin + least)], dim=2)
        # A lone instance is the most attended one only.
        lowest = positive[:, :, None] & (real & (sizes > 1)[:, None])[:, None]
        used = torch.cat([known[:, :, None] & real[:, None], lowest], dim=2)
        return known_mean(losses * used, used)

    @staticmethod
    def _ranked(attention: Tensor, logits: Tensor, mask: Tensor | None, top: int) -> Tensor:
        """Return (B, C, top) logits of the instances that come first."""
        if mask is not None:
            attention = attention.masked_fill(~mask[:, None], -torch.inf)
        return logits.transpose(1, 2).gather(2, attention.topk(top, dim=2).indices).float()
