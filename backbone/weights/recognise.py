"""Which source a checkpoint has, and its tensors under our names."""

import math
from typing import NamedTuple

import torch

from ...core.errors import UserError
from . import clip, hugging_face
from .dino import DINO, DINO_V2, DINO_V2_REGISTERS, DINO_V3
from .eva import EVA, EVA_02
from .jepa import V_JEPA_2
from .layout import one_layout
from .mae import MAE, MAE_FINETUNED, THORAX_MAE
from .reading import State
from .source import Source
from .timm import SIGLIP, TIMM, TIMM_SCALED
from .videomae import VIDEOMAE

# The first that matches is it.
SOURCES = (
    VIDEOMAE, V_JEPA_2, MAE, DINO_V3, DINO_V2, DINO_V2_REGISTERS, EVA_02, EVA, clip.CLIP, SIGLIP, MAE_FINETUNED,
    THORAX_MAE, DINO, TIMM_SCALED, TIMM,
)  # fmt: skip
# Parts that our ViT has not, by a piece of their names, and what they are.
STRANGE = {
    "relative_position_bias_table": "relative position biases (BEiT)",
    "rel_pos_bias": "relative position biases (BEiT)",
    ".attn.rel_pos_": "relative positions and windows (SAM)",
    ".attn.lambda_": "differential attention",
    ".in_proj.": "attention and MLP side by side in a block",
    "patch_embed.backbone.": "a convolutional network before its blocks (hybrid, ViTamin)",
    "layers.0.blocks.": "windows and stages (Swin)",
    "stages.": "stages of convolutions (ViTamin, ConvNeXt)",
    "layer1.0.conv1": "convolutions (ResNet)",
    "denseblock1": "convolutions (DenseNet)",
}


class Named(NamedTuple):
    """A state dict under our names.

    Attributes:
        source: Where it comes from.
        state: Its tensors.
        adapted: What was changed on the way, in words.
        fields: Fields of `Architecture` that the names of its parts showed.
    """

    source: Source
    state: State
    adapted: list[str]
    fields: dict


def under_our_names(state: State, image_size: tuple[int, int] | None = None) -> Named:
    """Return any known source's state dict under our names, which are timm's.

    Args:
        state: From `read_checkpoint`.
        image_size: Height and width of its input, px, where they are known.

    Raises:
        UserError: It has parts that no ViT of ours has; they are named.
    """
    adapted: list[str] = []
    transformers = hugging_face.has_its_names(state)  # which always has a position for the class token
    if transformers:
        state = hugging_face.official_names(state)
        adapted.append("names of Hugging Face")
    elif clip.is_open_clip(state):
        state = clip.timm_names(state)
        adapted.append("names of OpenAI's CLIP")
    refuse_strange(state)
    source = next(source for source in SOURCES if source.matches(state))
    state, fields = one_layout(source.ours(dict(state), adapted), adapted)
    _give_class_position(state, adapted, image_size, source.name == "timm" and not transformers)
    return Named(source, state, adapted, fields)


def _give_class_position(state: State, adapted: list[str], image_size: tuple[int, int] | None, may_lack: bool) -> None:
    """Add the zero position that some (DeiT III, DINOv2 with registers in timm) leave out for their class token.

    Where the input is not known, a square number of positions is taken for those of the patches alone.
    """
    table, kernel = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if table is None or kernel is None or kernel.ndim != 4 or "cls_token" not in state:
        return
    count = table.shape[1]
    if image_size is not None:
        lacking = count == math.prod(side // kernel.shape[-1] for side in image_size)
    else:
        lacking = may_lack and round(count**0.5) ** 2 == count
    if lacking:
        state["pos_embed"] = torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)
        adapted.append("zero position given to the class token")


def refuse_strange(state: State) -> None:
    """Refuse networks of another kind.

    Raises:
        UserError: Says which kind.
    """
    vit = {"patch_embed.proj.weight", "blocks.0.norm1.weight"} <= state.keys()
    own = ("blocks.", "patch_embed.", "rel_pos_bias")
    for name in state:
        if vit and not name.startswith(own):  # a decoder, a head, another tower
            continue
        if part := next((part for part in STRANGE if part in name), None):
            raise UserError(f"not a plain ViT: the checkpoint has {STRANGE[part]}, as {name}, which our ViT has not.")


def recognise(state: State) -> str:
    """Name of the source that a state dict has, judged by its names."""
    return under_our_names(state).source.name
