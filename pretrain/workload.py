"""Pre-training without its data: what `--estimate` measures."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.loading.source import Source
from ..engine.training import Training
from ..engine.workload import Workload
from .method import encoder_of, method_of
from .recipe import PretrainRecipe
from .start import Parent, freeze


def workload(recipe: PretrainRecipe, cases: int, parent: Parent | None = None) -> Workload:
    """Return the pre-training of a recipe on random pixels.

    Args:
        recipe: The resolved recipe.
        cases: Cases of an epoch: images, clips or tiles.
        parent: The encoder that it goes on from, whose weights are left aside.
    """
    method = method_of(recipe)

    def make(recompute: bool, device: str) -> Training:
        asked = replace(recipe, model=replace(recipe.model, checkpoint_blocks=recompute))
        unread: Any = None
        ids: Any = range(cases)  # never shown
        source = Source(unread, np.arange(cases), ids, {}, unread)
        with torch.device(device):
            model = method.build(asked) if parent is None else method.build(asked, parent.arch)
            freeze(encoder_of(model), asked, parent)
        return method(model, asked, source)

    return Workload(
        make, partial(random_batch, recipe), cases, recipe.optim, recipe.run, recipe.model.checkpoint_blocks
    )


def random_batch(recipe: PretrainRecipe, cases: int) -> dict[str, Tensor]:
    """Return a batch of random pixels, with the names and shapes of the loader's."""
    shapes = method_of(recipe).sample_shapes(recipe)
    batch = {
        name: torch.randint(256, (cases * shape[0], *shape[1:]), dtype=torch.uint8) for name, shape in shapes.items()
    }
    return batch | {"row": torch.zeros(len(batch["image"]), dtype=torch.int64)}
