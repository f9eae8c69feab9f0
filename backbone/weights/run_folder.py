"""Checkpoints of our own runs (`checkpoints/*.ckpt`): the recipe of the run says what shapes do not."""

from dataclasses import replace
from pathlib import Path

from ...core.documents import read_yaml
from ...core.errors import UserError
from .source import Source

RECIPE = "recipe.yaml"


def recipe_of(checkpoint: Path) -> Path | None:
    """Return the recipe of the run that a checkpoint belongs to; None where it stands alone or is another's."""
    recipe = checkpoint.absolute().parent.parent / RECIPE
    return recipe if checkpoint.suffix == ".ckpt" and recipe.is_file() else None


def of_run(source: Source) -> Source:
    """Return the source of a checkpoint of ours whose names are also another's."""
    return replace(source, name="clinvit")


def read_recipe(recipe: Path) -> tuple[dict, dict]:
    """Return `Architecture` fields, and mean and std.

    Raises:
        UserError: Damaged, or of a run that trains no ViT.
    """
    try:
        found = read_yaml(recipe)
        model, data = found["model"], found["data"]
        fields = {"image_size": (model["image_size"],) * 2, "frames": model["frames"]}
        statistics = {"mean": tuple(data["mean"]), "std": tuple(data["std"])}
    except (KeyError, TypeError) as error:
        raise UserError(f"{recipe}: not the recipe of a run that trains a ViT ({error}).") from None
    if found.get("network", "vit") != "vit":
        raise UserError(f"{recipe}: the run trains {found['network']}, not a ViT: take its model folder.")
    if found.get("idle"):
        raise UserError(
            f"{recipe}: the run trains idle units, of which its checkpoints do not say which they are: take its "
            "encoder or model folder."
        )
    return fields, statistics
