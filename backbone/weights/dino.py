"""DINO (Caron et al. 2021) and DINOv2 (Oquab et al. 2024; with registers: Darcet et al. 2024)."""

import re

from ...core.errors import UserError
from .reading import State
from .source import Source

# Trained in parts, DINOv2's blocks are named by their part too: blocks.1.6.attn is the block 6.
CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")


def _ours(state: State, adapted: list[str]) -> State:
    if any(".mlp.w12." in name for name in state):
        raise UserError("the checkpoint has gated MLPs (SwiGLU, as DINOv2's giant): its smaller models load.")
    state = {CHUNKED.sub(r"blocks.\1.", name): value for name, value in state.items()}
    if "register_tokens" in state:
        state["reg_token"] = state.pop("register_tokens")
    return state


# Flat files of DINO's backbone have timm's names and no others; only files with its head can be recognised.
DINO = Source(
    "dino", lambda state: any(name.startswith("head.last_layer.") for name in state), fields={"resize_offset": 0.1}
)
# Its code resamples positions with the offset of DINO's; with registers without (dinov2/hub/backbones.py).
DINO_V2 = Source(
    "dinov2",
    lambda state: "register_tokens" not in state and _layer_scale(state),
    _ours,
    fields={"resize_offset": 0.1},
)
DINO_V2_REGISTERS = Source("dinov2", lambda state: "register_tokens" in state and _layer_scale(state), _ours)


def _layer_scale(state: State) -> bool:
    return "mask_token" in state and any(name.endswith(".ls1.gamma") for name in state)
