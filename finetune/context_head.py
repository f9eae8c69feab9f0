"""A head that knows of contexts: views, scanners, sites. It infers them from the features, and needs no metadata.

p(y | x) = sum over z of p(z | x) p(y | x, z): PerceptionCLIP's mixture (An et al., ICLR 2024) on a frozen encoder. What
is asked of a case in context z is shared weights and an offset of low rank. Balanced, every context weighs the same,
whatever the case: that a finding is frequent in one of them (bedside images of the sick) moves no score.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import UserError
from .recipe import Finetune

MIXES = ("posterior", "balanced")
HEADS = ("linear", "attentive")  # modes whose head may know of contexts


class ContextHead(nn.Module):
    """Logits of labels, mixed over the contexts that a case may be from.

    Args:
        width: Features D.
        usable: Which offsets there are, (Z, L) of 0 and 1: a label of which too little is known in a context is judged
            there by the shared weights.
        rank: Of the offsets.
        mix: `posterior` weighs contexts by p(z | x), `balanced` all alike.
        exclusive: Labels are exclusive classes.
    """

    usable: Tensor

    def __init__(self, width: int, usable: Tensor, rank: int, mix: str, exclusive: bool):
        super().__init__()
        contexts, labels = usable.shape
        self.in_features, self.mix, self.exclusive = width, mix, exclusive
        self.shared = nn.Linear(width, labels)
        self.context = nn.Linear(width, contexts)
        self.down = nn.Parameter(torch.randn(contexts, rank, width) / math.sqrt(width))
        self.up = nn.Parameter(torch.zeros(contexts, labels, rank))
        self.bias = nn.Parameter(torch.zeros(contexts, labels))
        self.register_buffer("usable", usable.float())

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, Z) logits of the contexts and (B, Z, L) logits of the labels in each.

        Args:
            x: (B, D) features.
        """
        low = torch.einsum("bd,zrd->bzr", x, self.down)
        offset = torch.einsum("bzr,zlr->bzl", low, self.up) + self.bias
        return self.context(x), self.shared(x).unsqueeze(1) + self.usable * offset

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L) logits of the mixed probabilities of (B, D) features."""
        return mixed(*self.parts(x), balanced=self.mix == "balanced", exclusive=self.exclusive)


def mixed(contexts: Tensor, labels: Tensor, balanced: bool, exclusive: bool) -> Tensor:
    """Return (B, L) logits of sum over z of p(z | x) p(y | x, z); of exclusive classes log probabilities.

    Args:
        contexts: (B, Z) logits of p(z | x).
        labels: (B, Z, L) logits of p(y | x, z).
        balanced: p(z | x) is 1 / Z.
        exclusive: Labels are exclusive classes (softmax), else findings (sigmoid).
    """
    weights = (torch.zeros_like(contexts) if balanced else contexts).float().log_softmax(dim=1).unsqueeze(-1)
    labels = labels.float()
    if exclusive:
        return (weights + labels.log_softmax(dim=2)).logsumexp(dim=1)
    present = (weights + F.logsigmoid(labels)).logsumexp(dim=1)
    return present - (weights + F.logsigmoid(-labels)).logsumexp(dim=1)


def head_of(width: int, contexts: dict[str, Any], exclusive: bool) -> ContextHead:
    """Return the head of a model's card (`contexts.contexts_of`)."""
    usable = torch.tensor(contexts["usable"])
    return ContextHead(width, usable, contexts["rank"], contexts["mix"], exclusive)


def check_contexts(recipe: Finetune) -> None:
    """Refuse a recipe whose head cannot know of contexts.

    Raises:
        UserError: Says why, and what to do.
    """
    if recipe.context_mix not in MIXES:
        raise UserError(f"context_mix is {' or '.join(MIXES)}, not {recipe.context_mix!r}.")
    if not recipe.contexts:
        return
    if recipe.mode not in HEADS:
        raise UserError(
            f"contexts are for a frozen encoder (--mode linear or attentive), not for mode {recipe.mode!r}."
        )
    for name in ("mixup", "cutmix"):
        if getattr(recipe, name):
            raise UserError(f"{name} mixes cases of several contexts: set it to 0, or leave contexts out.")
