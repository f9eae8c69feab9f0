"""TransMIL (Shao et al., NeurIPS 2021): two layers of Nystrom attention, a position generator between them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .aggregator import Aggregated, Aggregator, Embedding, compute_type, in_type
from .nystrom import NystromLayer, in_pieces, neighbours

# Tokens that are computed at once, and in one piece of more.
WHOLE, CHUNK = 12_288, 4096


class PyramidPositions(nn.Module):
    """Pyramid position encoding generator: tokens on a square, plus depthwise convolutions of 7, 5 and 3 (section 3.3).

    Convolutions add up: the three and the identity are one with a 7 x 7 kernel.
    """

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2, groups=width) for k in (7, 5, 3))

    def forward(self, bands: Sequence[Tensor], side: int) -> list[Tensor]:
        """Return bands of rows (B, rows * side, W) of a square with positions added.

        Each band but the last has 3 rows or more.
        """
        parts = zip(bands, *neighbours(bands, 3 * side))
        return [in_pieces(bands, self._band, *part, side) for part in parts]

    def _band(self, x: Tensor, above: Tensor, below: Tensor, side: int) -> Tensor:
        layers: list[Any] = list(self.layers)
        weight: Any = sum(F.pad(layer.weight, [3 - layer.padding[0]] * 4) for layer in layers)
        weight = weight + F.pad(torch.ones_like(weight[..., :1, :1]), [3] * 4)
        bias: Any = sum(layer.bias for layer in layers)
        rows = torch.cat([above, x, below], dim=1).transpose(1, 2).unflatten(2, (-1, side))
        out = F.conv2d(rows, weight, bias, padding=3, groups=len(weight)).flatten(2).transpose(1, 2)
        return out[:, above.shape[1] : above.shape[1] + x.shape[1]]


class TransMil(Aggregator):
    """Tiles attend to each other; the class token is the bag. The order of the tiles matters: it makes the square.

    Bags are computed without their padding, those of one size together, so a batch gives what each bag gives alone.

    Args:
        width: Features D of an instance.
        classes: Logits C.
        hidden: Width of the tokens (512 in the paper), a multiple of 8.
        dropout: Rate of dropout on the embedding and the attention's output (0.1 in the paper's code).
    """

    def __init__(self, width: int, classes: int, hidden: int = 512, dropout: float = 0.1):
        super().__init__()
        self.embed = Embedding(width, hidden, dropout)
        self.cls_token = nn.Parameter(torch.randn(1, 1, hidden))
        self.layer1 = NystromLayer(hidden, landmarks=hidden // 2, dropout=dropout)
        self.positions = PyramidPositions(hidden)
        self.layer2 = NystromLayer(hidden, landmarks=hidden // 2, dropout=dropout)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Aggregated:
        if mask is None:
            logits, attention = self._bags(features)
            return Aggregated(logits, None if attention is None else attention[:, None])
        counts = mask.sum(dim=1)
        indices, scored, maps = [], [], []
        for count in counts.unique().tolist():
            rows = (counts == count).nonzero().squeeze(1)
            columns = mask[rows].nonzero()[:, 1].view(len(rows), count)
            scores, attention = self._bags(features[rows[:, None], columns])
            indices.append(rows)
            scored.append(scores)
            if attention is not None:
                maps.append(attention.new_zeros(len(rows), mask.shape[1]).scatter(1, columns, attention)[:, None])
        order = torch.cat(indices).argsort()
        return Aggregated(torch.cat(scored)[order], torch.cat(maps)[order] if maps else None)

    def _bags(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (B, C) logits of (B, N, D) bags, and outside of training the (B, N) attention of the class token."""
        count, dtype = features.shape[1], compute_type(self)
        side = math.isqrt(count - 1) + 1
        bands = _bands(features, side)
        x = [in_pieces(bands, lambda band: self.embed(in_type(band, dtype)), band) for band in bands]
        x, _ = self.layer1([self.cls_token.expand(len(features), -1, -1).to(x[0].dtype), *x])
        (x,), attention = self.layer2([x[0], *self.positions(x[1:], side)], first=True)
        logits = self.head(self.norm(x[:, 0]))
        return logits, None if attention is None else self._on_instances(attention, count)

    @staticmethod
    def _on_instances(attention: Tensor, count: int) -> Tensor:
        """Return the weights of the instances alone, of those of (class token, instances, repeated ones)."""
        weights, repeated = attention[:, 1 : 1 + count], attention[:, 1 + count :]
        weights = weights + F.pad(repeated, (0, count - repeated.shape[1]))
        total = weights.sum(dim=1, keepdim=True)
        return torch.where(total > 0, weights / total.clamp(min=1e-12), torch.full_like(weights, 1 / count))


def _bands(features: Tensor, side: int) -> list[Tensor]:
    """Return the instances (B, N, D) in bands of a square's rows; the first ones are repeated at its end."""
    count = features.shape[1]
    rows = side if side * side <= WHOLE else max(3, CHUNK // side)
    *bands, last = features.split(rows * side, dim=1)
    with torch.autocast(features.device.type, enabled=False):
        return [*bands, torch.cat([last, features[:, : side * side - count]], dim=1)]
