"""A method of pre-training: what a run, its card and its estimate ask of it. A new one is a subclass and its recipe."""

from pathlib import Path
from pkgutil import resolve_name
from typing import ClassVar, Generic, TypeVar, cast

import numpy as np
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..backbone.encoder import load_encoder
from ..backbone.sizes import Architecture, Model
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..core.files import written_aside
from ..datasets.loading.loaders import Cases, View, reading_workers, train_loader
from ..datasets.loading.shards.pixels import ShardPixels
from ..datasets.loading.source import Source
from ..datasets.settings import for_channels
from ..datasets.transforms.augment import Augment
from ..datasets.transforms.views import EvalView
from ..engine.training import Training
from .recipe import PretrainRecipe

R = TypeVar("R", bound=PretrainRecipe)


class Method(Training, Generic[R]):
    """Base of all methods; a subclass gives the class attributes, `build`, `view`, `loss` and `sheet`.

    Args:
        model: What is trained, as `build` made it; its `encoder` is the ViT.
        recipe: The resolved recipe.
        source: The cases.

    Attributes:
        name: The method as the encoder's card names it.
        image: File name of the image that `sheet` draws.
    """

    name: ClassVar[str]
    image: ClassVar[str]

    def __init__(self, model: nn.Module, recipe: R, source: Source):
        mean, std = statistics(recipe)
        super().__init__(
            model, recipe.optim, recipe.run, ids=source.ids, mean=mean, std=std, depth=encoder_of(model).arch.depth
        )  # fmt: skip
        self.recipe, self.source = recipe, source
        self.dataset = Cases(source.pixels, source.rows, self.view(recipe), max_bad=recipe.run.max_bad)

    @classmethod
    def build(cls, recipe: R, arch: Architecture | None = None) -> nn.Module:
        """Return the model of a recipe, with its random start decided by the seed.

        Args:
            recipe: The resolved recipe.
            arch: Of the encoder that training goes on from; None for what the recipe says.

        Raises:
            UserError: The recipe does not fit itself.
        """
        raise NotImplementedError

    @classmethod
    def start_from(cls, model: nn.Module, path: Path) -> str:
        """Set the weights of what `build` made from an encoder or a whole checkpoint; return what was taken, in words.

        A subclass takes more than the encoder where the checkpoint has it. What is not taken stays random.
        """
        return str(load_encoder(encoder_of(model), path))

    @classmethod
    def view(cls, recipe: R) -> View:
        """Return what makes training samples of the pixels of a case."""
        raise NotImplementedError

    @classmethod
    def callbacks(cls, recipe: R, source: Source) -> list[Callback]:
        """Return what else is done during training; none by default."""
        return []

    @classmethod
    def sample_shapes(cls, recipe: R) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what `view` makes of a case, by name; the first axis is samples of the case."""
        model = recipe.model
        side = (model.image_size, model.image_size)
        if model.frames > 1:
            return {"image": (recipe.data.clip.repeats, model.channels, model.frames, *side)}
        return {"image": (1, model.channels, *side)}

    def sheet(self) -> np.ndarray:
        """Return an image of what is learned by now, (height, width[, 3]) uint8."""
        raise NotImplementedError

    def save_more(self, folder: Path) -> None:
        """Write what goes into the encoder's folder beside the encoder; nothing by default."""

    @property
    def kept(self) -> ViT:
        """The encoder to keep."""
        return encoder_of(self.final_model)

    def train_dataloader(self) -> DataLoader:
        """Return this process's shuffled batches."""
        batches = self.source.batches(self.share, self.recipe.tiles_per_slide)
        return train_loader(self.dataset, batches, reading_workers(self.run.workers), self.done)

    def without_augmentation(self, positions: np.ndarray) -> Tensor:
        """Return cases of the data set as they are, (B, C, S, S) uint8 on the device."""
        view = EvalView(self.recipe.model.image_size, "squash", None, self.recipe.data.clip, 1)
        cases = Cases(self.dataset.source, self.dataset.rows, view, max_bad=1.0)
        return cases.__getitems__([(int(position), 0) for position in positions])["image"].to(self.device)

    def evenly(self, count: int) -> np.ndarray:
        """Return at most `count` positions, evenly over the data set, or over its first shard where not all fit."""
        positions = np.arange(len(self.dataset))
        pixels = self.source.pixels
        if isinstance(pixels, ShardPixels) and self.source.windowed:
            shards = pixels.shard_of[self.source.rows]
            positions = positions[shards == shards.min()]
        return positions[np.unique(np.linspace(0, len(positions) - 1, count).astype(int))]


class ShowImage(Callback):
    """Keep an image of what is learned up to date: the same cases, ten times over the training.

    The last of them, of the finished weights, is drawn by the caller when training has ended.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """Draw the image when it is due."""
        if pl_module.whole:
            return  # this process holds a share of the weights alone
        done = trainer.current_epoch + 1
        if trainer.is_global_zero and done < trainer.max_epochs and done % max(1, trainer.max_epochs // 10) == 0:
            self.draw(pl_module)

    def draw(self, training: Method) -> None:
        """Write the image."""
        with written_aside(self.folder / training.image) as aside:
            Image.fromarray(training.sheet()).save(aside, compress_level=1)  # 6 takes as long as some steps


def refuse_other_size(augment: Augment, model: Model) -> None:
    """Refuse crops of another size than the encoder's input."""
    if augment.size != model.image_size:
        raise UserError(f"augment.size {augment.size} and model.image_size {model.image_size} differ: set both.")


def encoder_of(model: nn.Module) -> ViT:
    """Return the encoder of what a method builds."""
    return cast(ViT, model.encoder)


def method_of(recipe: PretrainRecipe) -> type[Method]:
    """Return the method of a recipe."""
    return resolve_name(recipe.method) if isinstance(recipe.method, str) else recipe.method


def statistics(recipe: PretrainRecipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation for the model's channels."""
    channels = recipe.model.channels
    return for_channels(recipe.data.mean, channels), for_channels(recipe.data.std, channels)
