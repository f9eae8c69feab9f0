"""EVA (Fang et al. 2023) and EVA-02 (Fang et al. 2024; EVA-X: Yao et al. 2024), under timm's names or their own."""

from ..sizes import Rotary
from .reading import State
from .source import Source
from .videomae import of_clips

# Rows and columns of any image are stretched to the 16 x 16 patches that EVA-02 was pre-trained with.
ROTARY = Rotary("axial", 10000.0, grid=(16, 16))
GATED = (".mlp.w1.weight", ".mlp.fc1_g.weight")


def _keyless(state: State) -> bool:
    """Return whether the images' queries and values have biases and their keys have none."""
    if of_clips(state) or "pos_embed" not in state:
        return False
    apart = any(name.endswith("attn.q_bias") for name in state)
    return apart or ("blocks.0.attn.q_proj.bias" in state and "blocks.0.attn.k_proj.bias" not in state)


def _gated(state: State) -> bool:
    packed = state.get("blocks.0.mlp.fc1.weight"), state.get("blocks.0.mlp.fc2.weight")
    if any(name.endswith(GATED) for name in state):
        return True
    return packed[0] is not None and packed[1] is not None and packed[0].shape[0] == 2 * packed[1].shape[1]


EVA_02 = Source(
    "eva02",
    lambda state: _keyless(state) and _gated(state),
    fields={"rotary": ROTARY, "activation": "silu", "resize_antialias": True},
    head_width=64,
    assumed="rotary positions as EVA-02's, on a grid of 16 x 16",
)
EVA = Source(
    "eva",
    lambda state: _keyless(state) and not _gated(state),
    fields={"resize_antialias": True},
    assumed="norms before attention and MLP as EVA's",
)
