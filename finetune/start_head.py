"""What a fine-tuning takes from a checkpoint beside the encoder: the norm after the pooling, and a head."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import UserError

if TYPE_CHECKING:  # lists of tables hold heads and need no torch
    from torch import Tensor, nn

NORM = ("fc_norm.weight", "fc_norm.bias")
HEAD = ("head.weight", "head.bias")


@dataclass(frozen=True)
class StartHead:
    """Which classes of a checkpoint's head the labels are.

    Attributes:
        classes: Of the checkpoint's head.
        rows: The row of each label.
    """

    classes: int
    rows: tuple[int, ...]

    def of(self, state: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Return `head.weight` and `head.bias` of the labels; empty where a state dict has no head of `classes`."""
        if any(name not in state or len(state[name]) != self.classes for name in HEAD):
            return {}
        return {name: state[name][list(self.rows)] for name in HEAD}


def take_over(model: "nn.Module", path: str | Path, head: StartHead | None) -> str:
    """Set norm and head of a classifier from the checkpoint that its encoder came from.

    As the official codes do: the norm after the pooling (`fc_norm`) is taken wherever both have one of the same width.
    The head of other labels is not.

    Args:
        model: The classifier.
        path: The checkpoint; a folder holds neither.
        head: Which of its classes the labels are; None where they are others.

    Returns:
        What was taken, in words; empty for nothing.

    Raises:
        UserError: The head is for another number of labels.
    """
    from torch.nn import LayerNorm

    from ..backbone.weights import read_checkpoint
    from .classifier import Classifier

    if not isinstance(model, Classifier) or not Path(path).is_file():
        return ""
    state, own = read_checkpoint(path), model.state_dict()
    taken = {name: state[name] for name in NORM if name in state and name in own}
    if not isinstance(model.fc_norm, LayerNorm) or any(taken[name].shape != own[name].shape for name in taken):
        taken = {}
    words = ["the norm after the pooling"] if taken else []
    if head is not None and (rows := head.of(state)):
        if rows["head.weight"].shape != own["head.weight"].shape:
            raise UserError(f"{path}: its head serves {len(head.rows)} labels; there are {len(own['head.bias'])} here.")
        taken |= rows
        words.append(f"the head, {len(head.rows)} of its {head.classes} classes")
    model.load_state_dict(taken, strict=False)
    return " and ".join(words)
