"""The architecture that a checkpoint was made with, read from the shapes of its tensors and what lies beside."""

import re
from typing import Any

from ...core.errors import UserError
from ..sizes import SIZES, Architecture
from .reading import State
from .recognise import Named, under_our_names

FRAMES = 16  # of the published VideoMAE models; their files do not say


def infer_architecture(state: State, heads: int | None = None, **known) -> Architecture:
    """Return the architecture that a state dict of any known source was made with.

    Args:
        state: From `read_checkpoint`.
        heads: Attention heads. They leave no trace in the shapes: by default what the papers use at this width.
        known: Fields of `Architecture` that are known from elsewhere, such as `image_size` and `frames`.

    Raises:
        UserError: It is no ViT, or the width has no customary number of heads.
    """
    return architecture_of(under_our_names(state), heads, **known)


def architecture_of(named: Named, heads: int | None = None, **known) -> Architecture:
    """Infer as `infer_architecture` does, of a state dict under our names."""
    state, source = named.state, named.source
    try:
        kernel = state["patch_embed.proj.weight"]
        hidden = state["blocks.0.mlp.fc2.weight"].shape[1]
        inputs, width = state["blocks.0.mlp.fc1.weight"].shape
    except KeyError as error:
        raise UserError(
            f"the checkpoint has no {error.args[0]}: not a plain ViT with timm's names. "
            f"It starts with: {', '.join(sorted(state)[:4])}"
        ) from None
    except (IndexError, ValueError):
        raise UserError("the MLPs of the checkpoint are no matrices: not a plain ViT.") from None
    patch, tubelet = kernel.shape[-1], kernel.shape[2] if kernel.ndim == 5 else 1
    fields: dict[str, Any] = {
        "mlp_ratio": hidden / width,
        "patch_size": patch,
        "tubelet": tubelet,
        "frames": FRAMES if kernel.ndim == 5 else 1,
        "channels": kernel.shape[1],
        "positions": "learned",
    }
    fields |= source.fields | named.fields | known | _shown(state) | {"gated_mlp": inputs == 2 * hidden}
    if fields["gated_mlp"] and "activation" not in source.fields | known:
        fields["activation"] = "silu"
    if "pos_embed" not in state and fields["positions"] == "learned":
        raise UserError(
            "the checkpoint has no positions, and is of no kind known to have none (VideoMAE, V-JEPA 2, DINOv3): say "
            "which network of timm it is like, --like NAME."
        )
    if "image_size" not in known and ("pos_embed" in state or "image_size" not in fields):
        side = _side(state, fields["frames"] // tubelet, 224 // patch) * patch
        fields["image_size"] = (side, side)
    try:
        return Architecture(width, depth_of(state), _heads(named, width, heads), **fields)
    except ValueError as error:
        raise UserError(f"the checkpoint is no ViT of ours: {error}.") from None


def assumptions(named: Named, arch: Architecture, known: dict) -> list[str]:
    """Return in words what the architecture holds that neither the file nor anything beside it says.

    Args:
        named: The checkpoint.
        arch: What `architecture_of` made of it.
        known: What is known beside the shapes, `heads` among it.
    """
    source, found = named.source, []
    if source.assumed and "rotary" not in known:
        found.append(source.assumed)
    if not {"heads"} & {name for name, value in known.items() if value}:
        found.append(f"{arch.heads} attention heads")
    if source.name in ("timm", "siglip", "eva", "eva02", "clip", "dinov3", "vjepa2"):
        if "norm_eps" not in known:
            found.append(f"norm_eps {arch.norm_eps:g}")
        if "activation" not in known and source.name != "clip":
            found.append(f"activation {arch.activation}")
    return found


def depth_of(state: State) -> int:
    """Return number of blocks in a state dict of our names."""
    return 1 + max(int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name)))


def _shown(state: State) -> dict[str, Any]:
    """Return the fields that the presence of tensors tells."""
    return {
        "class_token": "cls_token" in state,
        "registers": state["reg_token"].shape[1] if "reg_token" in state else 0,
        "layer_scale": "blocks.0.ls1.gamma" in state,
        "norm": "layer" if "blocks.0.norm1.bias" in state else "rms",
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
        "query_key_norm": "blocks.0.attn.q_norm.weight" in state,
        "attention_norm": "blocks.0.attn.norm.weight" in state,
        "mlp_norm": "blocks.0.mlp.norm.weight" in state,
        "input_norm": "norm_pre.weight" in state,
        "patch_norm": "patch_embed.norm.weight" in state,
    }


def _heads(named: Named, width: int, heads: int | None) -> int:
    source = named.source
    if heads is None:
        heads = source.heads.get(width)
    heads = heads or {w: h for w, d, h, _ in SIZES.values()}.get(width)
    if heads is None and source.head_width and width % source.head_width == 0:
        heads = width // source.head_width
    if heads is None:
        raise UserError(
            f"width {width} is no published size: say how many attention heads it has (--heads, heads=...)."
        )
    return heads


def _side(state: State, times: int, default: int) -> int:
    """Return tokens along one side of the square grid."""
    if "pos_embed" not in state:
        return default
    positions = state["pos_embed"].shape[1] - int("cls_token" in state)
    side = round((positions / times) ** 0.5)
    if times * side**2 != positions:
        raise UserError(
            f"{positions} positions are no square grid: say which input it is for, --size HEIGHTxWIDTH in px."
        )
    return side
