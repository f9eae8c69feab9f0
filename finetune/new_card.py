"""The card of the model that a recipe and a manifest ask for, and what of them cannot be learned."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from ..backbone.encoder import EncoderCard
from ..backbone.sizes import Architecture, Model
from ..core.errors import DataError, UserError
from ..datasets.manifest.contents import holds_of
from ..datasets.manifest.tables import Manifest
from ..datasets.settings import Clip, for_channels
from ..engine.recipe import plain
from ..engine.run_folder import versions
from .adaptation import check_mode, check_numbers
from .contexts import contexts_of
from .idle import idle_architecture
from .model import OWN, ModelCard
from .recipe import LOSSES, Finetune
from .starting_targets import answers
from .starts import NetworkStart
from .timm_network import check_name
from .training import SELECT


def check_labels(recipe: Any, manifest: Manifest, taught: Collection[str] = ()) -> None:
    """Refuse what cannot be learned: no training case, no label, a label with one value only.

    Args:
        recipe: Of the training.
        manifest: With the labels that are learned.
        taught: Labels that teachers know, of which the cases need not tell anything.

    Raises:
        UserError: Says which and what to do.
    """
    if not manifest.asked:
        raise DataError(f"{manifest.path}: no label column: there is nothing to learn. Only pre-training needs none.")
    train = manifest.rows(*recipe.data.splits)
    if not len(train):
        raise DataError(f"{manifest.path}: no case in the splits {', '.join(recipe.data.splits)}: nothing to train on.")
    if recipe.select in SELECT and recipe.mode != "knn" and not len(manifest.rows("val")):
        raise DataError(
            f"{manifest.path}: no case in the split val, so no best epoch can be chosen. Give a tenth of the patients "
            "the split val, or take the last epoch with --select last."
        )
    values = train.targets()
    for label, column in zip(manifest.labels, values.T):
        known = column[~np.isnan(column)]
        if len(np.unique(known)) < 2 and label not in taught:
            what = f"is {known[0]:.0f} in all {len(known)} known" if len(known) else "is unknown in all"
            rest = [name for name in manifest.labels if name != label]
            raise DataError(
                f"{manifest.path}: label {label!r} {what} training cases: nothing to learn. Leave it out: "
                f"--data.labels '[{', '.join(rest[:3])}{', ...' if len(rest) > 3 else ''}]'"
            )
    if recipe.loss == "ce" and not np.all(np.isnan(values).any(1) | (np.nansum(values, 1) == 1)):
        raise DataError(f"{manifest.path}: loss `ce` needs exactly one 1 per case over {', '.join(manifest.labels)}.")


def make_card(recipe: Finetune, manifest: Manifest, start: EncoderCard | NetworkStart | None) -> ModelCard:
    """Return the card of the model to come.

    With an encoder its architecture is taken over, and its mean and std where it states them: the recipe's win over
    those that are only usual for its source.
    """
    check_mode(recipe, start is not None)
    if recipe.network not in ("vit", OWN) and recipe.model.frames == 1:
        try:
            check_name(recipe.network)
        except ValueError as error:
            raise UserError(f"{error}.") from None
    for name, known in (
        ("loss", LOSSES),
        ("select", ("best", "accuracy", "last")),
    ):
        if getattr(recipe, name) not in known:
            raise UserError(f"{name} is {' or '.join(known)}, not {getattr(recipe, name)!r}.")
    if recipe.label_smoothing and recipe.loss != "ce":
        raise UserError("label_smoothing is for exclusive classes (--loss ce).")
    if recipe.head_drop and (recipe.network != "vit" or recipe.mode == "knn"):
        raise UserError("head_drop is for training a ViT; the other networks have their own.")
    if recipe.patch_drop and (recipe.network != "vit" or recipe.mode == "knn"):
        raise UserError(f"patch_drop {recipe.patch_drop:g} is for training a ViT only: set it to 0.")
    if recipe.pool == "topk" and recipe.pool_ratio is None:
        raise UserError("pool topk needs the share of the time steps to keep: set --pool_ratio (0.3 in ERDES).")
    if recipe.pool != "topk" and recipe.pool_ratio is not None:
        raise UserError(f"pool_ratio {recipe.pool_ratio:g} is for pool topk, not {recipe.pool!r}: leave it out.")
    sampling = "images" if recipe.model.frames == 1 else recipe.data.clip.sampling
    if recipe.view.segments > 1 and sampling in ("images", "uniform", "volume"):
        what = "images" if sampling == "images" else f"data.clip.sampling {sampling}"
        raise UserError(f"view.segments {recipe.view.segments}: with {what} every view is the same: set it to 1.")
    if recipe.augment.size != recipe.model.image_size:
        raise UserError(
            f"augment.size {recipe.augment.size} and model.image_size {recipe.model.image_size} differ: set both."
        )
    try:
        arch = _input_of(recipe).architecture()
        if isinstance(start, EncoderCard):
            arch = _fitted(start.arch, arch)
        if recipe.stem:
            arch = replace(arch, stem=True)
    except ValueError as error:
        raise UserError(str(error)) from None
    arch = idle_architecture(arch, recipe)
    check_numbers(recipe, arch)
    seen = recipe.data if start is None or start.assumed_statistics else start
    mean, std = for_channels(seen.mean, arch.channels), for_channels(seen.std, arch.channels)
    data = {"fingerprint": manifest.fingerprint(), "cases": manifest.table["split"].value_counts().to_dict()}
    if holds := holds_of(manifest.path):
        data["holds"] = holds
    train = manifest.rows(*recipe.data.splits)
    card = ModelCard(
        **answers(recipe, manifest),
        mode=recipe.mode,
        network=recipe.network,
        pool=recipe.pool,
        arch=arch,
        mean=mean,
        std=std,
        view=recipe.view,
        scales=recipe.scales,
        cache_px=recipe.data.cache_px,
        clip=recipe.data.clip,
        pool_ratio=1.0 if recipe.pool_ratio is None else recipe.pool_ratio,
        reference_cases=len(train) if recipe.mode == "knn" else 0,
        neighbours=recipe.neighbours if recipe.mode == "knn" else 0,
        encoder=start.to_dict() if start is not None else {},
        recipe=plain(recipe),
        data=data,
        versions=versions(),
        settings=start.settings if isinstance(start, NetworkStart) else {},
        contexts=contexts_of(recipe, manifest),
        head_norm=recipe.head_norm,
    )
    if card.least_px() > card.cache_px:
        raise UserError(
            f"scales {list(card.scales)} read images at {card.least_px()} px, data.cache_px {card.cache_px} keeps "
            f"fewer: set --data.cache_px {card.least_px()}."
        )
    return card


def say_statistics(recipe: Finetune, start: EncoderCard | NetworkStart, card: ModelCard) -> None:
    """Print whose mean and std are used, where recipe and encoder differ."""
    own = tuple(for_channels(values, card.arch.channels) for values in (recipe.data.mean, recipe.data.std))
    its = tuple(for_channels(values, card.arch.channels) for values in (start.mean, start.std))
    if own == its:
        return
    if start.assumed_statistics:
        print(f"note: mean {own[0]} and std {own[1]} of the recipe; the encoder's file states none")
    else:
        print(f"note: mean {its[0]} and std {its[1]} of the encoder, as it was trained; the recipe's are left aside")


def roi_note(start: EncoderCard | NetworkStart, clip: Clip) -> str:
    """Say where clips are cropped otherwise than those that the encoder has seen; empty where they are not."""
    if isinstance(start, NetworkStart) or start.arch.frames == 1:
        return ""
    its = start.recipe.get("data", {}).get("clip", {}).get("roi", "none")
    return f"the encoder has seen clips with data.clip.roi {its}; here it is {clip.roi}" if its != clip.roi else ""


def _input_of(recipe: Finetune) -> Model:
    """Return the recipe's model; of a network of timm its input alone counts, which no patches need divide."""
    model = recipe.model
    if recipe.network != "vit" and model.frames == 1 and model.image_size % model.patch_size:
        return replace(model, patch_size=model.image_size)
    return model


def _fitted(start: Architecture, own: Architecture) -> Architecture:
    """Return the encoder's architecture for the recipe's input; one of images is inflated for clips."""
    arch = replace(start, image_size=own.image_size, channels=own.channels)
    if start.frames == 1 and own.frames > 1:
        return replace(arch, frames=own.frames, tubelet=own.tubelet, positions=own.positions)
    return replace(arch, frames=own.frames)
