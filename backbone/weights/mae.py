"""MAE (He et al. 2022) and the thorax-MAE (Xiao et al. 2023), pre-trained and fine-tuned: our names already."""

from .reading import State
from .source import Source

MAE = Source("mae", lambda state: not {"decoder_pred.weight", "decoder.decoder_pred.weight"}.isdisjoint(state))
# The thorax paper normalises every channel of ChestX-ray14 alike (util/datasets.py of its code). Files fine-tuned on
# ImageNet have the same names and 1000 classes.
THORAX_MAE = Source(
    "thorax-mae",
    lambda state: {"fc_norm.weight", "pos_embed"} <= state.keys() and _classes(state) != 1000,
    statistics=((0.5056,) * 3, (0.252,) * 3),
)
MAE_FINETUNED = Source("mae", lambda state: {"fc_norm.weight", "pos_embed"} <= state.keys() and _classes(state) == 1000)


def _classes(state: State) -> int:
    return len(state["head.weight"]) if "head.weight" in state else 0
