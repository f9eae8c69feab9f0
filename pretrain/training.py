"""What both methods of pre-training share: batches of the source, and images of what is learned."""

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor, nn

from ..backbone.vit import ViT
from ..core.files import written_aside
from ..datasets.loading.loaders import Cases, TrainBatches, View, reading_workers, train_loader
from ..datasets.loading.shards.batches import ShardBatches
from ..datasets.settings import for_channels
from ..datasets.slides.batches import TileBatches
from ..datasets.transforms.views import EvalView
from ..engine.training import Training
from .recipe import Dino, Pretrain
from .sources import Source


class Pretraining(Training):
    """Base of both methods; a subclass gives `loss(batch)`, `image` and `sheet()`.

    Args:
        model: What is trained; its `encoder` is the ViT.
        recipe: The resolved recipe.
        source: The cases.
        view: How they are drawn.
    """

    image = ""

    def __init__(self, model: nn.Module, recipe: Pretrain | Dino, source: Source, view: View):
        mean, std = statistics(recipe)
        super().__init__(
            model, recipe.optim, recipe.run, ids=source.ids, mean=mean, std=std, depth=model.encoder.arch.depth
        )  # fmt: skip
        self.recipe, self.source = recipe, source
        self.dataset = Cases(source.pixels, source.rows, view, max_bad=recipe.run.max_bad)

    def sheet(self) -> np.ndarray:
        """(height, width[, 3]) uint8 image of what is learned by now."""
        raise NotImplementedError

    @property
    def kept(self) -> ViT:
        """The encoder to keep."""
        return self.final_model.encoder

    def train_dataloader(self):
        optim, run = self.recipe.optim, self.recipe.run
        part, world = optim.batch_size // optim.accumulate, self.trainer.world_size
        share = (part, run.seed, self.global_rank, world, optim.accumulate)
        if self.source.windowed:
            batches = ShardBatches(self.source.pixels, self.source.rows, *share)
        elif self.source.slides is None:
            batches = TrainBatches(len(self.dataset), *share)
        else:
            batches = TileBatches(self.source.pixels.counts, self.recipe.tiles_per_slide, *share)
        batches.done = self.done
        return train_loader(self.dataset, batches, reading_workers(run.workers))

    def still(self, rows: np.ndarray) -> Tensor:
        """(B, C, S, S) uint8 on the device: places of the data set without augmentation."""
        view = EvalView(self.recipe.model.image_size, "squash", None, self.recipe.data.clip, 1)
        cases = Cases(self.dataset.source, self.dataset.rows, view, max_bad=1.0)
        return cases.__getitems__([(int(row), 0) for row in rows])["image"].to(self.device)

    def spread(self, count: int) -> np.ndarray:
        """At most `count` places of the data set, evenly over it, or over its first shard where not all fit here."""
        places = np.arange(len(self.dataset))
        if self.source.windowed:
            shards = self.source.pixels.shard_of[self.source.rows]
            places = places[shards == shards.min()]
        return places[np.unique(np.linspace(0, len(places) - 1, count).astype(int))]


class ShowImage(Callback):
    """Keep an image of what is learned up to date: the same cases, ten times over the training."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Pretraining) -> None:
        if pl_module.whole:
            return  # this process holds a share of the weights alone
        done = trainer.current_epoch + 1
        if trainer.is_global_zero and (done % max(1, trainer.max_epochs // 10) == 0 or done == trainer.max_epochs):
            self.draw(pl_module)

    def draw(self, training: Pretraining) -> None:
        """Write it."""
        with written_aside(self.folder / training.image) as aside:
            Image.fromarray(training.sheet()).save(aside)


def statistics(recipe: Pretrain | Dino) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for the model's channels."""
    channels = recipe.model.channels
    return for_channels(recipe.data.mean, channels), for_channels(recipe.data.std, channels)
