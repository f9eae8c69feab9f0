"""Pre-training and fine-tuning from Python: what the command does, with parts of one's own where that helps.

`clinvit.pretrain` and `clinvit.finetune` name these functions. They stand above the rooms because they give the objects
of `clinvit.api`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import Dataset

from .api import Aggregator, Classifier, Encoder, Network, load
from .core.errors import UserError
from .datasets.loading.own import OwnPixels, own_manifest
from .datasets.manifest.tables import Manifest
from .engine.hooks import Hooks
from .finetune.model import OWN
from .finetune.recipe import Finetune
from .mil.recipe import Mil
from .pretrain.recipe import PretrainRecipe
from .stages.data import CACHE_GB
from .stages.finetune import finetune_stage
from .stages.pretrain import pretrain_stage
from .stages.units import Asked

if TYPE_CHECKING:
    from .eval.units import Rule

Place = str | os.PathLike
Data = Place | Manifest | Dataset


def pretrain(
    recipe: PretrainRecipe,
    *,
    data: Data,
    out: Place,
    encoder: Place | Encoder | None = None,
    transform: Callable[[np.ndarray], Any] | None = None,
    callbacks: Sequence[Callback] = (),
    tiles: Place | None = None,
    cache: Place | None = None,
    cache_gb: float = CACHE_GB,
    reports: Place | None = None,
    text_encoder: Place | None = None,
) -> Encoder:
    """Pre-train an encoder; repeated in the same folder, an interrupted run goes on.

    Args:
        recipe: Of any method, such as `clinvit.tasks.thorax.recipes.pretrain_vit_s()`.
        data: A manifest, its folder or file, or a `Dataset` of one's own (`clinvit.datasets.loading.own`).
        out: The run folder.
        encoder: What to start from: an encoder, its folder, or a checkpoint; None is a random start.
        transform: Of training images (`clinvit.engine.hooks.Hooks`).
        callbacks: Lightning's.
        tiles: Of slides: folder of tile coordinates.
        cache: Folder of decoded files, or URL of shards; None lies beside the manifest or `out`.
        cache_gb: Of shards: how much of them is kept on this machine.
        reports: Of a recipe that reads reports: a table or a folder of text files; None is the column `report`.
        text_encoder: Of such a recipe: folder of a text encoder of transformers.

    Raises:
        UserError: The recipe, the data or the folder do not fit; the message says how to mend it.
    """
    hooks = Hooks(transform=transform, callbacks=callbacks)
    place: Path | str | OwnPixels | None = _cache(cache)
    cases = data if isinstance(data, Manifest | Dataset) else Path(data)
    if isinstance(cases, Dataset):
        _refuse_places(tiles=tiles, cache=cache)
        place = OwnPixels([cases], recipe.model.channels, recipe.model.frames)
        cases = own_manifest({"train": cases}, recipe.data.labels if recipe.reads_labels else ())
    return Encoder(
        pretrain_stage(
            recipe, cases, Path(out), place, None if tiles is None else Path(tiles), cache_gb,
            encoder=_weights(encoder), hooks=hooks, reports=None if reports is None else Path(reports),
            text_encoder=None if text_encoder is None else Path(text_encoder),
        )
    )  # fmt: skip


def finetune(
    recipe: Finetune | Mil,
    *,
    data: Data,
    out: Place,
    encoder: Place | Encoder | Network | None = None,
    network: str | nn.Module | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    transform: Callable[[np.ndarray], Any] | None = None,
    callbacks: Sequence[Callback] = (),
    val: Dataset | None = None,
    test: Dataset | None = None,
    features: Place | None = None,
    rule: str = "youden",
    calibrate: str | None = None,
    cache: Place | None = None,
    cache_gb: float = CACHE_GB,
    unit: str | None = None,
    unit_rule: "Rule" = None,
) -> Classifier | Aggregator:
    """Fine-tune a classifier, then choose its thresholds, and calibrate it if asked, on the validation cases.

    The folder `out/model` holds the model and `out/predictions.csv` its scores of validation and test cases. A network
    that is a module of one's own is not stored, only its weights are: `clinvit.load(out, network=...)`.

    Args:
        recipe: Such as `clinvit.tasks.thorax.recipes.finetune_vit_s()`.
        data: A manifest, its folder or file, or the training cases as a `Dataset` (`clinvit.datasets.loading.own`).
        out: The run folder.
        encoder: What to start from: an encoder, its folder, or a checkpoint; None is a random start.
        network: A name for the recipe's `network` (`vit`, any of timm's), or a module (`Hooks`).
        loss: (logits, target) to a scalar (`Hooks`).
        transform: Of training images (`Hooks`).
        callbacks: Lightning's.
        val: Validation cases, where `data` is a `Dataset`.
        test: Test cases, likewise.
        features: Of slides: folder of the features that an aggregator is trained on.
        rule: For the thresholds.
        calibrate: `temperature` or `platt`, None to leave the scores as they are.
        cache: As of `pretrain`.
        cache_gb: As of `pretrain`.
        unit: `study`, `patient` or `case`, at which thresholds and calibration are chosen and predictions written; None
            for single images, clips or slides.
        unit_rule: How the scores of a unit's images become its own: `max`, `mean`, `noisy-or`, one by label, or of a
            recipe of bags `learned` (`multi_view` learns it unasked).

    Raises:
        UserError: The recipe, the data or the folder do not fit; the message says how to mend it.
    """
    own = network if isinstance(network, nn.Module) else None
    hooks = Hooks(own, loss, transform, tuple(callbacks))
    place: Path | str | OwnPixels | None = _cache(cache)
    cases = data if isinstance(data, Manifest | Dataset) else Path(data)
    if isinstance(recipe, Mil):
        if network is not None or hooks != Hooks() or isinstance(data, Dataset):
            raise UserError("a Dataset, network, loss, transform and callbacks are for images and clips, not for bags.")
    elif network is not None:
        recipe = replace(recipe, network=network if isinstance(network, str) else OWN)
    if isinstance(cases, Dataset):
        assert isinstance(recipe, Finetune)
        _refuse_places(features=features, cache=cache)
        given = {"train": cases, "val": val, "test": test}
        parts = {split: dataset for split, dataset in given.items() if dataset is not None}
        place = OwnPixels(list(parts.values()), recipe.model.channels, recipe.model.frames)
        cases = own_manifest(parts, recipe.data.labels)
    elif val is not None or test is not None:
        raise UserError("val and test belong to a Dataset as data; a manifest has its own splits.")
    folder = finetune_stage(
        recipe, cases, Path(out), encoder=_weights(encoder), cache=place, cache_gb=cache_gb,
        features=None if features is None else Path(features), rule=rule, calibrate=calibrate, hooks=hooks,
        units=Asked(unit, unit_rule),
    )  # fmt: skip
    model = load(folder, network=own)
    assert isinstance(model, Classifier | Aggregator)
    return model


def _cache(cache: Place | None) -> Path | str | None:
    """Return a URL of shards as text and a folder as a path, which is how the stages tell them apart."""
    return None if cache is None else str(cache) if "://" in str(cache) else Path(cache)


def _weights(encoder: Place | Encoder | Network | None) -> Path | None:
    """Return the file or folder of an encoder."""
    if encoder is None:
        return None
    return encoder.path if isinstance(encoder, Encoder | Network) else Path(encoder)


def _refuse_places(**places: Place | None) -> None:
    """Refuse what is for files where the data are a `Dataset`."""
    for name, place in places.items():
        if place is not None:
            raise UserError(f"{name} is for a manifest's files, and data is a Dataset: leave it out.")
