"""CLIP's image encoder (Radford et al. 2021) as OpenAI and open_clip name it, and under timm's names."""

import re

from .reading import State
from .source import Source

STATISTICS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
NAMES = (
    (r"^conv1\.", "patch_embed.proj."),
    (r"^positional_embedding$", "pos_embed"),
    (r"^class_embedding$", "cls_token"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.ls_([12])\.gamma", r".ls\1.gamma"),
    (r"\.attn\.in_proj_(weight|bias)", r".attn.qkv.\1"),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def is_open_clip(state: State) -> bool:
    """Return whether a state dict has the names of OpenAI's and open_clip's ViTs."""
    return {"conv1.weight", "class_embedding", "positional_embedding"} <= state.keys()


def timm_names(state: State) -> State:
    """Return it under timm's names; the projection into the space of texts is left over as `proj`."""
    out = {}
    for name, value in state.items():
        for old, new in NAMES:
            name = re.sub(old, new, name)
        out[name] = value
    out["cls_token"] = out["cls_token"].reshape(1, 1, -1)
    out["pos_embed"] = out["pos_embed"].unsqueeze(0)
    return out


CLIP = Source(
    "clip",
    lambda state: "norm_pre.weight" in state and "pos_embed" in state,
    fields={"norm_eps": 1e-5, "resize_antialias": True},
    statistics=STATISTICS,
    head_width=64,
    assumed="activation gelu, though OpenAI's own weights have quick_gelu, and no rotary positions",
)
