"""A ViT of images as a file that `timm.create_model` loads."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...core.errors import UserError
from ..sizes import Architecture

NAME = "vit_base_patch16_224"  # its sizes are all given anew


def timm_arguments(
    arch: Architecture, pool: str = "mean", norm_after_pool: bool = False, labels: int = 0
) -> dict[str, Any]:
    """Return arguments of `timm.create_model` for a network that is this ViT, with a linear layer for `labels` outputs.

    Args:
        arch: Of images.
        pool: `mean` of the patch tokens, or the `class` token.
        norm_after_pool: Whether the LayerNorm stands after the pooling (MAE's fine-tuning), not before it.
        labels: Outputs; 0 for features.

    Raises:
        UserError: A ViT of clips: timm has none.
    """
    if arch.frames > 1:
        raise UserError("timm has no ViT of clips: export to huggingface, onnx or torch.")
    return {
        "img_size": tuple(arch.image_size),
        "patch_size": arch.patch_size,
        "in_chans": arch.channels,
        "embed_dim": arch.width,
        "depth": arch.depth,
        "num_heads": arch.heads,
        "mlp_ratio": arch.mlp_ratio,
        "init_values": 1e-5 if arch.layer_scale else None,
        "class_token": arch.class_token,
        "reg_tokens": arch.registers,
        "no_embed_class": bool(arch.registers),
        "global_pool": "token" if pool == "class" else "avg",
        "fc_norm": norm_after_pool,
        "num_classes": labels,
    }


def timm_state(state: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """Return our state dict under timm's names, which are ours.

    With registers timm's class token carries its own position.
    """
    state = {name: value.detach().cpu() for name, value in state.items()}
    if "reg_token" in state:
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    return {name: value.contiguous().clone() for name, value in state.items()}


def batch_norm_into(linear: Mapping[str, Tensor], norm: Mapping[str, Tensor], eps: float) -> dict[str, Tensor]:
    """Return `weight` and `bias` of a linear layer that takes in the BatchNorm without parameters before it.

    Args:
        linear: `weight` (L, D) and `bias` (L,).
        norm: `running_mean` and `running_var`, (D,).
        eps: Of the BatchNorm.
    """
    scale = torch.rsqrt(norm["running_var"].double() + eps)
    weight = linear["weight"].double() * scale
    bias = linear["bias"].double() - weight @ norm["running_mean"].double()
    return {"weight": weight.float(), "bias": bias.float()}
