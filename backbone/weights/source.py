"""What an adapter says of one source of checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ..sizes import IMAGENET_STATISTICS
from .reading import State

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def unchanged(state: State, adapted: list[str]) -> State:
    """Return the state dict of sources that use our names."""
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
        assumed: Which of this its names leave open, in words; "" where they leave no doubt.
        head_width: Channels of a head at widths that are no published size of ours; 0 where they vary.
        heads: Attention heads by width, where they are others than those of our sizes.
    """

    name: str
    matches: Callable[[State], bool]
    ours: Callable[[State, list[str]], State] = unchanged
    fields: dict = field(default_factory=dict)
    statistics: Statistics = IMAGENET_STATISTICS
    assumed: str = ""
    head_width: int = 0
    heads: dict[int, int] = field(default_factory=dict)
