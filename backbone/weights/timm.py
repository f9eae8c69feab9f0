"""timm's Vision Transformers, whose names are ours."""

from dataclasses import replace

import torch

from .reading import State
from .source import Source


def _ours(state: State, adapted: list[str]) -> State:
    """Add the zero position that some (DeiT III, DINOv2 with registers) leave out for their class token."""
    table = state.get("pos_embed")
    if table is not None and "cls_token" in state and _square(table.shape[1]) and "dist_token" not in state:
        state["pos_embed"] = torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)
        adapted.append("zero position given to the class token")
    return state


def _square(count: int) -> bool:
    return round(count**0.5) ** 2 == count


TIMM = Source("timm", lambda state: True, _ours, fields={"resize_antialias": True}, heads={1664: 16})
# DINOv2 and what was trained by its code (UNI, Virchow, H-optimus, Prov-GigaPath).
TIMM_SCALED = replace(
    TIMM, matches=lambda state: {"cls_token", "blocks.0.ls1.gamma"} <= state.keys(), head_width=64, heads={}
)
# SigLIP's and SigLIP 2's encoders of images.
SIGLIP = Source(
    "siglip",
    lambda state: {"attn_pool.latent", "pos_embed"} <= state.keys() and "cls_token" not in state,
    fields={"resize_antialias": True},
    statistics=((0.5,) * 3, (0.5,) * 3),
    heads={1152: 16, 1536: 16},
)
