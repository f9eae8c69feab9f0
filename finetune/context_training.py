"""Training of a head that knows of contexts: each case asks the head of its own, and teaches which context it is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .losses import known_mean
from .training import FineTuning


class ContextTraining(FineTuning):
    """Training of a `ContextHead`.

    Args:
        contexts: (N,) the place of the context of each row of the manifest, -1 for none.
        arguments: Of `FineTuning`.
    """

    def __init__(self, contexts: np.ndarray, *arguments: Any):
        super().__init__(*arguments)
        self.contexts = torch.from_numpy(contexts)

    def label_loss(self, x: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of labels given the context, or mixed where it is unknown, and of the contexts."""
        model = self.model
        features = model.features(x, self.visible(len(x)))
        seen = model.head_drop(model.fc_norm(features))
        contexts, labels = model.head.parts(seen)
        place = self.contexts[batch["row"].cpu()].to(x.device)
        known = place >= 0
        own = labels[torch.arange(len(x), device=x.device), place.clamp(min=0)].float()
        logits = torch.where(known.unsqueeze(1), own, model.head(seen))
        which = F.cross_entropy(contexts.float(), place.clamp(min=0), reduction="none")
        return self.criterion(logits, target) + known_mean(which * known, known)
