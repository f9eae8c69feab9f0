"""Idle hidden units in training: which they are, how a ViT gets them, how they are annealed (`backbone.mlp`).

RePaViT takes any units and trains from scratch. Here weights are there already: the units that stay active are those of
which the activation changes most on training images, and the others become linear gradually.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import UserError
from .mlp import IdleMlp
from .sizes import Architecture
from .vit import ViT


def idle_of(arch: Architecture, share: float, batch_norm: bool = False) -> Architecture:
    """Return the architecture with a share of idle units; the same for a share of 0.

    Args:
        arch: Of a ViT.
        share: Of the hidden units of each block.
        batch_norm: With batch norms before both matmuls of an MLP (`mlp_batch_norm`).

    Raises:
        UserError: The MLPs of this ViT cannot have idle units.
    """
    if not share:
        return arch
    asked = f"idle {share:g}"
    if arch.block_active or arch.mlp_shortcut:
        raise UserError(f"{asked}: the encoder has idle units already: leave it out.")
    if arch.gated_mlp or arch.mlp_norm:
        kind = "gated MLPs" if arch.gated_mlp else "MLPs with a norm of their hidden units"
        raise UserError(f"{asked}: not for {kind}, whose units are not linear without their activation: leave it out.")
    # As in the paper: ceil((1 - idle) x units), which the last digit of a float must not raise by one.
    active = [math.ceil(round((1 - share) * arch.hidden_of(block), 6)) for block in range(arch.depth)]
    return replace(arch, block_active=tuple(active), mlp_batch_norm=batch_norm)


def without_idle(arch: Architecture) -> Architecture:
    """Return the architecture of the plain ViT that idle units are given to."""
    return replace(arch, block_active=(), mlp_batch_norm=False)


def make_idle(vit: ViT, arch: Architecture) -> None:
    """Give a plain ViT the idle units of an architecture, its last ones; its weights stay.

    With batch norms the norms before the MLPs are new: what was learned behind LayerNorm has to be learned again.
    """
    fresh = ViT(arch)
    for block, new in zip(vit.blocks, fresh.blocks, strict=True):
        for part in ("fc1", "fc2"):
            setattr(new.mlp, part, getattr(block.mlp, part))
        block.mlp = new.mlp
        if arch.mlp_batch_norm:
            block.norm2 = new.norm2
    vit.arch = arch


@torch.inference_mode()
def activation_changes(vit: ViT, batches: Iterable[Tensor]) -> list[Tensor]:
    """Return how much the activation changes each hidden unit: (units,) means of |act(u) - u| per block.

    Args:
        vit: With idle units, which count as active here; in eval mode.
        batches: (B, C, [T,] H, W) normalised images, at least one.
    """
    mlps: list[Any] = [block.mlp for block in vit.blocks]
    sums = [torch.zeros(mlp.fc1.out_features, dtype=torch.float64) for mlp in mlps]
    tokens = [0] * len(mlps)

    def look(place: int, mlp: Any):
        def hook(_, given, hidden: Tensor) -> None:
            change = (mlp.act(hidden) - hidden).abs().flatten(0, -2)
            sums[place] += change.sum(dim=0).double().cpu()
            tokens[place] += len(change)

        return hook

    handles = [mlp.fc1.register_forward_hook(look(place, mlp)) for place, mlp in enumerate(mlps)]
    usual = [mlp.active for mlp in mlps]
    try:
        for mlp in mlps:
            mlp.active = mlp.fc1.out_features
        for x in batches:
            vit(x)
    finally:
        for handle, mlp, active in zip(handles, mlps, usual, strict=True):
            handle.remove()
            mlp.active = active
    return [total / count for total, count in zip(sums, tokens, strict=True)]


@torch.no_grad()
def put_active_first(vit: ViT, changes: list[Tensor]) -> None:
    """Order the hidden units of each block, those first that the activation changes most; the network is the same.

    Args:
        vit: With idle units.
        changes: As of `activation_changes`.
    """
    mlps: list[Any] = [block.mlp for block in vit.blocks]
    for mlp, change in zip(mlps, changes, strict=True):
        order = change.argsort(descending=True, stable=True).to(mlp.fc1.weight.device)
        mlp.fc1.weight.copy_(mlp.fc1.weight[order])
        mlp.fc1.bias.copy_(mlp.fc1.bias[order])
        mlp.fc2.weight.copy_(mlp.fc2.weight[:, order])


def anneal(model: nn.Module, ramp: float) -> None:
    """Set how linear the idle units of a model are in training, from 0 to 1."""
    for part in model.modules():
        if isinstance(part, IdleMlp):
            part.anneal(ramp)
