"""The encoder that a pre-training goes on from: what it must be, what is taken over from it, what stays still."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..backbone.encoder import EncoderCard, fingerprint, read_encoder_card
from ..backbone.sizes import SIZES, Architecture, Model
from ..backbone.vit import ViT
from ..backbone.weights.run_folder import recipe_of
from ..core.errors import UserError
from ..datasets.manifest.seen import TRAINED_ON, UNKNOWN, read_hashes
from ..datasets.settings import for_channels
from ..engine.checkpoint import LAST
from .recipe import PretrainRecipe

R = TypeVar("R", bound=PretrainRecipe)


@dataclass(frozen=True)
class Parent:
    """An encoder to go on from.

    Attributes:
        path: Its folder, or its checkpoint.
        card: What is known of it.
        arch: Its architecture with the input of the recipe.
    """

    path: Path
    card: EncoderCard
    arch: Architecture

    @property
    def inflated(self) -> bool:
        """Whether it saw images and is to see clips."""
        return self.card.arch.frames == 1 and self.arch.frames > 1

    @property
    def folder(self) -> Path:
        """The encoder's folder; of a checkpoint of our runs that of its run, whether it is there yet or not."""
        run = recipe_of(self.path)
        return self.path if run is None else run.parent / "encoder"

    def seen(self) -> frozenset[str]:
        """Return hashes of the cases that it has seen; where its folder does not say, that this is not known."""
        hashes = read_hashes(self.folder / TRAINED_ON) if self.folder.is_dir() else None
        return frozenset({UNKNOWN}) if hashes is None else hashes

    def facts(self, report: str) -> dict:
        """Return what the card of its child says of it: weights, method, its own data and parent, what was taken."""
        data = self.card.data
        return {"sha256": fingerprint(self.path), "method": self.card.method, "data": data, "taken": report}


def open_parent(path: Path, recipe: PretrainRecipe) -> Parent:
    """Open the encoder that a recipe's training is to go on from.

    What the recipe says of the network must be true of it. What no recipe says (registers, layer scale, kind and
    resampling of the positions) is taken over.

    Raises:
        UserError: No encoder, or one of another size, patch or input than the recipe's.
    """
    card = read_encoder_card(path)
    try:
        own = recipe.model.architecture()
        _refuse_others(path, card.arch, own, recipe.model)
        arch = replace(
            card.arch, image_size=own.image_size, channels=own.channels, frames=own.frames, tubelet=own.tubelet,
            class_token=own.class_token,
        )  # fmt: skip
        if card.arch.frames == 1 and own.frames > 1:
            # At first every time has the positions of the image; what sets times apart is learned.
            arch = replace(arch, positions="learned")
    except ValueError as error:
        raise UserError(str(error)) from None
    return Parent(path, card, arch)


def going_on(recipe: R, parent: Parent) -> tuple[R, list[str]]:
    """Return the recipe with the parent's mean and std and the short warm-up of `start`, and notes for the user."""
    notes = []
    card, channels, data = parent.card, parent.arch.channels, recipe.data
    its = tuple(for_channels(values, channels) for values in (card.mean, card.std))
    own = tuple(for_channels(values, channels) for values in (data.mean, data.std))
    if own != its and card.assumed_statistics:
        notes.append(f"mean {own[0]} and std {own[1]} of the recipe; the encoder's file states none")
    elif own != its:
        notes.append(f"mean {its[0]} and std {its[1]} of the encoder, as it was trained; the recipe's are left aside")
        recipe = replace(recipe, data=replace(data, mean=its[0], std=its[1]))  # type: ignore[type-var]
    warmup = recipe.start.warmup_epochs
    if warmup < recipe.optim.warmup_epochs:
        notes.append(
            f"warm-up of {warmup:g} epochs instead of {recipe.optim.warmup_epochs:g}, as most weights are trained "
            "already (start.warmup_epochs)"
        )
        recipe = replace(recipe, optim=replace(recipe.optim, warmup_epochs=warmup))  # type: ignore[type-var]
    whole = parent.path.absolute().parent / LAST
    if parent.path.is_dir() and whole.is_file():
        notes.append(f"{whole} holds its decoder or head too: go on from that instead for the same kind of training")
    return recipe, notes


def freeze(vit: ViT, recipe: PretrainRecipe, parent: Parent | None) -> None:
    """Keep the embedding and the first blocks as they are, as many as `start.freeze_blocks` says.

    The positions of an image's encoder among clips are still learned: they do not know of time yet.

    Raises:
        UserError: There is no parent, or no block is left to train.
    """
    count = recipe.start.freeze_blocks
    if count == 0:
        return
    if parent is None:
        raise UserError(
            f"start.freeze_blocks {count}: without an encoder to go on from they would stay random; name one "
            "(--encoder), or set it to 0."
        )
    if count >= vit.arch.depth:
        raise UserError(f"start.freeze_blocks {count}: the encoder has {vit.arch.depth} blocks; leave some to train.")
    vit.patch_embed.requires_grad_(False)
    for token in (vit.cls_token, vit.reg_token):
        if token is not None:
            token.requires_grad = False
    if not parent.inflated and vit.pos_embed is not None:
        vit.pos_embed.requires_grad = False
    for block in vit.blocks[:count]:
        block.requires_grad_(False)


def _refuse_others(path: Path, its: Architecture, own: Architecture, model: Model) -> None:
    """Refuse an encoder that is not what the recipe says, with what to set."""
    named = {sizes[:3]: name for name, sizes in SIZES.items()}
    size = named.get((its.width, its.depth, its.heads))
    if size is not None and size != model.size:
        raise UserError(
            f"{path}: a ViT of width {its.width}, depth {its.depth} and {its.heads} heads (size {size}), and the "
            f"recipe's is {model.size}: set model.size {size}."
        )
    if its.patch_size != own.patch_size:
        fitting = max(1, round(own.image_size[0] / its.patch_size)) * its.patch_size
        raise UserError(
            f"{path}: an encoder with patches of {its.patch_size} px, and the recipe's have {own.patch_size} px: set "
            f"model.patch_size {its.patch_size} and a model.image_size that is a multiple of it, such as {fitting}."
        )
    if its.stem:
        raise UserError(f"{path}: an encoder with a stem of convolutions, which sees masked patches: take another.")
    if its.frames > 1 and own.frames == 1:
        raise UserError(f"{path}: an encoder of clips; the recipe is for images, from which encoders of images go on.")
    if its.frames > 1 and its.tubelet != own.tubelet:
        raise UserError(
            f"{path}: an encoder with tubelets of {its.tubelet} frames, and the recipe's have {own.tubelet}: set "
            f"model.tubelet {its.tubelet}."
        )
    if its.channels < own.channels:
        raise UserError(
            f"{path}: an encoder of grey images, and the recipe's are in colour (model.channels {own.channels}): set "
            "model.channels 1, or take an encoder of images in colour."
        )
    if own.class_token and not its.class_token:
        raise UserError(f"{path}: an encoder without class token: set model.class_token false.")
