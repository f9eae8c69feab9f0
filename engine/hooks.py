"""What a researcher brings along in Python: parts of a training that no recipe can name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn


@dataclass(frozen=True)
class Hooks:
    """Own parts of a training; None or empty is what the recipe says.

    Attributes:
        network: Of fine-tuning: (B, C, [T,] H, W) normalised input to (B, L) logits; its weights are trained on.
        loss: Of fine-tuning: (logits (B, L), target (B, L) in 0..1, NaN = unknown) to a scalar.
        transform: Of training images, before the recipe's own crops: (H, W[, 3]) uint8 to an array, tensor or PIL
            image. Its draws from `random`, NumPy and PyTorch are seeded for each sample.
        callbacks: Lightning's.
    """

    network: nn.Module | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    transform: Callable[[np.ndarray], Any] | None = None
    callbacks: Sequence[Callback] = ()

    def inputs(self) -> dict[str, str]:
        """Return the names of what decides a result: a run goes on with parts of the same names only."""
        parts = {"own_network": self.network, "own_loss": self.loss, "own_transform": self.transform}
        return {name: name_of(part) for name, part in parts.items() if part is not None}


def name_of(part: object) -> str:
    """Return module and name of a function, or of an object's class."""
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}.{named.__qualname__}"
