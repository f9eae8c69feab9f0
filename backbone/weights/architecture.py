"""The architecture that a checkpoint was made with, read from the shapes of its tensors."""

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
    state = named.state
    try:
        kernel = state["patch_embed.proj.weight"]
        hidden, width = state["blocks.0.mlp.fc1.weight"].shape
    except KeyError as error:
        raise UserError(
            f"the checkpoint has no {error.args[0]}: not a plain ViT with timm's names. "
            f"It starts with: {', '.join(sorted(state)[:4])}"
        ) from None
    heads = heads or {w: h for w, d, h, _ in SIZES.values()}.get(width)
    if heads is None:
        raise UserError(f"width {width} is no published size: say how many attention heads it has (heads=...).")
    patch, tubelet = kernel.shape[-1], kernel.shape[2] if kernel.ndim == 5 else 1
    frames = FRAMES if kernel.ndim == 5 else 1
    fields: dict[str, Any] = {
        "mlp_ratio": hidden / width,
        "patch_size": patch,
        "tubelet": tubelet,
        "frames": frames,
        "channels": kernel.shape[1],
        "class_token": "cls_token" in state,
        "positions": "learned" if "pos_embed" in state else "sine1d",
        "registers": state["reg_token"].shape[1] if "reg_token" in state else 0,
        "layer_scale": "blocks.0.ls1.gamma" in state,
    }
    fields |= named.source.fields | known
    if "image_size" not in known:
        side = _side(state, frames // tubelet, 224 // patch) * patch
        fields["image_size"] = (side, side)
    try:
        return Architecture(width, depth_of(state), heads, **fields)
    except ValueError as error:
        raise UserError(f"the checkpoint is no ViT of ours: {error}.") from None


def depth_of(state: State) -> int:
    """Return number of blocks in a state dict of our names."""
    return 1 + max(int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name)))


def _side(state: State, times: int, default: int) -> int:
    """Return tokens along one side of the square grid."""
    if "pos_embed" not in state:
        return default
    positions = state["pos_embed"].shape[1] - int("cls_token" in state)
    side = round((positions / times) ** 0.5)
    if times * side**2 != positions:
        raise UserError(f"{positions} positions are no square grid: convert it where it was made.")
    return side
