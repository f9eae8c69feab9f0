"""Weights of a timm network from a checkpoint of the same network: supervised, or the encoder of MoCo, BYOL, SwAV."""

import re
from pathlib import Path

from torch import Tensor

from ..backbone.weights import LoadReport, fold_channels, read_checkpoint
from ..core.errors import UserError
from .classifier import TimmClassifier

# torchvision's published DenseNets name their layers as PyTorch 0.3 did.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def load_network(model: TimmClassifier, path: Path, head: bool = False) -> LoadReport:
    """Set a timm network's weights from a checkpoint file, whatever prefix its names have; every tensor must be found.

    Args:
        model: The classifier.
        path: A safetensors or PyTorch file; no code in it is run.
        head: Also take the last layer, which must have the model's number of labels; else it stays as it is.

    Raises:
        UserError: Not a checkpoint, or not of this network.
    """
    expected = {name: tensor for name, tensor in model.network.state_dict().items() if head or not is_head(model, name)}
    state = {OLD_DENSENET.sub(r"\1\2.", name): tensor for name, tensor in read_checkpoint(path).items()}
    # Checkpoints older than PyTorch 0.4 do not count batches; the count matters to no result.
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    prefix = _prefix(state, needed, path)
    loaded = {name: state[prefix + name] for name in expected if prefix + name in state}
    adapted = []
    for name in needed:
        shape = expected[name].shape
        if loaded[name].shape[1:2] != shape[1:2] and len(shape) == 4 and loaded[name].shape[1] in (1, 3):
            loaded[name] = fold_channels(loaded[name], shape[1])
            adapted.append(f"{name} folded to {shape[1]} channel(s)")
        if loaded[name].shape != shape:
            raise UserError(
                f"{path}: {prefix}{name} is {tuple(loaded[name].shape)}, in the network {tuple(shape)}. Give a "
                "checkpoint of this very network."
            )
    model.network.load_state_dict(loaded, strict=False)
    used = {prefix + name for name in loaded}
    return LoadReport("timm", len(loaded), tuple(adapted), tuple(name for name in state if name not in used))


def is_head(model: TimmClassifier, name: str) -> bool:
    """Return whether a tensor of the network belongs to its last layer."""
    return name.startswith(f"{model.network.pretrained_cfg['classifier']}.")


def head_size(model: TimmClassifier, state: dict[str, Tensor]) -> int:
    """Return the number of outputs of a checkpoint's last layer; 0 where it has none."""
    weights = [t for name, t in state.items() if name.endswith(f"{model.network.pretrained_cfg['classifier']}.weight")]
    return len(weights[0]) if weights else 0


def _prefix(state: dict[str, Tensor], needed: set[str], path: Path) -> str:
    """Return what precedes the network's names in the file; of several copies (MoCo) the first in the file."""
    first = min(needed)
    for prefix in dict.fromkeys(name.removesuffix(first) for name in state if name.endswith(first)):
        missing = sorted(name for name in needed if prefix + name not in state)
        if not missing:
            return prefix
    known = ", ".join(list(state)[:3])
    raise UserError(f"{path}: not a checkpoint of this network: it has no {first}, or not all the rest ({known}, ...).")
