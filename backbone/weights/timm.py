"""timm's Vision Transformers, whose names are ours."""

from dataclasses import replace

from .source import Source

TIMM = Source("timm", lambda state: True, fields={"resize_antialias": True}, heads={1664: 16})
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
