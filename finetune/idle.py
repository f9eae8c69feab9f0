"""Idle hidden units as a recipe of fine-tuning asks for them (`backbone.idle`)."""

from ..backbone.idle import idle_of
from ..backbone.sizes import Architecture
from ..core.errors import UserError
from .recipe import Finetune

NORMS = ("layer", "batch")
LOOKED_AT = 256  # training images by which the units are chosen


def idle_architecture(arch: Architecture, recipe: Finetune) -> Architecture:
    """Return the architecture with the recipe's share of idle units; the same where it asks for none.

    Raises:
        UserError: The recipe trains no ViT whole, or the MLPs of this ViT cannot have idle units.
    """
    _check(recipe)
    batch = recipe.idle_norm == "batch"
    if batch and (arch.norm_after or recipe.model.checkpoint_blocks):
        what = "a ViT that norms what its blocks add" if arch.norm_after else "--model.checkpoint_blocks true"
        raise UserError(f"idle_norm batch does not go with {what}: set idle_norm layer.")
    return idle_of(arch, recipe.idle, batch)


def _check(recipe: Finetune) -> None:
    """Refuse what no training with idle units can be, and settings of idle units without any."""
    if recipe.idle_norm not in NORMS:
        raise UserError(f"idle_norm is {' or '.join(NORMS)}, not {recipe.idle_norm!r}.")
    if not recipe.idle:
        if recipe.idle_norm != NORMS[0]:
            raise UserError(f"idle_norm {recipe.idle_norm} is for idle units: set --idle 0.75 too, or leave it out.")
        return
    if recipe.network != "vit":
        raise UserError(f"idle {recipe.idle:g} is for network vit, not for {recipe.network!r}: leave it out.")
    if recipe.mode != "full":
        raise UserError(
            f"idle {recipe.idle:g} changes all MLPs; mode {recipe.mode!r} does not train them: --mode full."
        )
