"""MAE (He et al. 2022) and the thorax-MAE (Xiao et al. 2023), pre-trained and fine-tuned: our names already."""

from .reading import State
from .source import Source

MAE = Source("mae", lambda state: not {"decoder_pred.weight", "decoder.decoder_pred.weight"}.isdisjoint(state))
# The thorax paper fine-tunes with the 14 findings of ChestX-ray14 and normalises every channel alike (util/datasets.py
# of its code). Files fine-tuned on other data have the same names and another number of classes.
THORAX_MAE = Source(
    "thorax-mae",
    lambda state: _fine_tuned(state) and _classes(state) == 14,
    statistics=((0.5056,) * 3, (0.252,) * 3),
    assumed="the 14 classes taken for the findings of ChestX-ray14",
)
MAE_FINETUNED = Source("mae", lambda state: _fine_tuned(state) and _classes(state) != 14)


def _fine_tuned(state: State) -> bool:
    """Return whether it is a ViT with a class token that pools the mean of its tokens, and nothing that MAE has not."""
    other = {"reg_token", "blocks.0.ls1.gamma", "blocks.0.gamma_1", "norm_pre.weight", "blocks.0.attn.q_bias"}
    return {"fc_norm.weight", "pos_embed", "cls_token"} <= state.keys() and other.isdisjoint(state)


def _classes(state: State) -> int:
    return len(state["head.weight"]) if "head.weight" in state else 0
