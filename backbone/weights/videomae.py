"""VideoMAE and VideoMAE V2 (Tong et al. 2022, Wang et al. 2023): pre-trained, fine-tuned, distilled."""

import torch

from .reading import State
from .source import Source


def join_biases(state: State) -> State:
    """Join the query and value biases that VideoMAE keeps apart; the key's, which it has not, is zero."""
    out = {}
    for name, value in state.items():
        if name.endswith("attn.q_bias"):
            v_bias = state[name.replace("q_bias", "v_bias")]
            out[name.replace("q_bias", "qkv.bias")] = torch.cat([value, torch.zeros_like(value), v_bias])
        elif not name.endswith("attn.v_bias"):
            out[name] = value
    return out


def _ours(state: State, adapted: list[str]) -> State:
    adapted.append("query and value biases joined")
    return join_biases(state)


def of_clips(state: State) -> bool:
    """Return whether patches are tubelets."""
    kernel = state.get("patch_embed.proj.weight")
    return kernel is not None and kernel.ndim == 5


def _matches(state: State) -> bool:
    return of_clips(state) and any(name.endswith("attn.q_bias") for name in state) and "pos_embed" not in state


VIDEOMAE = Source("videomae", _matches, _ours, fields={"positions": "sine1d"})
