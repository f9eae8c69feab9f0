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


VIDEOMAE = Source("videomae", lambda state: any(name.endswith("attn.q_bias") for name in state), _ours)
