"""Attention-based pooling (ABMIL; Ilse, Tomczak and Welling, ICML 2018), plain and gated."""

import torch
from torch import Tensor, nn

from .aggregator import (
    CHUNK,
    Aggregated,
    Aggregator,
    at_once,
    compute_type,
    embedding,
    in_type,
    masked_softmax,
    recomputed,
)

LOWEST = torch.finfo(torch.float32).min


class AttentionScores(nn.Module):
    """Unnormalised attention of every instance: w (tanh(V h) * sigmoid(U h)), equation 9, or w tanh(V h), equation 8.

    Args:
        width: Features of an instance.
        attention: Width of V and U.
        heads: Attention maps A.
        gated: Use the sigmoid gate U.
        dropout: Rate of dropout on the hidden layer.
    """

    def __init__(self, width: int, attention: int, heads: int = 1, gated: bool = True, dropout: float = 0.0):
        super().__init__()
        self.v = nn.Linear(width, attention)
        self.u = nn.Linear(width, attention) if gated else None
        self.drop = nn.Dropout(dropout)
        self.w = nn.Linear(attention, heads)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N, A) scores of (B, N, D) instances."""
        hidden = self.v(x).tanh()
        if self.u is not None:
            hidden = hidden * self.u(x).sigmoid()
        return self.w(self.drop(hidden))


class AttentionPooling(Aggregator):
    """The bag is the attention-weighted mean of its instances (equation 7), then a linear classifier.

    Args:
        width: Features D of an instance.
        classes: Logits C.
        hidden: Width that instances are embedded to first; 0 for none.
        attention: Width of the attention's hidden layer (128 in the paper).
        gated: Gated attention (equation 9).
        dropout: Rate of dropout on the instances' (embedded) features.
    """

    def __init__(
        self, width: int, classes: int, hidden: int = 0, attention: int = 128, gated: bool = True, dropout: float = 0.0
    ):
        super().__init__()
        self.embed = embedding(width, hidden, dropout)
        self.attention = AttentionScores(hidden or width, attention, gated=gated)
        self.head = nn.Linear(hidden or width, classes)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Aggregated:
        pooled, attention, _ = attended(features, mask, self.embed, self.attention)
        return Aggregated(self.head(pooled.squeeze(1)), attention, pooled=pooled)


def attended(
    features: Tensor, mask: Tensor | None, embed: nn.Module, attention: nn.Module, instances: nn.Module | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the attention-weighted means of the embedded instances.

    Of large bags the embedded instances are never held together: every chunk gives its own weighted mean and the sum of
    its weights, and these are put together.

    Args:
        features: (B, N, D) of any floating type.
        mask: (B, N), True at instances, or None.
        embed: Instances to W values.
        attention: Embedded instances to (B, N, A) scores.
        instances: Embedded instances to (B, N, C) logits, if wanted.

    Returns:
        (B, A, W) means, (B, A, N) weights, (B, N, C) logits or None.
    """
    dtype = compute_type(attention)
    if mask is None:
        mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)

    def chunk(part: Tensor, real: Tensor) -> tuple[Tensor, ...]:
        x = embed(in_type(part, dtype))
        scores = attention(x).transpose(1, 2).float().masked_fill(~real[:, None], LOWEST)
        largest = scores.detach().amax(dim=2, keepdim=True)
        weights = (scores - largest).exp()
        total = weights.sum(dim=2, keepdim=True)
        mean = (weights / total).to(x.dtype) @ x
        return scores, largest + total.log(), mean, *([instances(x)] if instances is not None else [])

    if at_once(features):
        parts = [chunk(features, mask)]
    else:
        parts = [recomputed(chunk, *pair) for pair in zip(features.split(CHUNK, dim=1), mask.split(CHUNK, dim=1))]
    scores, sizes, means, *logits = zip(*parts)
    share = torch.stack(sizes).softmax(dim=0)
    pooled = (share * torch.stack(means)).sum(dim=0).to(means[0].dtype)
    return pooled, masked_softmax(torch.cat(scores, dim=2), mask), torch.cat(logits[0], dim=1) if logits else None
