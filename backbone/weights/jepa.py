"""V-JEPA 2 (Assran et al. 2025), whose files hold no positions; I-JEPA's files hold plain ViTs with theirs."""

from ..sizes import Rotary
from .reading import State
from .source import Source
from .videomae import of_clips

ROTARY = Rotary("clip")


def _matches(state: State) -> bool:
    return of_clips(state) and "pos_embed" not in state and "cls_token" not in state


V_JEPA_2 = Source(
    "vjepa2",
    _matches,
    fields={"positions": "none", "rotary": ROTARY, "image_size": (256, 256)},
    assumed="rotary positions as V-JEPA 2's",
)
