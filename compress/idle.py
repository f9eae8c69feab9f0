"""Idle hidden units merged: two matmuls without an activation between them are one. The network gives the same.

Of a block with input x and the norm LN before its MLP, of which the first a hidden units are active:
    y = x + W2[:, :a] act(W1[:a] LN(x) + b1[:a]) + A LN(x) + c, A = W2[:, a:] W1[a:], c = b2 + W2[:, a:] b1[a:].
Source: RePaViT (Xu et al., ICML 2025), whose batch norms fold into W1 and W2 before.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..backbone.card import EncoderCard
from ..backbone.sizes import Architecture
from ..backbone.vit import ViT
from ..finetune.model import ModelCard, build_model

EPS = nn.BatchNorm1d(1).eps


def merge_idle(network: nn.Module, card: ModelCard | EncoderCard) -> tuple[nn.Module, ModelCard | EncoderCard]:
    """Return a network in eval mode with its idle units merged, and its card; both unchanged where it has none.

    Args:
        network: A classifier or a ViT of ours.
        card: Its card.
    """
    if not card.arch.block_active:
        return network, card
    is_encoder = isinstance(network, ViT)
    state = merged_state(network.state_dict(), card.arch, "" if is_encoder else "encoder.")
    card = replace(card, arch=merged_architecture(card.arch))
    return with_weights(network, card, state), card


def with_weights(network: nn.Module, card: ModelCard | EncoderCard, state: Mapping[str, Tensor]) -> nn.Module:
    """Return the network of a card with the weights of a state dict, like another one: eval mode, device, precision."""
    like = next(network.parameters())
    if isinstance(card, EncoderCard):
        new: nn.Module = ViT(card.arch, final_norm=not isinstance(network.norm, nn.Identity))
    else:
        new = build_model(card)
    new.to(like.device, like.dtype).load_state_dict(state)
    return new.eval()


def merged_architecture(arch: Architecture) -> Architecture:
    """Return the architecture of a ViT whose idle units are merged."""
    return replace(
        arch, block_hidden=arch.block_active, block_active=(), mlp_shortcut=True, mlp_batch_norm=False,
        mlp_input_norm=not arch.mlp_batch_norm,
    )  # fmt: skip


@torch.no_grad()
def merged_state(state: Mapping[str, Tensor], arch: Architecture, prefix: str = "") -> dict[str, Tensor]:
    """Return a state dict with idle units merged, computed in float64.

    Args:
        state: Of the network.
        arch: Of its ViT, with idle units.
        prefix: Of the names of the ViT's tensors.
    """
    merged = dict(state)
    for block in range(arch.depth):
        at = f"{prefix}blocks.{block}."
        parts = {name: merged.pop(name) for name in state if name.startswith((f"{at}mlp.", f"{at}norm2."))}
        own = {name.removeprefix(at): value.double() for name, value in parts.items()}
        fc1, bias1, fc2, bias2 = (own[f"mlp.{name}"] for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"))
        if arch.mlp_batch_norm:
            fc1, bias1 = fold_batch_norm(own, "norm2.", fc1, bias1)
            fc2, bias2 = fold_batch_norm(own, "mlp.norm.", fc2, bias2)
        else:
            merged |= {name: value for name, value in parts.items() if name.startswith(f"{at}norm2.")}
        active = arch.block_active[block]
        new = {
            "fc1.weight": fc1[:active],
            "fc1.bias": bias1[:active],
            "fc2.weight": fc2[:, :active],
            "fc2.bias": bias2 + fc2[:, active:] @ bias1[active:],
            "shortcut.weight": fc2[:, active:] @ fc1[active:],
        }
        kind = parts[f"{at}mlp.fc1.weight"].dtype
        merged |= {f"{at}mlp.{name}": value.to(kind).contiguous() for name, value in new.items()}
    return merged


def fold_batch_norm(own: Mapping[str, Tensor], norm: str, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (M, N) and bias (M,) of a linear layer that takes in the batch norm before it.

    Args:
        own: Tensors by name, the batch norm's among them.
        norm: What their names begin with.
        weight: Of the layer.
        bias: Of the layer.
    """
    scale = own[f"{norm}weight"] * torch.rsqrt(own[f"{norm}running_var"] + EPS)
    shift = own[f"{norm}bias"] - own[f"{norm}running_mean"] * scale
    return weight * scale, bias + weight @ shift
