"""Masked pre-training from a manifest to an encoder folder."""

from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from ..backbone.encoder import EncoderCard, save_encoder
from ..backbone.vit import ViT
from ..datasets.cache import open_pixels
from ..datasets.loading import Cases, TrainBatches, readable_rows, reading_workers, train_loader
from ..datasets.recipe import for_channels
from ..datasets.tables import Manifest
from ..datasets.views import TrainView
from ..engine.recipe import plain
from ..engine.run_folder import rank, run_folder, versions
from ..engine.trainer import fit
from ..engine.training import Training
from ..errors import UserError
from ..files import written_aside
from .mae import MaskedAutoencoder
from .masking import Masks, draw_masks
from .pictures import reconstruction_sheet
from .recipe import Pretrain


class MaskedPretraining(Training):
    """Training of a masked autoencoder; a mask is drawn for the whole batch over all processes, then shared out."""

    def __init__(self, mae: MaskedAutoencoder, recipe: Pretrain, dataset: Cases, ids: list[str]):
        mean, std = statistics(recipe)
        super().__init__(
            mae, recipe.optim, recipe.run, ids=ids, mean=mean, std=std,
            depth=mae.encoder.arch.depth,
        )  # fmt: skip
        self.recipe, self.dataset = recipe, dataset

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        self.masks = self.draw_masks(len(batch["row"]), self.generator(index))
        return super().training_step(batch, index)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        pixels = batch["image"].float() / 255
        # VideoMAE makes its target of the pixels as they were before they were normalised.
        target_of = pixels if self.recipe.target == "channel" else None
        return self.model(self.normalised(pixels), self.masks, target_of).loss

    def draw_masks(self, batch: int, generator: torch.Generator) -> Masks:
        """The masks of this process's share of the batch."""
        world = self.trainer.world_size
        return recipe_masks(self.recipe, batch * world, generator).share(self.global_rank, world)

    def train_dataloader(self):
        optim = self.recipe.optim
        batches = TrainBatches(
            len(self.dataset), optim.batch_size // optim.accumulate, self.recipe.run.seed, self.global_rank,
            self.trainer.world_size,
        )  # fmt: skip
        return train_loader(self.dataset, batches, reading_workers(self.recipe.run.workers))


class ShowReconstructions(Callback):
    """Keep `reconstructions.png` up to date: the same cases and masks, ten times over the training."""

    def __init__(self, folder: Path, cases: int):
        self.path, self.cases = folder / "reconstructions.png", cases

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: MaskedPretraining) -> None:
        done = trainer.current_epoch + 1
        if trainer.is_global_zero and (done % max(1, trainer.max_epochs // 10) == 0 or done == trainer.max_epochs):
            self.draw(pl_module)

    def draw(self, training: MaskedPretraining) -> None:
        """Rebuild the first cases under a fixed mask."""
        dataset = training.dataset
        batch = dataset.__getitems__([(row, 0) for row in range(min(self.cases, len(dataset)))])
        one_of_each = batch["image"][:: dataset.view.repeats].to(training.device)
        x = training.pixels({"image": one_of_each})
        # All that is hidden is rebuilt here, whatever share of it training takes.
        masks = recipe_masks(replace(training.recipe, decode_ratio=1.0), len(x), torch.Generator(training.device))
        model = training.final_model
        was_training = model.training
        sheet = reconstruction_sheet(model.eval(), x, masks)
        model.train(was_training)
        with written_aside(self.path) as aside:
            Image.fromarray(sheet).save(aside)


def pretrain(recipe: Pretrain, manifest: Manifest, out: Path, cache_folder: Path) -> Path:
    """Pre-train and write `out/encoder/`.

    Args:
        recipe: The resolved recipe.
        manifest: The cases; labels are never looked at.
        out: The run folder. A run that was interrupted there goes on.
        cache_folder: Where decoded pictures are kept.

    Returns:
        The encoder folder.
    """
    chosen = manifest.rows(*recipe.data.splits)
    if not len(chosen):
        raise UserError(f"{manifest.path}: no case in the splits {', '.join(recipe.data.splits)} (data.splits).")
    mae = build_mae(recipe)
    with run_folder(out, recipe, {"data": chosen.fingerprint()}) as folder:
        model = recipe.model
        pixels = open_pixels(
            chosen.files(), recipe.data, cache_folder, frames=model.frames, size_px=model.image_size,
            workers=reading_workers(recipe.run.workers, True),
        )  # fmt: skip
        rows, bad = readable_rows(pixels, range(len(chosen)), recipe.run.max_bad, str(manifest.path))
        view = TrainView(recipe.augment, recipe.data.clip, model.frames)
        dataset = Cases(pixels, rows, view, max_bad=recipe.run.max_bad)
        training = MaskedPretraining(mae, recipe, dataset, chosen.table["id"].tolist())
        pictures = ShowReconstructions(folder, cases=6 if model.frames == 1 else 3)
        fit(training, recipe.optim, recipe.run, folder, "pre-training", callbacks=[pictures])
        if rank() == 0:
            pictures.draw(training)
            card = _card(recipe, mae, manifest, chosen, bad)
            return save_encoder(folder / "encoder", training.final_model.encoder, card)
    return out / "encoder"


def recipe_masks(recipe: Pretrain, batch: int, generator: torch.Generator) -> Masks:
    """The masks of a batch, drawn as the recipe says."""
    return draw_masks(
        recipe.model.architecture().grid, batch, generator, mask=recipe.mask, mask_ratio=recipe.mask_ratio,
        decoder_mask=recipe.decoder_mask, decode_ratio=recipe.decode_ratio, rebuild_visible=recipe.rebuild_visible,
    )  # fmt: skip


def build_mae(recipe: Pretrain) -> MaskedAutoencoder:
    """The model of a recipe, with its random start decided by the seed."""
    if recipe.augment.size != recipe.model.image_size:
        raise UserError(
            f"augment.size {recipe.augment.size} and model.image_size {recipe.model.image_size} differ: set both."
        )
    torch.manual_seed(recipe.run.seed)
    try:
        arch = recipe.model.architecture()
        # Masks that cannot be drawn are an error of the request, not of the first step.
        recipe_masks(recipe, 1, torch.Generator())
        encoder = ViT(arch, drop_path=recipe.model.drop_path, checkpoint_blocks=recipe.model.checkpoint_blocks)
        return MaskedAutoencoder(encoder, recipe.decoder, recipe.target)
    except ValueError as error:
        raise UserError(str(error)) from None


def statistics(recipe: Pretrain) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for the model's channels."""
    channels = recipe.model.channels
    return for_channels(recipe.data.mean, channels), for_channels(recipe.data.std, channels)


def _card(
    recipe: Pretrain, mae: MaskedAutoencoder, manifest: Manifest, chosen: Manifest, bad: list[str]
) -> EncoderCard:
    data = {
        "manifest": manifest.fingerprint(),
        "splits": list(recipe.data.splits),
        "cases": len(chosen),
        "patients": int(chosen.table["patient"].nunique()),
        "unreadable": len(bad),
    }
    return EncoderCard(mae.encoder.arch, *statistics(recipe), "mae", plain(recipe), data, versions())
