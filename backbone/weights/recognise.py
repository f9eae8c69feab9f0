"""Which source a checkpoint has, and its tensors under our names."""

from typing import NamedTuple

from . import hugging_face
from .dino import DINO, DINO_V2, DINO_V2_REGISTERS
from .mae import MAE, MAE_FINETUNED, THORAX_MAE
from .reading import State
from .source import Source
from .timm import TIMM
from .videomae import VIDEOMAE

# The first that matches is it.
SOURCES = (VIDEOMAE, MAE, DINO_V2, DINO_V2_REGISTERS, MAE_FINETUNED, THORAX_MAE, DINO, TIMM)


class Named(NamedTuple):
    """A state dict under our names.

    Attributes:
        source: Where it comes from.
        state: Its tensors.
        adapted: What was changed on the way, in words.
    """

    source: Source
    state: State
    adapted: list[str]


def under_our_names(state: State) -> Named:
    """Return any known source's state dict under our names, which are timm's."""
    adapted = []
    if any(name.endswith("embeddings.patch_embeddings.projection.weight") for name in state):
        state = hugging_face.official_names(state)
        adapted.append("names of Hugging Face")
    source = next(source for source in SOURCES if source.matches(state))
    return Named(source, source.ours(dict(state), adapted), adapted)


def recognise(state: State) -> str:
    """Name of the source that a state dict has, judged by its names."""
    return under_our_names(state).source.name
