"""Attention of a ViT beyond timm's: turned queries and keys, and queries, keys and values for whoever looks at them."""

from typing import Any

import torch
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from .rotary import Turn, turned


class RotaryAttention(Attention):
    """timm's attention with rotary positions, under timm's names.

    `halves` says which channels are turned together (see `Rotary`).
    """

    halves = False

    def forward(self, x: Tensor, turn: Turn) -> Tensor:  # type: ignore[override]
        """Return (B, M, D) of tokens (B, M, D) and their turn."""
        query, key, value = query_key_value(self, self.qkv(x), turn)
        if self.fused_attn:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = ((query * self.scale) @ key.transpose(-2, -1)).softmax(dim=-1) @ value
        return self.proj_drop(self.proj(self.norm(mixed.transpose(1, 2).flatten(2))))


class KeylessLinear(nn.Linear):
    """The matmul to queries, keys and values whose keys have no bias: its middle third counts as zero.

    Turned keys would make something of it; where nothing is turned, it adds the same to all scores of a query.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.bias_mask: Tensor
        mask = torch.ones(outputs)
        mask[outputs // 3 : 2 * outputs // 3] = 0
        self.register_buffer("bias_mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, M, 3D) of (B, M, D)."""
        return F.linear(x, self.weight, self.bias * self.bias_mask)


def query_key_value(attn: nn.Module, qkv: Tensor, turn: Turn | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values (B, heads, M, d) as attention weighs them: normed and turned, not yet scaled.

    Args:
        attn: The attention of a block.
        qkv: (B, M, 3D) of its `qkv`.
        turn: Of a `RotaryAttention`.
    """
    part: Any = attn
    query, key, value = qkv.unflatten(2, (3, part.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = part.q_norm(query), part.k_norm(key)
    if turn is not None:
        query, key = turned(query, turn, part.halves), turned(key, turn, part.halves)
    return query, key, value


def attention_weights(attn: nn.Module, qkv: Tensor, turn: Turn | None = None) -> tuple[Tensor, Tensor]:
    """Return attention weights (B, heads, M, M) and values (B, heads, M, d); arguments as of `query_key_value`."""
    query, key, value = query_key_value(attn, qkv, turn)
    return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1), value
