"""What a run of fine-tuning reads: all cases, and of them those that it trains, looks and is judged on."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import UserError
from ..datasets.loading.loaders import Cases, View
from ..datasets.loading.own import Transformed
from ..datasets.loading.readers import Reader, make_reader
from ..datasets.loading.shards.pixels import Shards
from ..datasets.loading.source import Place, Source, open_files
from ..datasets.manifest.tables import Manifest
from ..datasets.transforms.views import TrainView
from ..engine.hooks import Hooks
from .dense.run import Truth
from .idle import LOOKED_AT
from .model import ModelCard
from .recipe import Finetune

if TYPE_CHECKING:
    from .distil import Distillation


class Sets:
    """The training and validation sets of a run: the cases of which at least one label is known."""

    def __init__(
        self, recipe: Finetune, card: ModelCard, source: Source, hooks: Hooks, teaching: "Distillation | None",
        truth: Truth | None,
    ):  # fmt: skip
        manifest, max_bad = source.manifest, recipe.run.max_bad
        targets = manifest.truth().astype(np.float32)
        self.truth = truth
        val, _ = source.readable(np.flatnonzero((manifest.table["split"] == "val") & known_cases(manifest, truth)), 1.0)
        still = card.views().single()
        augment = replace(recipe.augment, size=recipe.augment.size * card.scales[-1])
        drawn: View = TrainView(augment, recipe.data.clip, card.arch.frames)
        if hooks.transform is not None:
            drawn = Transformed(drawn, hooks.transform, card.arch.channels, card.arch.frames)
        self.source = source
        if truth is not None:
            self.train = truth.train_set(source, targets, max_bad)
        elif teaching is None:
            self.train = Cases(source.pixels, source.rows, drawn, targets, max_bad)
        else:
            self.train = teaching.dataset(source, drawn, targets, max_bad)
        self.still = Cases(source.pixels, source.rows, still, targets, max_bad)
        some = np.unique(np.linspace(0, len(source.rows) - 1, LOOKED_AT).astype(int)) if recipe.idle else []
        self.some = Cases(source.pixels, source.rows[some], still, max_bad=1.0)
        if truth is not None:
            self.val = truth.val_set(source, val, card, targets)
        else:
            self.val = Cases(source.pixels, val, still, targets, max_bad=1.0)


def reader_of(recipe: Finetune, card: ModelCard) -> Reader:
    """Return what makes pixels of the files of a recipe."""
    return make_reader(
        recipe.data.clip, frames=card.arch.frames, size_px=card.arch.image_size[0], cache_px=recipe.data.cache_px,
        channels=card.arch.channels, least_px=card.least_px(),
    )  # fmt: skip


def open_source(
    recipe: Finetune, card: ModelCard, manifest: Manifest, cache: Place, truth: Truth | None, unlabelled: bool
) -> Source:
    """Open all cases; those to train on are readable cases of the training splits.

    Unless the `unlabelled` teach, too, at least one label of them is known.
    """
    wanted = manifest.table["split"].isin(recipe.data.splits)
    rows = np.flatnonzero(wanted if unlabelled else wanted & known_cases(manifest, truth))
    run = recipe.run
    source = open_files(
        manifest, cache, reader_of(recipe, card), recipe.data, workers=run.workers, max_bad=run.max_bad, rows=rows
    )  # fmt: skip
    if source.windowed and isinstance(cache, Shards):
        raise UserError(f"--cache-gb {cache.bound_gb:g}: fine-tuning takes shards only where all of them fit here.")
    return source


def known_cases(manifest: Manifest, truth: Truth | None) -> np.ndarray:
    """Return of which cases at least one label is known, or where it is."""
    return ~np.isnan(manifest.truth()).all(axis=1) if truth is None else truth.known
