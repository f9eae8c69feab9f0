"""Training of latent prediction from its recipe: masks, the moving average of the encoder, and the sign of collapse."""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..backbone.sizes import Architecture
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..datasets.loading.loaders import View
from ..datasets.loading.source import Source
from ..datasets.transforms.views import TrainView
from .collapse import feature_std, warn_of_collapse
from .decoder import NAMES, take_decoder
from .dino import follow
from .jepa import LatentPredictor, block_masks, chosen, latent_loss, latent_targets
from .jepa_recipe import Jepa
from .masking import Grid, Masks
from .method import Method, refuse_other_size
from .parts import whole_state
from .recipe import Decoder
from .sheets import feature_sheet


class LatentPretraining(Method[Jepa]):
    """Training of an encoder and its predictor; the target encoder, a moving average, follows after each step.

    Logged beside the loss: `loss_of_mean` (what the mean over the batch at each position would give as the prediction:
    where the loss is no lower, nothing is predicted of the case itself) and `feature_std` (of the target's mean tokens
    in a batch; near 0 all cases look alike). Masks are drawn for the whole batch, as in `MaskedPretraining`.
    """

    name, image = "jepa", "features.png"
    model: LatentPredictor

    def __init__(self, model: LatentPredictor, recipe: Jepa, source: Source):
        super().__init__(model, recipe, source)
        # Under the name by which checkpoints know what is to be kept.
        self.teacher = nn.ModuleDict({"encoder": copy.deepcopy(model.encoder)}).requires_grad_(False).eval()

    @classmethod
    def build(cls, recipe: Jepa, arch: Architecture | None = None) -> LatentPredictor:
        """Return encoder and predictor of a recipe, with their random start decided by the seed."""
        refuse_other_size(recipe.augment, recipe.model)
        torch.manual_seed(recipe.run.seed)
        size = recipe.predictor
        try:
            arch = arch or recipe.model.architecture()
            recipe_blocks(recipe, arch.grid, 1, torch.Generator())  # masks that cannot be drawn are refused now
            encoder = ViT(arch, drop_path=recipe.model.drop_path, checkpoint_blocks=recipe.model.checkpoint_blocks)
            predictor = Decoder(size.width, size.depth, size.heads, size.mlp_ratio)
            return LatentPredictor(encoder, predictor, len(recipe.blocks))
        except ValueError as error:
            raise UserError(str(error)) from None

    @classmethod
    def start_from(cls, model: nn.Module, path: Path) -> str:
        """Set the encoder and, where the checkpoint has one of the same sizes, the predictor."""
        assert isinstance(model, LatentPredictor)
        found = {name: value for name, value in whole_state(path).items() if name.startswith(NAMES)}
        report = super().start_from(model, path)
        return f"{report}; predictor: {take_decoder(model, found if 'decoder_pred.weight' in found else {})}"

    @classmethod
    def view(cls, recipe: Jepa) -> View:
        """Return what crops and flips."""
        return TrainView(recipe.augment, recipe.data.clip, recipe.model.frames)

    @property
    def final_model(self) -> nn.Module:
        """The moving average of the encoder, which is kept."""
        return self.teacher

    def begin(self, batch: dict[str, Tensor], index: int) -> None:
        """Draw the masks."""
        step, part = divmod(index, self.optim.accumulate)
        shares, world = self.trainer.world_size * self.optim.accumulate, self.trainer.world_size
        cases = len(batch["row"]) * shares
        whole = recipe_blocks(self.recipe, self.model.encoder.arch.grid, cases, self.generator(step))
        self.masks = [one.share(part * world + self.global_rank, shares) for one in whole]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch under its masks."""
        x = self.pixels(batch)
        targets = latent_targets(self.kept, x)
        away = (targets - targets.mean(dim=0)).abs()
        of_mean = [chosen(away, one.target_ids).mean() for one in self.masks]
        self.tally({"loss_of_mean": torch.stack(of_mean).mean(), "feature_std": feature_std(targets.mean(dim=1))})
        return latent_loss(self.model(x, self.masks), targets, self.masks)

    def on_train_start(self) -> None:
        """Set the rate of the first step, and begin to count steps."""
        super().on_train_start()
        self.stepped = self.global_step

    def on_train_batch_end(self, outputs, batch, batch_idx: int) -> None:
        """Let the moving average follow."""
        if self.global_step > self.stepped:  # else it was a part of a batch
            self.stepped = self.global_step
            follow(self.kept, self.model.encoder, self.recipe.momentum)

    def on_train_epoch_end(self) -> None:
        """Warn where the features have collapsed."""
        if self.trainer.is_global_zero:
            advice = "Start anew with a lower optim.base_lr or a momentum nearer to 1."
            warn_of_collapse(float(self.trainer.callback_metrics["feature_std"]), "the encoder", advice)

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Return the features of a few cases as colours, (height, width, 3) uint8."""
        positions = self.evenly(6 if self.recipe.model.frames == 1 else 3)
        batch = self.dataset.__getitems__([(position, 0) for position in positions])
        one_of_each = batch["image"][:: self.sample_shapes(self.recipe)["image"][0]].to(self.device)
        return feature_sheet(self.kept, self.pixels({"image": one_of_each}))


def recipe_blocks(recipe: Jepa, grid: Grid, batch: int, generator: torch.Generator) -> list[Masks]:
    """Draw all sets of masks of a batch as the recipe says."""
    return [
        block_masks(grid, batch, generator, blocks=blocks, area=area, ratio=recipe.block_ratio)
        for blocks, area in zip(recipe.blocks, recipe.block_area, strict=True)
    ]
