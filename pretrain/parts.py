"""What a whole checkpoint of a pre-training holds beside its encoder: a decoder, a head, a predictor."""

from pathlib import Path

from torch import nn

from ..backbone.encoder import EncoderCard
from ..backbone.weights import State
from ..backbone.weights.checkpoint import read_named


def whole_state(path: Path) -> State:
    """Return the tensors of a checkpoint, its encoder's under our names; none of an encoder folder of ours."""
    return {} if (path / EncoderCard.card_file).is_file() else read_named(path)[0].state


def take_part(model: nn.Module, found: State, own: list[str]) -> str:
    """Set a part of a model from a checkpoint, or leave it random where that is another.

    Args:
        model: The model.
        found: The part's tensors in the checkpoint, by our names.
        own: The names of the part's tensors in the model.

    Returns:
        What became of it, in words.
    """
    if not found:
        return "new, as the file has none"
    state = model.state_dict()
    for name in own:
        if name not in found:
            return f"new, as the file's is another: it has no {name}"
        if found[name].shape != state[name].shape:
            its, ours = ("x".join(map(str, shape)) for shape in (found[name].shape, state[name].shape))
            return f"new, as the file's is another: {name} is {its} there and {ours} here"
    if more := sorted(found.keys() - set(own)):
        return f"new, as the file's is another: it has {more[0]} too"
    model.load_state_dict({name: found[name] for name in own}, strict=False)
    return "the file's"
