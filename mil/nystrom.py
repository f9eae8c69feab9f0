"""Self-attention over any number of tokens: exact for few, by the Nystrom method for many (Xiong et al., AAAI 2021).

Landmarks are means of equal runs of tokens, so no token is padded and a bag's result does not depend on its batch. (The
first code of TransMIL pads with zero tokens up to a multiple of the landmarks, and those take part in the softmax.)
Tokens come in pieces, so that the memory of many is that of the tokens and of one piece's scores.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .aggregator import recomputed

ITERATIONS = 6
KERNEL = 33


class NystromLayer(nn.Module):
    """x + attention(norm(x)), with a depthwise convolution over the values beside the attention (as in TransMIL).

    Args:
        width: Width of a token.
        heads: Attention heads.
        landmarks: Number m of tokens that represent all; attention over up to m tokens is exact.
        dropout: Rate of dropout on the attention's output.
    """

    def __init__(self, width: int, heads: int = 8, landmarks: int = 256, dropout: float = 0.0):
        super().__init__()
        self.heads, self.landmarks, self.scale = heads, landmarks, 1 / math.sqrt(width // heads)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.beside = nn.Conv2d(heads, heads, (KERNEL, 1), padding=(KERNEL // 2, 0), groups=heads, bias=False)

    def forward(self, pieces: Sequence[Tensor], first: bool = False) -> tuple[list[Tensor], Tensor | None]:
        """Return tokens of tokens, both in consecutive pieces (B, t, W); all tokens are real.

        Args:
            pieces: The tokens. Of more than two pieces the inside is computed again in the backward pass.
            first: Only the first token is wanted, and (without gradient) what it attends to.

        Returns:
            The pieces, or only the first token (B, 1, W); and with `first` outside of training (B, T) weights that sum
            to 1, the mean over the heads.
        """
        exact = sum(piece.shape[1] for piece in pieces) <= self.landmarks
        return (self._exact if exact else self._nystrom)(pieces, first, first and not self.training)

    def _exact(self, pieces: Sequence[Tensor], first: bool, seen: bool) -> tuple[list[Tensor], Tensor | None]:
        x = torch.cat(list(pieces), dim=1)
        q, k, v = self._projected(x, "qkv")
        wanted = 1 if first else x.shape[1]
        weights = (q[:, :, :wanted] @ k.transpose(2, 3) * self.scale).softmax(dim=3)
        out = x[:, :wanted] + self._joined(weights @ v + self.beside(v)[:, :, :wanted])
        attention = weights[:, :, 0].mean(dim=1).detach() if seen else None
        return [out] if first else list(out.split([piece.shape[1] for piece in pieces], dim=1)), attention

    def _nystrom(self, pieces: Sequence[Tensor], first: bool, seen: bool) -> tuple[list[Tensor], Tensor | None]:
        q, k = self._landmarks(pieces)
        inverse = pseudo_inverse((q @ k.transpose(2, 3) * self.scale).softmax(dim=3))
        logs, means = zip(*[in_pieces(pieces, self._summed_up, q, piece) for piece in pieces])
        sizes = torch.stack(logs)  # (pieces, B, heads, m): the log of each softmax's denominator
        mixed = inverse @ (sizes.softmax(dim=0)[..., None] * torch.stack(means)).sum(dim=0)
        parts = list(zip(pieces, *neighbours(pieces, KERNEL // 2)))
        if first:
            x, before, after = parts[0]
            after = torch.cat([x[:, 1:], after], dim=1)[:, : KERNEL // 2]
            out = [self._output(k, mixed, x[:, :1], before, after)]
            return out, self._first_attends(pieces, q, k, inverse, sizes.logsumexp(dim=0)) if seen else None
        return [in_pieces(pieces, self._output, k, mixed, *part) for part in parts], None

    def _landmarks(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return queries and keys (B, heads, m, d) of the landmarks: means over the tokens of each landmark."""
        lengths = [piece.shape[1] for piece in pieces]
        segment = torch.arange(sum(lengths), device=pieces[0].device) * self.landmarks // sum(lengths)
        parts = zip(pieces, segment.split(lengths))
        means = sum(in_pieces(pieces, self._segment_sums, *part) for part in parts)
        means = means / segment.bincount(minlength=self.landmarks)[:, None]
        w_q, w_k, _ = self.qkv.weight.chunk(3)
        return self._headed(F.linear(means, w_q)).float(), self._headed(F.linear(means, w_k)).float()

    def _segment_sums(self, x: Tensor, segment: Tensor) -> Tensor:
        tokens = self.norm(x)
        return tokens.new_zeros(len(x), self.landmarks, x.shape[2]).index_add(1, segment, tokens)

    def _summed_up(self, q: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the landmarks read in some tokens: log of the sum of weights, and weighted mean of the values."""
        k, v = self._projected(x, "kv")
        scores = (q * self.scale) @ k.float().transpose(2, 3)
        largest = scores.detach().amax(dim=3, keepdim=True)
        weights = (scores - largest).exp()
        total = weights.sum(dim=3, keepdim=True)
        return (largest + total.log()).squeeze(3), weights @ v.float() / total

    def _output(self, k: Tensor, mixed: Tensor, x: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Return some tokens after the layer; `before` and `after` are their neighbours, for the convolution."""
        (q,) = self._projected(x, "q")
        (v,) = self._projected(torch.cat([before, x, after], dim=1), "v")
        attended = ((q.float() * self.scale) @ k.transpose(2, 3)).softmax(dim=3) @ mixed
        beside = self.beside(v)[:, :, before.shape[1] : before.shape[1] + x.shape[1]]
        return x + self._joined(attended + beside)

    @torch.no_grad()
    def _first_attends(self, pieces, q: Tensor, k: Tensor, inverse: Tensor, sizes: Tensor) -> Tensor:
        """Return (B, T) weights of the first token; negative ones of the approximation become 0."""
        (own,) = self._projected(pieces[0][:, :1], "q")
        row = (own.float() @ k.transpose(2, 3) * self.scale).softmax(dim=3) @ inverse  # (B, heads, 1, m)
        parts = []
        for piece in pieces:
            (keys,) = self._projected(piece, "k")
            shares = ((q @ keys.float().transpose(2, 3)) * self.scale - sizes[..., None]).exp()
            parts.append((row @ shares).squeeze(2).mean(dim=1).clamp(min=0))
        weights = torch.cat(parts, dim=1)
        return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)

    def _projected(self, x: Tensor, names: str) -> list[Tensor]:
        """Return queries, keys, values (B, heads, T, d) of tokens, as asked."""
        weights = dict(zip("qkv", self.qkv.weight.chunk(3)))
        x = self.norm(x)
        return [self._headed(F.linear(x, weights[name])) for name in names]

    def _headed(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _joined(self, x: Tensor) -> Tensor:
        return self.out(x.transpose(1, 2).flatten(2))


def in_pieces(pieces: Sequence[Tensor], function: Callable, *inputs: Any) -> Any:
    """Return `function(*inputs)` of one piece; of many pieces, nothing inside is kept for the backward pass."""
    return recomputed(function, *inputs) if len(pieces) > 2 else function(*inputs)


def neighbours(pieces: Sequence[Tensor], reach: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return, for every piece, up to `reach` tokens of the pieces before and after it; none at the ends."""
    before = [pieces[0][:, :0], *[piece[:, -reach:] for piece in pieces[:-1]]]
    return before, [*[piece[:, :reach] for piece in pieces[1:]], pieces[-1][:, :0]]


def pseudo_inverse(a: Tensor) -> Tensor:
    """Return the Moore-Penrose inverse of (..., m, m) by iteration (Xiong et al., equation 11)."""
    with torch.autocast(a.device.type, enabled=False):
        a = a.float()
        eye = torch.eye(a.shape[-1], device=a.device)
        largest = a.abs().sum(dim=-1).amax(dim=-1) * a.abs().sum(dim=-2).amax(dim=-1)
        z = a.transpose(-1, -2) / largest[..., None, None]
        for _ in range(ITERATIONS):
            az = a @ z
            z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
        return z
