"""Official aggregator weights of DSMIL, Self-ViT-MIL and CLAM, loaded by their keys; sizes are read from the file."""

import re
from pathlib import Path

import torch
from torch import Tensor

from ..backbone.weights import State, read_checkpoint
from ..core.errors import UserError
from .clam import Clam
from .dsmil import DualStream

OLD, NEW = "b_classifier.q.weight", "b_classifier.q.0.weight"
GATE = re.compile(r"^attention_net\.[23]\.attention_([abc])(?:\.0)?\.(weight|bias)$")
GATES = {"a": "v", "b": "u", "c": "w"}


def official_kind(state: State) -> str | None:
    """Return `dsmil`, `self_vit_mil`, `clam_sb` or `clam_mb`, as recipes name it, by the tensors' names; else None.

    Args:
        state: From `read_checkpoint`.
    """
    names = {name.removeprefix("module.") for name in state}
    if "i_classifier.fc.0.weight" in names:
        return "self_vit_mil" if OLD in names else "dsmil"
    if "attention_net.0.weight" in names:
        return "clam_sb" if "classifiers.weight" in names else "clam_mb"
    return None


def load_official_dsmil(path: str | Path) -> DualStream:
    """Return the aggregator of an official weight file of DSMIL or Self-ViT-MIL, in eval mode.

    Raises:
        UserError: The file is no such weights, or of a variant that is not built (a value layer beside the new query).
    """
    state = _read(path)
    key = OLD if OLD in state else NEW
    needed = (key, "i_classifier.fc.0.weight", "b_classifier.fcc.weight")
    if missing := [name for name in needed if name not in state]:
        raise UserError(f"{path}: no {missing[0]} in it: not aggregator weights of DSMIL or Self-ViT-MIL.")
    if key == NEW and "b_classifier.v.1.weight" in state:
        raise UserError(f"{path}: trained with passing_v, a variant that neither paper uses and is not built here.")
    (attention, width), classes = state[key].shape, len(state["i_classifier.fc.0.weight"])
    return _set(DualStream(width, classes, attention=attention, linear=key == OLD), state, path)


def load_official_clam(path: str | Path) -> Clam:
    """Return the aggregator of an official weight file of CLAM with gated attention, in eval mode.

    Of the two logits of each instance classifier only their margin is kept (see `Clam`).

    Raises:
        UserError: The file is no such weights.
    """
    given = _read(path)
    state: dict[str, Tensor] = {
        f"attention.{GATES[match[1]]}.{match[2]}": value for name, value in given.items() if (match := GATE.match(name))
    }
    try:
        hidden, width = given["attention_net.0.weight"].shape
        state |= {f"embed.0.{name}": given[f"attention_net.0.{name}"] for name in ("weight", "bias")}
        branches = "classifiers.weight" not in given
        state["heads"], state["bias"] = _rows(given, branches)
        classes, attention = len(state["bias"]), len(state["attention.v.weight"])
        margins = [given[f"instance_classifiers.{c}.{name}"].diff(dim=0) for name in ("weight", "bias")
                   for c in range(classes)]  # fmt: skip
    except KeyError as error:
        raise UserError(f"{path}: no {error.args[0]} in it: not aggregator weights of CLAM (gated).") from None
    state["instances.weight"], state["instances.bias"] = torch.cat(margins[:classes]), torch.cat(margins[classes:])
    return _set(Clam(width, classes, hidden, attention, branches), state, path)


def _rows(given: State, branches: bool) -> tuple[Tensor, Tensor]:
    """Return weights (C, W) and biases (C) of the bag classifier, or of those of the branches."""
    if not branches:
        return given["classifiers.weight"], given["classifiers.bias"]
    count = max(1, sum(name.startswith("classifiers.") and name.endswith(".weight") for name in given))
    weight, bias = (torch.cat([given[f"classifiers.{c}.{name}"] for c in range(count)]) for name in ("weight", "bias"))
    return weight, bias


def _read(path: str | Path) -> State:
    return {name.removeprefix("module."): value for name, value in read_checkpoint(path).items()}


def _set(model: DualStream | Clam, state: State, path: str | Path):
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit together ({' '.join(str(error).split())[:200]}).") from None
    return model.eval()
