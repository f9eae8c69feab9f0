"""The stage `--estimate`: what a pre-training would cost here."""

from pathlib import Path

from ..engine.estimate import estimate
from ..errors import UserError
from ..pretrain.workload import workload
from .stages import open_manifest


def estimate_pretraining(recipe, title: str, data: Path | None, cases: int | None, of_tiles: bool) -> str:
    """The estimate as text; nothing is written.

    Args:
        recipe: The resolved recipe.
        title: What is trained.
        data: Manifest or its folder; its cases are counted, no file of them is opened.
        cases: Cases per epoch instead.
        of_tiles: A case is a tile, of which the manifest knows `tiles_per_slide` only.

    Raises:
        UserError: The number of cases is unknown, or see `estimate`.
    """
    if cases is None:
        if data is None:
            raise UserError("--estimate needs the number of cases: --data MANIFEST, or --cases N.")
        cases = len(open_manifest(data, labels=()).rows(*recipe.data.splits))
        if of_tiles and recipe.tiles_per_slide is None:
            raise UserError("--estimate of tiles needs their number: --cases N, or --tiles_per_slide in the recipe.")
        cases *= recipe.tiles_per_slide or 1
    model = recipe.model
    shape = f"{model.frames} x {model.image_size}" if model.frames > 1 else model.image_size
    return estimate(workload(recipe, cases), f"{title}: ViT {model.size}, {shape} px, {cases} cases per epoch")
