"""Official aggregator weights of DSMIL and Self-ViT-MIL, both generations, loaded by their keys."""

from pathlib import Path

from ...backbone.weights import read_checkpoint
from ...errors import UserError
from .dsmil import DualStream

OLD, NEW = "b_classifier.q.weight", "b_classifier.q.0.weight"


def load_official_dsmil(path: str | Path) -> DualStream:
    """The aggregator of an official weight file, in eval mode; widths, classes and generation are read from it.

    Raises:
        UserError: The file is no such weights, or of a variant that is not built (a value layer beside the new query).
    """
    state = {key.removeprefix("module."): value for key, value in read_checkpoint(path).items()}
    key = OLD if OLD in state else NEW
    needed = (key, "i_classifier.fc.0.weight", "b_classifier.fcc.weight")
    if missing := [name for name in needed if name not in state]:
        raise UserError(f"{path}: no {missing[0]} in it: not aggregator weights of DSMIL or Self-ViT-MIL.")
    if key == NEW and "b_classifier.v.1.weight" in state:
        raise UserError(f"{path}: trained with passing_v, a variant that neither paper uses and is not built here.")
    (attention, width), classes = state[key].shape, len(state["i_classifier.fc.0.weight"])
    model = DualStream(width, classes, attention=attention, linear=key == OLD)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit together ({' '.join(str(error).split())[:200]}).") from None
    return model.eval()
