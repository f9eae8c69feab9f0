"""Fine-tuning without its data: what `--estimate` and `check --recipe` measure."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from ..backbone.encoder import EncoderCard
from ..core.errors import UserError
from ..datasets.manifest.tables import Manifest, truth_width
from ..engine.training import Training
from ..engine.workload import Workload
from .adaptation import adapt
from .classifier import Classifier
from .dense.run import check_dense, drawing_card, drawing_recipe
from .dense.training import Drawing
from .model import build_model
from .new_card import make_card
from .recipe import Finetune
from .starts import NetworkStart
from .training import FineTuning

# Of a data set that is not there: its number of labels costs next to nothing.
NO_CASES = Manifest(Path("none"), pd.DataFrame(columns=["id", "path", "patient", "split", "label"]), ("label",))


def workload(
    recipe: Finetune, cases: int, manifest: Manifest = NO_CASES, start: EncoderCard | NetworkStart | None = None
) -> Workload:
    """Return the fine-tuning of a recipe on random pixels, from random weights.

    Args:
        recipe: The resolved recipe.
        cases: Cases of an epoch.
        manifest: Its labels count, not its cases.
        start: Card of the encoder that it starts from.

    Raises:
        UserError: The recipe does not fit the encoder or itself, or trains nothing (k-NN).
    """
    if recipe.mode == "knn":
        raise UserError("mode 'knn' trains nothing: there is nothing to estimate.")
    recipe = replace(recipe, contexts=())  # a head per context costs next to nothing, and asks for cases
    if recipe.target != "labels":
        check_dense(recipe, manifest)
        recipe, _ = drawing_recipe(recipe)
    card = make_card(recipe, manifest, start)
    if recipe.target != "labels":
        card = drawing_card(recipe, card)

    def make(recompute: bool, device: str) -> Training:
        # Without memory from the start; MONAI's Swin transformer reads numbers while it is made.
        with torch.device(device if recipe.network == "vit" else "cpu"):
            model = build_model(card, recipe.model.drop_path, recompute, recipe.head_drop).to(device)
        adapt(model, recipe)
        if isinstance(model, Classifier) and isinstance(model.fc_norm, nn.BatchNorm1d):
            # Of one case there is no variance; the cost is the same.
            model.fc_norm = nn.LayerNorm(model.fc_norm.num_features, elementwise_affine=False)
        # Mixing costs next to nothing, and asks for numbers that a dry run does not have.
        kind = Drawing if card.dense else FineTuning
        return kind(model, replace(recipe, mixup=0.0, cutmix=0.0), card, range(cases), (), range(cases), None)

    def batch(count: int) -> dict[str, Tensor]:
        model, side = recipe.model, recipe.model.image_size * recipe.scales[-1]
        count *= recipe.data.clip.repeats if model.frames > 1 else 1
        shape = (count, model.channels, *[model.frames] * (model.frames > 1), side, side)
        target = torch.zeros(count, truth_width(card.asked))
        target[:, 0] = 1
        image, row = torch.randint(256, shape, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
        truth = {"truth": torch.zeros(count, len(card.labels), side, side, dtype=torch.uint8)} if card.dense else {}
        return {"image": image, "target": target, "row": row} | truth

    recompute = recipe.model.checkpoint_blocks if recipe.network == "vit" else None
    return Workload(make, batch, cases, recipe.optim, recipe.run, recompute)
