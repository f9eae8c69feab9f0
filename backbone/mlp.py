"""MLPs of which some hidden units are idle (linear), as they are trained and as they are merged (RePaViT).

Xu et al. 2025, "RePaViT: Scalable Vision Transformer Acceleration via Structural Reparameterization on Feedforward
Network Layers" (ICML). What passes no activation is linear: its two matmuls are one, from the width to the width.
"""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn


class IdleMlp(Mlp):
    """timm's MLP, under timm's names, of which the first `active` hidden units pass the activation.

    The idle ones are annealed in training: they pass act(u) + ramp * (u - act(u)), `ramp` from 0 (a plain MLP) to 1. In
    eval mode they are always linear: what is judged is what is kept.

    Args:
        width: Channels D of a token.
        hidden: Hidden units.
        active: Units that pass the activation.
        act_layer: Makes the activation.
        batch_norm: Whether a batch norm stands before the second matmul.
    """

    ramp: Tensor

    def __init__(self, width: int, hidden: int, active: int, act_layer: Any, batch_norm: bool = False):
        super().__init__(width, hidden, act_layer=act_layer, norm_layer=TokenBatchNorm if batch_norm else None)
        self.active = active
        self.annealing = False
        self.register_buffer("ramp", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n, D) of (B, n, D)."""
        hidden = self.fc1(x)
        active, idle = hidden[..., : self.active], hidden[..., self.active :]
        if self.training and self.annealing:
            idle = torch.lerp(self.act(idle), idle, self.ramp.to(idle.dtype))
        return self.fc2(self.norm(torch.cat([self.act(active), idle], dim=-1)))

    def anneal(self, ramp: float) -> None:
        """Set how linear idle units are in training: 0 not at all, 1 wholly."""
        self.annealing = ramp < 1
        self.ramp.fill_(ramp)


class MergedMlp(nn.Module):
    """An MLP whose idle units are merged: shortcut(x) + fc2(act(fc1(x))), the shortcut a matmul without bias.

    Args:
        width: Channels D of a token.
        hidden: Hidden units that are left.
        act_layer: Makes the activation.
    """

    def __init__(self, width: int, hidden: int, act_layer: Callable[[], nn.Module]):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), act_layer(), nn.Linear(hidden, width)
        self.shortcut = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n, D) of (B, n, D)."""
        return self.shortcut(x) + self.fc2(self.act(self.fc1(x)))


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm per channel over all tokens of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n, D) of (B, n, D)."""
        return super().forward(x.flatten(0, -2)).view_as(x)
