"""What a network of timm is, read from its modules: the fields of `Architecture` that shapes do not tell."""

from typing import Any

import torch
from torch import nn

from ...core.errors import UserError
from ..sizes import Rotary
from .layout import gate_first
from .reading import State

BLOCKS = ("Block", "EvaBlock", "ResPostBlock", "EvaBlockPostNorm")
# What our ViT is not, by timm's class of its parts.
STRANGE = {
    "ParallelScalingBlock": "attention and MLP side by side in a block",
    "DiffParallelScalingBlock": "attention and MLP side by side in a block, and differential attention",
    "ParallelThingsBlock": "several attentions side by side in a block",
    "DiffAttention": "differential attention",
    "RelPosAttention": "relative positions",
    "HybridEmbed": "a convolutional network before its blocks",
}
ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "silu", "ReLU": "relu"}
NORMS = {"LayerNorm": "layer", "RmsNorm": "rms", "RMSNorm": "rms"}
ROTARY = {"RotaryEmbeddingCat": "axial", "RotaryEmbeddingDinoV3": "centred", "RotaryEmbeddingMixed": "mixed"}


def timm_fields(network: nn.Module) -> dict[str, Any]:
    """Return the fields of `Architecture` of a ViT of timm, all but those that the shapes of its tensors tell.

    Raises:
        UserError: Names what it has that our ViT has not.
    """
    vit: Any = network
    blocks = list(getattr(vit, "blocks", []))
    if not blocks or not hasattr(blocks[0], "norm1") or not hasattr(blocks[0], "attn"):
        kind = type(blocks[0]).__name__ if blocks else ""
        if reason := STRANGE.get(kind):
            raise UserError(f"it has {reason}, which our ViT has not")
        raise UserError(f"a {type(network).__name__}, not a plain ViT: it cannot become an encoder of ours")
    _check_embedding(vit)
    for block in blocks:
        _check_block(block)
    block = blocks[0]
    height, width = vit.patch_embed.grid_size
    patch = vit.patch_embed.patch_size[0]
    gated = type(block.mlp).__name__ in ("GluMlp", "SwiGLU")
    return {
        "heads": block.attn.num_heads,
        "image_size": (height * patch, width * patch),
        "positions": "learned" if vit.pos_embed is not None else "none",
        "rotary": _rotary(vit),
        "resize_antialias": True,
        "norm": NORMS[type(block.norm1).__name__],
        "norm_eps": block.norm1.eps,
        "activation": _activation(block.mlp.act),
        "gated_mlp": gated,
        "qkv_bias": _has_bias(block.attn),
        "query_key_norm": not isinstance(block.attn.q_norm, nn.Identity),
        "attention_norm": not isinstance(block.attn.norm, nn.Identity),
        "mlp_norm": not isinstance(block.mlp.norm, nn.Identity),
        "input_norm": not isinstance(getattr(vit, "norm_pre", nn.Identity()), nn.Identity),
        "patch_norm": not isinstance(vit.patch_embed.norm, nn.Identity),
        "norm_after": type(block).__name__ in ("ResPostBlock", "EvaBlockPostNorm"),
    }


def timm_state(network: nn.Module, state: State | None = None) -> State:
    """Return the state dict of a network of timm, or one of its kind, that `one_layout` can take.

    Gates come first; what prefix tokens have of the positions is added to the tokens.
    """
    vit: Any = network
    state = dict(network.state_dict() if state is None else state)
    mlp = vit.blocks[0].mlp
    if type(mlp).__name__ == "GluMlp" and mlp.gate_last:
        state = gate_first(state)
    if vit.pos_embed is not None and "reg_token" in state and not vit.no_embed_class:
        extra, registers = int("cls_token" in state), state["reg_token"].shape[1]
        table = state["pos_embed"]
        state["reg_token"] = state["reg_token"] + table[:, extra : extra + registers]
        state["pos_embed"] = table[:, [*range(extra), *range(extra + registers, table.shape[1])]]
    if vit.pos_embed is not None and "cls_token" in state and vit.no_embed_class:
        state["pos_embed"] = torch.cat([torch.zeros_like(state["cls_token"]), state["pos_embed"]], dim=1)
    return state


def _check_block(block: Any) -> None:
    attn = block.attn
    for part in (block, attn):
        if reason := STRANGE.get(type(part).__name__):
            raise UserError(f"it has {reason}, which our ViT has not")
    if getattr(attn, "relative_position_bias_table", None) is not None:
        raise UserError("it has relative position biases in its blocks (BEiT), which our ViT has not")
    if getattr(attn, "num_kv_groups", 1) > 1:
        raise UserError("it has fewer keys than queries (grouped-query attention), which our ViT has not")
    if getattr(attn, "gate", None) is not None:
        raise UserError("it has gated attention, which our ViT has not")
    if hasattr(attn, "rel_pos_h") or hasattr(attn, "rel_pos"):
        raise UserError("it has relative positions in its blocks (SAM, ViT-RelPos), which our ViT has not")
    if type(block).__name__ not in BLOCKS or not hasattr(attn, "norm"):
        raise UserError(f"its blocks are {type(block).__name__}, which our ViT has not")
    if getattr(block, "gamma_1", None) is not None and block.gamma_2 is None:
        raise UserError("it scales what attention adds and not what the MLP adds, which our ViT does not")
    if type(block.mlp).__name__ not in ("Mlp", "GluMlp", "SwiGLU"):
        raise UserError(f"its MLPs are {type(block.mlp).__name__}, which our ViT has not")
    if type(block.norm1).__name__ not in NORMS:
        raise UserError(f"its norms are {type(block.norm1).__name__}, which our ViT has not")


def _check_embedding(vit: Any) -> None:
    patches = vit.patch_embed
    if type(patches).__name__ != "PatchEmbed" or not isinstance(patches.proj, nn.Conv2d):
        reason = STRANGE.get(type(patches).__name__, f"a {type(patches).__name__}")
        raise UserError(f"it has {reason} where our ViT projects patches")
    if len(set(patches.patch_size)) > 1:
        raise UserError(f"its patches of {patches.patch_size} px are not square")
    if getattr(vit, "rel_pos_bias", None) is not None:
        raise UserError("it has relative position biases (BEiT), which our ViT has not")


def _activation(act: nn.Module) -> str:
    name = type(act).__name__
    if name not in ACTIVATIONS:
        raise UserError(f"its activation is {name}, which our ViT has not")
    return "gelu_tanh" if getattr(act, "approximate", "none") == "tanh" else ACTIVATIONS[name]


def _has_bias(attn: Any) -> bool:
    if getattr(attn, "q_bias", None) is not None:
        return True
    return (attn.qkv if attn.qkv is not None else attn.q_proj).bias is not None


def _rotary(vit: Any) -> Rotary | None:
    rope = getattr(vit, "rope", None)
    if rope is None:
        return None
    kind = ROTARY.get(type(rope).__name__)
    if kind is None:
        raise UserError(f"its rotary positions are {type(rope).__name__}, which our ViT has not")
    grid, indexing = getattr(rope, "ref_feat_shape", None), getattr(rope, "grid_indexing", "ij")
    halves = bool(getattr(vit.blocks[0].attn, "rotate_half", False))
    offset = float(getattr(rope, "grid_offset", 0.0))
    if kind == "axial" and rope.in_pixels:
        raise UserError("its rotary positions count pixels, which our ViT's do not")
    if kind == "centred" and (rope.normalize_coords != "separate" or offset):
        raise UserError("its rotary positions are normalised in a way that our ViT's are not")
    return Rotary(
        kind, float(rope.temperature), None if grid is None else tuple(grid), offset, halves, indexing == "xy"
    )
