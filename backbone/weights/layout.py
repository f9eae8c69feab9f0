"""One layout for the parts of a block, whichever way its makers keep them: joined `qkv`, joined halves of gated MLPs.

Gated MLPs keep gate and value in one matrix `mlp.fc1`, the gate first. What is joined or filled in gives the same
numbers.
"""

import re

import torch

from .reading import State

# What others call the parts of a block, tried one after the other.
NAMES = (
    (r"\.gamma_([12])$", r".ls\1.gamma"),
    (r"\.attn\.inner_attn_ln\.", ".attn.norm."),
    (r"\.mlp\.ffn_ln\.", ".mlp.norm."),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.(w1|gate_proj)\.", ".mlp.fc1_g."),
    (r"\.mlp\.up_proj\.", ".mlp.fc1_x."),
    (r"\.mlp\.(w3|down_proj)\.", ".mlp.fc2."),
)
# Tables that are made from sizes; what is stored is of one input size.
MADE = re.compile(r"^(rope\.(freqs_cos|freqs_sin|cosines|sines)|rope_embed\.periods|.*attn\.rope\..*)$")


def one_layout(state: State, adapted: list[str]) -> tuple[State, dict]:
    """Return a state dict whose blocks have timm's plain layout, and fields of `Architecture` that this showed.

    Args:
        state: Names as timm's, apart from the parts of a block.
        adapted: What is changed is added, in words.
    """
    state = {_renamed(name, state): value for name, value in state.items() if not MADE.match(name)}
    fields: dict = {}
    _join_queries(state, fields, adapted)
    _join_biases(state, fields, adapted)
    _join_halves(state, adapted)
    if "reg_token" in state and not state["reg_token"].numel():
        state.pop("reg_token")  # transformers' DINOv3 without registers
    _distilled(state, adapted)
    _fill_biases(state, adapted)
    return state, fields


def gate_first(state: State) -> State:
    """Return a state dict whose gated MLPs have the gate first, of one that has it last."""
    out = dict(state)
    for name, value in state.items():
        if re.search(r"\.mlp\.fc1\.(weight|bias)$", name):
            first, last = value.chunk(2)
            out[name] = torch.cat([last, first])
    return out


def _renamed(name: str, state: State) -> str:
    if not name.startswith("blocks."):
        return name
    # EVA's w2 is the second half of the gated MLP, DINOv2's w12 both.
    name = re.sub(r"\.mlp\.w2\.", ".mlp.fc1_x.", name)
    for old, new in NAMES:
        name = re.sub(old, new, name)
    return name


def _join_queries(state: State, fields: dict, adapted: list[str]) -> None:
    """Join `q_proj`, `k_proj` and `v_proj`; the key's bias may be missing."""
    queries = [name for name in state if name.startswith("blocks.") and ".attn.q_proj." in name]
    for name in queries:
        others = [name.replace(".q_proj.", f".{part}_proj.") for part in "kv"]
        query, value = state.pop(name), state.pop(others[1])
        if others[0] not in state:
            fields["key_bias"] = False
        key = state.pop(others[0], None)
        key = torch.zeros_like(query) if key is None else key
        state[name.replace(".q_proj.", ".qkv.")] = torch.cat([query, key, value])
    if queries:
        adapted.append("queries, keys and values joined")


def _join_biases(state: State, fields: dict, adapted: list[str]) -> None:
    """Join biases of queries and values; the key's, which there is none of, is zero."""
    biases = [name for name in state if name.endswith("attn.q_bias")]
    for name in biases:
        query, value = state.pop(name), state.pop(name.replace("q_bias", "v_bias"))
        state.pop(name.replace("q_bias", "k_bias"), None)
        state[name.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
    if biases:
        fields["key_bias"] = False
        adapted.append("query and value biases joined")
    masked = [name for name in state if name.endswith("attn.qkv.bias_mask")]
    for name in masked:  # DINOv3's own code
        state.pop(name)
        bias = state[name.removesuffix("_mask")].clone()
        bias[len(bias) // 3 : 2 * len(bias) // 3] = 0
        state[name.removesuffix("_mask")] = bias
    if masked:
        fields["key_bias"] = False
        adapted.append("biases of keys, which are masked, are zero")


def _join_halves(state: State, adapted: list[str]) -> None:
    gates = [name for name in state if ".mlp.fc1_g." in name]
    for name in gates:
        gate, value = state.pop(name), state.pop(name.replace("fc1_g", "fc1_x"))
        state[name.replace("fc1_g", "fc1")] = torch.cat([gate, value])
    if gates:
        adapted.append("both halves of gated MLPs joined")


def _distilled(state: State, adapted: list[str]) -> None:
    """Make a register of DeiT's distillation token: it takes part in the same way and is not given back."""
    if "dist_token" not in state:
        return
    token, table = state.pop("dist_token"), state["pos_embed"]
    state["reg_token"] = token + table[:, 1:2]
    state["pos_embed"] = torch.cat([table[:, :1], table[:, 2:]], dim=1)
    adapted.append("the distillation token is a register")


def _fill_biases(state: State, adapted: list[str]) -> None:
    """Give zero biases to matmuls that have none but those of queries, keys and values."""
    parts = r"^(patch_embed\.proj|blocks\.\d+\.(attn\.proj|mlp\.fc[12]))\.weight$"
    bare = [name for name in state if re.match(parts, name) and name.replace("weight", "bias") not in state]
    for name in bare:
        state[name.replace("weight", "bias")] = state[name].new_zeros(len(state[name]))
    if bare:
        adapted.append(f"{len(bare)} missing biases are zero")
