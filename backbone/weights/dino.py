"""DINO (Caron et al. 2021), DINOv2 (Oquab et al. 2024; with registers: Darcet et al. 2024), DINOv3 (Simeoni 2025)."""

import re

from ..sizes import Rotary
from .reading import State
from .source import Source
from .videomae import of_clips

# Trained in parts, DINOv2's blocks are named by their part too: blocks.1.6.attn is the block 6.
CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")
# In DINOv3's tables angles are of places from -1 to 1, in halves, with periods up to 100.
ROTARY = Rotary("centred", 100.0, halves=True)


def _ours(state: State, adapted: list[str]) -> State:
    state = {CHUNKED.sub(r"blocks.\1.", name): value for name, value in state.items()}
    for theirs in ("register_tokens", "storage_tokens"):
        if theirs in state:
            state["reg_token"] = state.pop(theirs)
    return state


# Flat files of DINO's backbone have timm's names and no others; only files with its head can be recognised.
DINO = Source(
    "dino", lambda state: any(name.startswith("head.last_layer.") for name in state), fields={"resize_offset": 0.1}
)
# Its code resamples positions with the offset of DINO's; with registers smoothed, without (dinov2/hub/backbones.py).
DINO_V2 = Source(
    "dinov2",
    lambda state: "register_tokens" not in state and _layer_scale(state),
    _ours,
    fields={"resize_offset": 0.1},
    head_width=64,
)
DINO_V2_REGISTERS = Source(
    "dinov2",
    lambda state: "register_tokens" in state and _layer_scale(state),
    _ours,
    fields={"resize_antialias": True},
    head_width=64,
)


def _without_positions(state: State) -> bool:
    scaled = any(name.endswith((".gamma_1", ".ls1.gamma")) for name in state)
    registers = not {"reg_token", "storage_tokens", "register_tokens"}.isdisjoint(state)
    return "pos_embed" not in state and not of_clips(state) and {"cls_token"} <= state.keys() and scaled and registers


DINO_V3 = Source(
    "dinov3",
    _without_positions,
    _ours,
    fields={"positions": "none", "rotary": ROTARY, "norm_eps": 1e-5},
    head_width=64,
    heads={1280: 20, 4096: 32},
    assumed="rotary positions as DINOv3's, with periods up to 100",
)


def _layer_scale(state: State) -> bool:
    return "pos_embed" in state and "mask_token" in state and any(name.endswith(".ls1.gamma") for name in state)
