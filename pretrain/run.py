"""Masked pre-training from a manifest to an encoder folder."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from ..backbone.encoder import EncoderCard, save_encoder
from ..backbone.vit import ViT
from ..datasets.augment import build_train
from ..datasets.cache import build_cache
from ..datasets.loading import PictureDataset, TrainBatches, readable_rows, reading_workers, train_loader
from ..datasets.recipe import for_channels
from ..datasets.tables import Manifest
from ..engine.recipe import plain
from ..engine.run_folder import rank, run_folder, versions
from ..engine.trainer import fit
from ..engine.training import Training
from ..errors import UserError
from ..files import written_aside
from .mae import MaskedAutoencoder
from .masking import decoder_masking, noise, random_masking
from .pictures import reconstruction_sheet
from .recipe import Pretrain


class MaskedPretraining(Training):
    """Training of a masked autoencoder; a mask is drawn for the whole batch over all processes, then shared out."""

    def __init__(self, mae: MaskedAutoencoder, recipe: Pretrain, dataset: PictureDataset, ids: list[str]):
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
        return self.model(self.pixels(batch), *self.masks).loss

    def draw_masks(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`visible_ids` and `target_ids` of this process's share of the batch."""
        slots, rows, columns = self.model.encoder.arch.grid
        world = self.trainer.world_size
        draw = noise(batch * world, slots * rows * columns, generator)
        visible, hidden = random_masking(draw.chunk(world)[self.global_rank], self.recipe.mask_ratio)
        return visible, decoder_masking(hidden, self.recipe.decode_ratio)

    def train_dataloader(self):
        optim = self.recipe.optim
        batches = TrainBatches(
            len(self.dataset), optim.batch_size // optim.accumulate, self.recipe.run.seed, self.global_rank,
            self.trainer.world_size,
        )  # fmt: skip
        return train_loader(self.dataset, batches, reading_workers(self.recipe.run.workers))


class ShowReconstructions(Callback):
    """Keep `reconstructions.png` up to date: the same pictures and masks, ten times over the training."""

    def __init__(self, folder: Path, pictures: int = 6):
        self.path, self.pictures = folder / "reconstructions.png", pictures

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: MaskedPretraining) -> None:
        done = trainer.current_epoch + 1
        if trainer.is_global_zero and (done % max(1, trainer.max_epochs // 10) == 0 or done == trainer.max_epochs):
            self.draw(pl_module)

    def draw(self, training: MaskedPretraining) -> None:
        """Rebuild the first pictures under a fixed mask."""
        dataset = training.dataset
        batch = dataset.__getitems__([(row, 0) for row in range(min(self.pictures, len(dataset)))])
        x = training.pixels({"image": batch["image"].to(training.device)})
        slots, rows, columns = training.model.encoder.arch.grid
        draw = noise(len(x), slots * rows * columns, torch.Generator(training.device).manual_seed(0))
        model = training.final_model
        was_training = model.training
        sheet = reconstruction_sheet(model.eval(), x, *random_masking(draw, training.recipe.mask_ratio))
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
        cache = build_cache(
            chosen.files(), cache_folder, recipe.data.cache_px, reading_workers(recipe.run.workers, True)
        )
        rows, bad = readable_rows(cache, range(len(chosen)), recipe.run.max_bad, str(manifest.path))
        dataset = PictureDataset(cache, rows, build_train(recipe.augment))
        training = MaskedPretraining(mae, recipe, dataset, chosen.table["id"].tolist())
        pictures = ShowReconstructions(folder)
        fit(training, recipe.optim, recipe.run, folder, "pre-training", callbacks=[pictures])
        if rank() == 0:
            pictures.draw(training)
            card = _card(recipe, mae, manifest, chosen, bad)
            return save_encoder(folder / "encoder", training.final_model.encoder, card)
    return out / "encoder"


def build_mae(recipe: Pretrain) -> MaskedAutoencoder:
    """The model of a recipe, with its random start decided by the seed."""
    if recipe.augment.size != recipe.model.image_size:
        raise UserError(
            f"augment.size {recipe.augment.size} and model.image_size {recipe.model.image_size} differ: set both."
        )
    torch.manual_seed(recipe.run.seed)
    try:
        arch = recipe.model.architecture()
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
