"""Pre-training without its data: what `--estimate` measures."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..engine.training import Training
from ..engine.workload import Workload
from .dino_training import DinoPretraining, build_dino
from .masked import MaskedPretraining, build_mae
from .recipe import Dino, Pretrain
from .sources import Source


def workload(recipe: Pretrain | Dino, cases: int) -> Workload:
    """The pre-training of a recipe on random pixels.

    Args:
        recipe: The resolved recipe.
        cases: Cases of an epoch: images, clips or tiles.
    """

    def make(recompute: bool, device: str) -> Training:
        asked = replace(recipe, model=replace(recipe.model, checkpoint_blocks=recompute))
        source = Source(None, np.arange(cases), range(cases), [], None)
        with torch.device(device):
            model = build_dino(asked) if isinstance(recipe, Dino) else build_mae(asked)
        return (DinoPretraining if isinstance(recipe, Dino) else MaskedPretraining)(model, asked, source)

    def batch(count: int) -> dict[str, Tensor]:
        model, crops = recipe.model, getattr(recipe, "crops", None)
        side = (model.image_size, model.image_size)
        if crops is not None:
            shapes = {"image": (count, 2, model.channels, *side)}
            if crops.local_crops:
                shapes["local"] = (count, crops.local_crops, model.channels, crops.local_px, crops.local_px)
        elif model.frames > 1:
            shapes = {"image": (count * recipe.data.clip.repeats, model.channels, model.frames, *side)}
        else:
            shapes = {"image": (count, model.channels, *side)}
        batch = {name: torch.randint(256, shape, dtype=torch.uint8) for name, shape in shapes.items()}
        return batch | {"row": torch.zeros(len(batch["image"]), dtype=torch.int64)}

    return Workload(make, batch, cases, recipe.optim, recipe.run, recipe.model.checkpoint_blocks)
