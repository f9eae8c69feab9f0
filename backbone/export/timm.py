"""A ViT of images as a file that `timm.create_model` loads."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...core.errors import UserError
from ..sizes import Architecture

NAME = "vit_base_patch16_224"  # its sizes are all given anew
# Of the same kind, with norms of another eps, and with SwiGLU: what timm takes as classes, not as plain values.
FINE, FINE_EPS = "vit_base_patch16_clip_224", 1e-5
GATED = "vit_giant_patch14_dinov2"


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
        UserError: A ViT of clips: timm has none; or parts that no network of timm is given by plain values.
    """
    if arch.frames > 1:
        raise UserError("timm has no ViT of clips: export to huggingface, onnx or torch.")
    _refuse(arch)
    gated = arch.gated_mlp
    # timm counts both halves of a gated MLP, and cuts off what is no whole unit.
    ratio = (2 * round(arch.width * arch.mlp_ratio) + 0.5) / arch.width if gated else arch.mlp_ratio
    return {
        "name": GATED if gated else FINE if arch.norm_eps == FINE_EPS else NAME,
        "img_size": tuple(arch.image_size),
        "patch_size": arch.patch_size,
        "in_chans": arch.channels,
        "embed_dim": arch.width,
        "depth": arch.depth,
        "num_heads": arch.heads,
        "mlp_ratio": ratio,
        "init_values": 1e-5 if arch.layer_scale else None,
        "class_token": arch.class_token,
        "reg_tokens": arch.registers,
        "no_embed_class": bool(arch.registers),
        "global_pool": "token" if pool == "class" else "avg",
        "fc_norm": norm_after_pool,
        "num_classes": labels,
        **_parts(arch),
    }


def timm_state(state: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """Return our state dict under timm's names, which are ours.

    With registers timm's class token carries its own position.

    Raises:
        UserError: As of `timm_arguments`.
    """
    _refuse(arch)
    state = {name: value.detach().cpu() for name, value in state.items()}
    if "reg_token" in state and "cls_token" in state:
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    if arch.input_norm and float(state.pop("patch_embed.proj.bias").abs().max()) > 0:
        raise UserError("timm's patches have no bias before a norm, and these have one: export to onnx or torch.")
    return {name: value.contiguous().clone() for name, value in state.items()}


def _refuse(arch: Architecture) -> None:
    """Refuse what a network of timm cannot be given by plain values.

    Raises:
        UserError: Names it.
    """
    eps = (1e-6,) if arch.gated_mlp else (1e-6, FINE_EPS)
    reasons = {
        "rotary positions": arch.rotary is not None,
        "RMSNorm": arch.norm != "layer",
        f"norms with eps {arch.norm_eps:g}": arch.norm_eps not in eps,
        "norms after attention and MLP": arch.norm_after,
        "a norm of projected patches": arch.patch_norm,
        "stem of convolutions": arch.stem,
        f"gated MLPs with {arch.activation}": arch.gated_mlp and arch.activation != "silu",
    } | dict.fromkeys(arch.compressed, True)
    if found := [name for name, true in reasons.items() if true]:
        raise UserError(f"timm takes no {', '.join(found)} as plain values: export to onnx or torch.")


def _parts(arch: Architecture) -> dict[str, Any]:
    """Return arguments for the parts in which a ViT is not timm's usual one."""
    parts: dict[str, Any] = {"pre_norm": arch.input_norm} if arch.input_norm or arch.norm_eps == FINE_EPS else {}
    switches = {
        "qk_norm": arch.query_key_norm,
        "scale_attn_norm": arch.attention_norm,
        "scale_mlp_norm": arch.mlp_norm,
    }
    parts |= {name: True for name, on in switches.items() if on}
    if not arch.qkv_bias:
        parts["qkv_bias"] = False
    if arch.activation != "gelu" and not arch.gated_mlp:
        parts["act_layer"] = arch.activation
    return parts


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
