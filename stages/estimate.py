"""The stage `--estimate`: what a training would cost here. Nothing is written, no file of a case is opened."""

from collections.abc import Sequence
from pathlib import Path

from ..backbone.public import encoder_place
from ..backbone.sizes import Model
from ..core.errors import UserError
from ..datasets.manifest.tables import Manifest
from ..engine.estimate import estimate
from ..finetune.recipe import Finetune
from ..finetune.run import for_network
from ..finetune.starts import NetworkStart, find_start
from ..finetune.workload import NO_CASES
from ..finetune.workload import workload as finetune_workload
from ..pretrain.start import open_parent
from ..pretrain.workload import workload as pretrain_workload
from .data import open_manifest


def estimate_pretraining(
    recipe, title: str, data: Path | None, cases: int | None, of_tiles: bool, encoder: Path | None = None
) -> str:
    """Return the estimate of a pre-training as text.

    Args:
        recipe: The resolved recipe.
        title: What is trained.
        data: Manifest or its folder, whose cases are counted.
        cases: Cases per epoch instead.
        of_tiles: A case is a tile, of which the manifest knows `tiles_per_slide` only.
        encoder: The encoder that it goes on from.

    Raises:
        UserError: The number of cases is unknown, or see `estimate`.
    """
    if cases is None:
        if data is not None and of_tiles and recipe.tiles_per_slide is None:
            raise UserError("--estimate of tiles needs their number: --cases N, or --tiles_per_slide in the recipe.")
        cases = len(_manifest(data, ()).rows(*recipe.data.splits)) * (recipe.tiles_per_slide or 1 if of_tiles else 1)
    parent = None if encoder is None else open_parent(encoder_place(encoder), recipe)
    shape = _shape(recipe.model)
    return estimate(pretrain_workload(recipe, cases, parent), f"{title}: {shape}, {cases} cases per epoch")


def estimate_finetuning(
    recipe: Finetune, title: str, data: Path | None, cases: int | None, encoder: Path | None
) -> str:
    """Return the estimate of a fine-tuning as text.

    Args:
        recipe: The resolved recipe.
        title: What is trained.
        data: Manifest or its folder, whose cases and labels are counted.
        cases: Cases per epoch instead; without `data` they have one label.
        encoder: Encoder folder whose architecture is trained on; the recipe's without.

    Raises:
        UserError: The number of cases is unknown, or see `estimate` and `finetune.workload`.
    """
    manifest = NO_CASES if data is None and cases is not None else _manifest(data, recipe.data.labels)
    cases = len(manifest.rows(*recipe.data.splits)) if cases is None else cases
    start = None if encoder is None else find_start(encoder_place(encoder), recipe.network, ours=True)
    if isinstance(start, NetworkStart):
        recipe, _ = for_network(recipe, start)
    shape = _shape(recipe.model) if recipe.network == "vit" else recipe.network
    return estimate(finetune_workload(recipe, cases, manifest, start), f"{title}: {shape}, {cases} cases per epoch")


def _manifest(data: Path | None, labels: Sequence[str] | None) -> Manifest:
    if data is None:
        raise UserError("--estimate needs the number of cases: --data MANIFEST, or --cases N.")
    return open_manifest(data, labels=labels)


def _shape(model: Model) -> str:
    return f"ViT {model.size}, {f'{model.frames} x ' if model.frames > 1 else ''}{model.image_size} px"
