"""Training of features on the unit sphere, by the terms of `sphere` beside the loss of the labels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UserError
from .sphere import alignment, alike, slerp, uniformity
from .training import FineTuning


class SphereTraining(FineTuning):
    """Training with alignment, uniformity and cases on the arc between two alike.

    Pairs are those of a process: over several, smaller batches make fewer.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        if self.recipe.optim.batch_size < 2:
            raise UserError("alignment, uniformity and slerp are of pairs: set --optim.batch_size 2 or more.")

    def label_loss(self, x: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of labels, of cases between two alike as well, and the two terms of the sphere."""
        model, recipe = self.model, self.recipe
        z = model.fc_norm(model.features(x, self.visible(len(x)))).float()
        same = alike(batch["target"])
        value = self.criterion(model.head(model.head_drop(z)), target)
        if recipe.slerp and (more := self._between(z, same)) is not None:
            between, rows = more
            value = value + recipe.slerp * self.criterion(model.head(model.head_drop(between)), target[rows])
        if recipe.alignment:
            value = value + recipe.alignment * alignment(z, same)
        if recipe.uniformity:
            value = value + recipe.uniformity * uniformity(z)
        return value

    def _between(self, z: Tensor, same: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return cases on the way to one alike, drawn at random, and their rows; None where none are alike."""
        rows = same.any(dim=1).nonzero().flatten()
        if not len(rows):
            return None
        order = torch.rand(len(z), len(z), generator=self.draw).to(z.device)
        partner = (order * same).argmax(dim=1)[rows]
        t = torch.rand(len(z), generator=self.draw).to(z.device)[rows]
        return slerp(z[rows], z[partner], t), rows
