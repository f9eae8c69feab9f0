"""Weights of a timm network from a checkpoint of the same network: supervised, or the encoder of MoCo, BYOL, SwAV."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..backbone.weights import LoadReport, fold_channels, read_checkpoint
from ..core.errors import UserError
from .classifier import TimmClassifier
from .timm_encoder import TimmEncoder

# torchvision's published DenseNets name their layers as PyTorch 0.3 did.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def load_network(model: TimmClassifier | TimmEncoder, path: Path, head: bool = False) -> LoadReport:
    """Set a timm network's weights from a checkpoint file, whatever prefix its names have; every tensor must be found.

    Names of the network's makers are read as timm reads them, and tables of positions are fitted to the input size by
    timm's own rule.

    Args:
        model: The classifier or encoder.
        path: A safetensors or PyTorch file; no code in it is run.
        head: Also take the last layer, which must have the model's number of labels; else it stays as it is.

    Raises:
        UserError: Not a checkpoint, or not of this network.
    """
    expected = {name: tensor for name, tensor in model.network.state_dict().items() if head or not is_head(model, name)}
    state = {OLD_DENSENET.sub(r"\1\2.", name): tensor for name, tensor in read_checkpoint(path).items()}
    # Checkpoints older than PyTorch 0.4 do not count batches; the count matters to no result.
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    adapted = []
    prefix = _prefix(state, needed)
    if prefix is None:
        renamed = by_timm(model.network, state)
        prefix = _prefix(renamed, needed)
        if prefix is None:
            known = ", ".join(list(state)[:3])
            raise UserError(
                f"{path}: not a checkpoint of this network: it has no {min(needed)}, or not all the rest ({known}, "
                "...)."
            )
        state = renamed
        adapted.append("names of its makers")
    loaded = {name: state[prefix + name] for name in expected if prefix + name in state}
    for name in needed:
        shape = expected[name].shape
        if loaded[name].shape[1:2] != shape[1:2] and len(shape) == 4 and loaded[name].shape[1] in (1, 3):
            loaded[name] = fold_channels(loaded[name], shape[1])
            adapted.append(f"{name} folded to {shape[1]} channel(s)")
    if other := {name: loaded[name] for name in needed if loaded[name].shape != expected[name].shape}:
        loaded |= by_timm(model.network, other)
        adapted.append(f"{len(other)} tables fitted to the input size")
    for name in needed:
        if loaded[name].shape != expected[name].shape:
            raise UserError(
                f"{path}: {prefix}{name} is {tuple(loaded[name].shape)}, in the network {tuple(expected[name].shape)}. "
                f"Give a checkpoint of this very network.{_packed_gate(loaded)}"
            )
    model.network.load_state_dict({name: loaded[name] for name in loaded if name in expected}, strict=False)
    used = {prefix + name for name in loaded}
    return LoadReport("timm", len(loaded), tuple(adapted), tuple(name for name in state if name not in used))


def _packed_gate(state: Mapping[str, Tensor]) -> str:
    """Return what to do where MLPs of a checkpoint have two halves, one the gate of the other; else empty."""
    into, out = (state.get(f"blocks.0.mlp.fc{i}.weight") for i in (1, 2))
    if into is None or out is None or len(into) != 2 * out.shape[-1]:
        return ""
    return (
        " Its MLPs are gated (SwiGLU, both halves in fc1), which nothing beside it says: write "
        '"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU" into model_args of its config.json, if its makers say so '
        "(Virchow, Virchow2)."
    )


def by_timm(network: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as timm itself reads those of this kind of network: under its names, at its input size."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return convert(dict(state), network)
    except (KeyError, RuntimeError, ValueError, AttributeError, IndexError, TypeError):  # of another network
        return state


def is_head(model: TimmClassifier | TimmEncoder, name: str) -> bool:
    """Return whether a tensor of the network belongs to its last layer, or to one of several."""
    return any(name.startswith(f"{head}.") for head in heads_of(model.network))


def heads_of(network: Any) -> tuple[str, ...]:
    """Return the names of a timm network's last layers."""
    head = network.pretrained_cfg["classifier"]
    return (head,) if isinstance(head, str) else tuple(head or ())


def head_size(model: TimmClassifier, state: dict[str, Tensor]) -> int:
    """Return the number of outputs of a checkpoint's last layer; 0 where it has none."""
    last = tuple(f"{head}.weight" for head in heads_of(model.network))
    weights = [tensor for name, tensor in state.items() if last and name.endswith(last)]
    return len(weights[0]) if weights else 0


def _prefix(state: dict[str, Tensor], needed: set[str]) -> str | None:
    """Return what precedes the network's names in the file; of several copies (MoCo) the first in the file.

    None where not all are there.
    """
    first = min(needed)
    for prefix in dict.fromkeys(name.removesuffix(first) for name in state if name.endswith(first)):
        if all(prefix + name in state for name in needed):
            return prefix
    return None
