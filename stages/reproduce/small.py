"""A recipe made small for phantoms: size, image, epochs, batch and rate shrink; what a row is about stays as it is.

Mask ratio, crop range, layer decay, RandAugment, drop path, network, pooling, aggregator, stain and tissue are never
touched, so that a table on phantoms runs through the very settings that it compares.
"""

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

from ...backbone.sizes import Model
from ...datasets.settings import Data
from ...datasets.slides.settings import Tiling
from ...engine.recipe import Optim, Run
from ...finetune.recipe import Finetune, View
from ...mil.extract_recipe import Extract
from ...mil.recipe import Mil
from ...pretrain.recipe import Decoder, Dino, Head, Pretrain, PretrainRecipe

SIZES = {"micro": "micro", "mini": "micro", "tiny": "micro", "small": "micro"}  # every larger one becomes `mini`
DECODER = (64, 1, 4)  # width, depth, heads
PEAK = 1e-3  # least peak rate, which so few steps need
VIT_PEAKS = {"pretrain": 2e-3, "finetune": 4e-3}  # of ViTs; in fine-tuning the layer decay takes most of it away again
VOLUMES = {"senet154": 64}  # least side that a network takes, px; the others take 48
VOLUME_PX, VOLUME_FRAMES = 48, 16
SMOKE_BATCH = 16  # at most, for a few cases to fill it


@dataclass(frozen=True)
class Scale:
    """How small.

    Attributes:
        image_px: Side of images, pixels.
        clip_px, tile_px: Side of frames and of tiles.
        frames: Frames of a clip, at most.
        pretrain_epochs, finetune_epochs, cnn_epochs: Lengths, of images.
        clip_epochs: Epochs of pre-training and of fine-tuning on clips.
        dino_epochs, mil_epochs, volume_epochs: Of the other trainings.
        tiles_per_slide: Tiles of each slide in an epoch.
    """

    image_px: int = 48
    clip_px: int = 64
    tile_px: int = 64
    frames: int = 8
    pretrain_epochs: int = 30
    finetune_epochs: int = 30
    cnn_epochs: int = 8
    clip_epochs: int = 6
    dino_epochs: int = 2
    mil_epochs: int = 30
    volume_epochs: int = 6
    tiles_per_slide: int = 64


SCALE = Scale()


@singledispatch
def small(recipe: Any, scale: Scale = SCALE) -> Any:
    """Return the small version of a recipe.

    Args:
        recipe: A recipe of any stage.
        scale: How small.
    """
    raise AssertionError(f"no small version of {type(recipe).__name__}")


@small.register
def _(recipe: PretrainRecipe, scale: Scale = SCALE) -> PretrainRecipe:
    """Shrink what all methods have; one with more to shrink is registered below."""
    px = scale.tile_px if recipe.tiles_per_slide else _px(recipe.model, scale)
    epochs = scale.clip_epochs if recipe.model.frames > 1 else scale.pretrain_epochs
    return replace(
        recipe,
        **({"tiles_per_slide": scale.tiles_per_slide} if recipe.tiles_per_slide else {}),
        model=_model(recipe.model, px, scale.frames),
        data=_data(recipe.data, px),
        optim=_optim(recipe.optim, epochs, 64, VIT_PEAKS["pretrain"]),
        run=_run(recipe.run),
    )


@small.register
def _(recipe: Pretrain, scale: Scale = SCALE) -> Pretrain:
    recipe = small.dispatch(PretrainRecipe)(recipe, scale)
    decoder = Decoder(*DECODER, embed_bias=recipe.decoder.embed_bias)
    return replace(recipe, decoder=decoder, augment=replace(recipe.augment, size=recipe.model.image_size))


@small.register
def _(recipe: Finetune, scale: Scale = SCALE) -> Finetune:
    if recipe.network != "vit" and recipe.model.frames > 1:
        return _volume(recipe, scale)
    px, vit = _px(recipe.model, scale), recipe.network == "vit"
    epochs = scale.finetune_epochs if vit else scale.cnn_epochs
    epochs, peak = scale.clip_epochs if recipe.model.frames > 1 else epochs, VIT_PEAKS["finetune"] if vit else PEAK
    return replace(
        recipe,
        eval_every=max(1, epochs // 4),
        model=_model(recipe.model, px, scale.frames),
        data=_data(recipe.data, px, recipe.scales[-1]),
        augment=replace(recipe.augment, size=px),
        view=_view(recipe.view, recipe.model.image_size, px),
        optim=_optim(recipe.optim, epochs, 16, peak),
        run=_run(recipe.run),
    )


@small.register
def _(recipe: Dino, scale: Scale = SCALE) -> Dino:
    # So short a run needs a quicker teacher and centre than the paper's; at 0.996 and 0.9 hardly anything moves.
    return replace(
        recipe,
        momentum=0.92,
        centre_momentum=0.5,
        tiles_per_slide=recipe.tiles_per_slide and scale.tiles_per_slide,
        head=Head(out_dim=512, hidden=256, bottleneck=64),
        crops=replace(recipe.crops, local_px=scale.tile_px // 2, local_crops=2),
        model=_model(recipe.model, scale.tile_px),
        data=_data(recipe.data, scale.tile_px),
        optim=_optim(recipe.optim, scale.dino_epochs, 64),
        run=_run(recipe.run),
    )


@small.register
def _(recipe: Tiling, scale: Scale = SCALE) -> Tiling:
    return replace(recipe, tile_um=float(scale.tile_px), tile_px=scale.tile_px, overlap_um=0.0, min_tissue=0.5)


@small.register
def _(recipe: Extract, scale: Scale = SCALE) -> Extract:
    return replace(recipe, batch_size=64)


@small.register
def _(recipe: Mil, scale: Scale = SCALE) -> Mil:
    return replace(recipe, optim=_optim(recipe.optim, scale.mil_epochs, 1), run=_run(recipe.run))


def shortest(recipe: Any) -> Any:
    """Return a recipe with one epoch in small batches, for a try on real data; one that trains nothing is the same."""
    if not hasattr(recipe, "optim"):
        return recipe
    batch = min(recipe.optim.batch_size, SMOKE_BATCH)
    optim = replace(recipe.optim, epochs=1, warmup_epochs=0, batch_size=batch, accumulate=1)
    return replace(recipe, optim=optim, **({"eval_every": 1} if hasattr(recipe, "eval_every") else {}))


def _volume(recipe: Finetune, scale: Scale) -> Finetune:
    px = VOLUMES.get(recipe.network, VOLUME_PX)
    return replace(
        recipe,
        model=replace(recipe.model, image_size=px, frames=VOLUME_FRAMES),
        data=replace(recipe.data, cache_px=px),
        augment=replace(recipe.augment, size=px),
        optim=_optim(recipe.optim, scale.volume_epochs, 8),
        run=_run(recipe.run),
    )


def _px(model: Model, scale: Scale) -> int:
    return scale.clip_px if model.frames > 1 else scale.image_px


def _model(model: Model, px: int, frames: int = 1) -> Model:
    clips = model.frames > 1
    return replace(
        model,
        size=SIZES.get(model.size, "mini"),
        image_size=px,
        patch_size=16 if clips else 8,
        frames=min(model.frames, frames),
        checkpoint_blocks=False,
    )


def _data(data: Data, px: int, finest: int = 1) -> Data:
    return replace(data, cache=True, cache_px=round(px * 256 / 224) * finest)


def _view(view: View, before_px: int, px: int) -> View:
    return view if view.resize_px is None else replace(view, resize_px=round(view.resize_px * px / before_px))


def _optim(optim: Optim, epochs: int, batch: int, least: float = PEAK) -> Optim:
    """Return fewer epochs and a small batch at the same peak rate, or at the least one that so few steps need."""
    peak = max(optim.base_lr * optim.batch_size / 256, least)
    epochs, batch = min(epochs, optim.epochs), min(batch, optim.batch_size)
    return replace(
        optim,
        epochs=epochs,
        warmup_epochs=optim.warmup_epochs * epochs / optim.epochs,
        batch_size=batch,
        base_lr=peak * 256 / batch,
        accumulate=1,
    )


def _run(run: Run) -> Run:
    return replace(run, precision="auto", workers=0, checkpoint_minutes=0.25, compile=False, max_bad=0.2)
