"""What an adapter says of one source of checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .reading import State

# Input statistics that most sources were trained with (three channels), where the file does not say.
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def unchanged(state: State, adapted: list[str]) -> State:
    """For sources that use our names."""
    return state


@dataclass(frozen=True)
class Source:
    """One source of checkpoints.

    Attributes:
        name: As reports and encoder cards call it.
        matches: Whether a state dict has its names.
        ours: The state dict under our names; what that changes is added to a list, in words.
        fields: Fields of `Architecture` that the shapes of the tensors do not tell.
        statistics: Mean and standard deviation that three channels of pixels in 0..1 are normalised with.
    """

    name: str
    matches: Callable[[State], bool]
    ours: Callable[[State, list[str]], State] = unchanged
    fields: dict = field(default_factory=dict)
    statistics: Statistics = IMAGENET_STATISTICS
