"""Training of a masked autoencoder from its recipe."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..backbone.sizes import Architecture
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..core.pixels import unit_range
from ..datasets.loading.loaders import View
from ..datasets.transforms.views import TrainView
from .mae import MaskedAutoencoder, load_decoder
from .masking import Masks, draw_masks
from .method import Method, refuse_other_size
from .parts import whole_state
from .recipe import Pretrain
from .sheets import reconstruction_sheet


class MaskedPretraining(Method[Pretrain]):
    """Train a masked autoencoder.

    Masks are drawn for the whole batch, over all its parts and processes, then shared out: neither number changes a
    mask.
    """

    name, image = "mae", "reconstructions.png"

    @classmethod
    def build(cls, recipe: Pretrain, arch: Architecture | None = None) -> MaskedAutoencoder:
        """Return the model of a recipe, with its random start decided by the seed."""
        refuse_other_size(recipe.augment, recipe.model)
        torch.manual_seed(recipe.run.seed)
        try:
            arch = arch or recipe.model.architecture()
            # Masks that cannot be drawn are an error of the request, not of the first step.
            masks = recipe_masks(recipe, 1, torch.Generator())
            if masks.target_ids.shape[1] == 0 or masks.visible_ids.shape[1] == math.prod(arch.grid):
                raise UserError(f"mask_ratio {recipe.mask_ratio:g} masks none of {math.prod(arch.grid)} patches.")
            encoder = ViT(arch, drop_path=recipe.model.drop_path, checkpoint_blocks=recipe.model.checkpoint_blocks)
            return MaskedAutoencoder(encoder, recipe.decoder, recipe.target)
        except ValueError as error:
            raise UserError(str(error)) from None

    @classmethod
    def start_from(cls, model: nn.Module, path: Path) -> str:
        """Set the encoder and, where the checkpoint has one of the same sizes, the decoder."""
        assert isinstance(model, MaskedAutoencoder)
        return f"{super().start_from(model, path)}; decoder: {load_decoder(model, whole_state(path))}"

    @classmethod
    def view(cls, recipe: Pretrain) -> View:
        """Return what crops and flips."""
        return TrainView(recipe.augment, recipe.data.clip, recipe.model.frames)

    @property
    def shardable(self) -> bool:
        """Whether `run.strategy` fsdp can train it."""
        return self.ema is None

    def begin(self, batch: dict[str, Tensor], index: int) -> None:
        """Draw the masks."""
        self.masks = self.draw_masks(len(batch["row"]), index)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch under its masks."""
        pixels = unit_range(batch["image"])
        # VideoMAE makes its target of the pixels as they were before they were normalised.
        target_of = pixels if self.recipe.target == "channel" else None
        loss = self.model(self.normalised(pixels), self.masks, target_of).loss
        return loss if self.weight is None else loss * self.weight.to(loss.dtype)

    def draw_masks(self, cases: int, index: int) -> Masks:
        """Draw the masks of one part of a batch (`optim.accumulate`), of it this process's share.

        Running cells may count more tokens in some clips than in others. `weight` is this share of the tokens over
        its share of the cases, so that the mean over the parts and processes is the mean over all tokens.
        """
        step, part = divmod(index, self.optim.accumulate)
        world = self.trainer.world_size
        shares = world * self.optim.accumulate
        whole = recipe_masks(self.recipe, cases * shares, self.generator(step))
        own = whole.share(part * world + self.global_rank, shares)
        self.weight: Tensor | None = None
        if shares > 1 and own.loss_mask is not None and whole.loss_mask is not None:
            self.weight = own.loss_mask.sum().double() * shares / whole.loss_mask.sum()
        return own

    def sheet(self) -> np.ndarray:
        """Return a few cases reconstructed under a fixed mask, (height, width) uint8."""
        positions = self.evenly(6 if self.recipe.model.frames == 1 else 3)
        batch = self.dataset.__getitems__([(position, 0) for position in positions])
        one_of_each = batch["image"][:: self.sample_shapes(self.recipe)["image"][0]].to(self.device)
        x = self.pixels({"image": one_of_each})
        # All that is masked is reconstructed here, whatever share of it training takes.
        masks = recipe_masks(replace(self.recipe, decode_ratio=1.0), len(x), torch.Generator(self.device))
        model = self.final_model
        assert isinstance(model, MaskedAutoencoder)
        was_training = model.training
        sheet = reconstruction_sheet(model.eval(), x, masks)
        model.train(was_training)
        return sheet


def recipe_masks(recipe: Pretrain, batch: int, generator: torch.Generator) -> Masks:
    """Draw the masks of a batch as the recipe says."""
    return draw_masks(
        recipe.model.architecture().grid, batch, generator, mask=recipe.mask, mask_ratio=recipe.mask_ratio,
        decoder_mask=recipe.decoder_mask, decode_ratio=recipe.decode_ratio,
        reconstruct_visible=recipe.reconstruct_visible,
    )  # fmt: skip
