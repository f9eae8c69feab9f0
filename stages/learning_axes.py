"""Learning curves along other axes than labels: unlabelled images of pre-training, size of input and of network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.alone import folder_alone
from ..core.errors import DataError, UserError
from ..datasets.manifest.splits import nested_patients
from ..datasets.manifest.tables import Manifest, write_csv
from .data import CACHE_GB, cache_place, open_manifest
from .finetune import finetune_stage
from .learning_curve import SUBSETS, WITH, WITHOUT, Asked, Subset, members, refuse, run_folder, written
from .pretrain import pretrain_stage

if TYPE_CHECKING:
    from ..eval.statistics.learning_runs import LearningRuns

IMAGES, SIZE, MODEL = AXES = ("images", "size", "model")
ENCODERS = "encoders"


@dataclass(frozen=True)
class Point:
    """One training of the curve.

    Attributes:
        subset: Its place on the axis: `cases` is the number that the curve is drawn over.
        recipe: Of the fine-tuning.
        pretrain: Of the pre-training before it; None for none.
        seen: What is pre-trained on.
    """

    subset: Subset
    recipe: Any
    pretrain: Any
    seen: Manifest


def learning_axis_stage(
    recipe, pretrain, data: Path | Manifest, out: Path, asked: Asked, **inputs: Any
) -> "tuple[LearningRuns, list[str], Asked] | None":
    """Train every value of an axis with every seed, and write page, JSON and CSV as `learning_curve_stage` does.

    Along `images` an encoder is pre-trained on each share of the training patients, and fine-tuned on all labels;
    along `size` and `model` each value is pre-trained and fine-tuned, or only fine-tuned. Encoders lie in
    `out/encoders`; repeating the command goes on.

    Args:
        recipe: Of all fine-tunings; its seed is replaced.
        pretrain: Of all pre-trainings; None to start along `size` and `model` from scratch, or from `encoder`.
        data: Manifest or its folder.
        out: Gets the runs and what was found.
        asked: What is asked; `more` 0 becomes as many as there are at the largest value.
        inputs: Further arguments of `finetune_stage`.

    Returns:
        The `LearningRuns`, notes on them, and what was asked; None in a process that only helps another one.

    Raises:
        UserError: Values that mean nothing, an encoder that does not go with the axis, or `out` holds another run.
        DataError: As of `learning_curve_stage`.
    """
    from ..engine.run_folder import rank

    manifest, out = open_manifest(data, recipe.data.labels), Path(out)
    refuse(asked, manifest, out)
    _refuse_start(asked, pretrain, inputs.get("encoder"))
    seeds = range(recipe.run.seed, recipe.run.seed + asked.seeds)
    points = [point for seed in seeds for point in _points(recipe, pretrain, manifest, asked, seed)]
    asked = asked if asked.more else replace(asked, more=max(point.subset.cases for point in points))
    if pretrain is not None and asked.along == IMAGES:
        pretrain.optim.check_cases(min(point.subset.cases for point in points))
    cache = cache_place(manifest, out, inputs.pop("cache", None), inputs.get("cache_gb", CACHE_GB))
    model = WITH if pretrain is not None or inputs.get("encoder") is not None else WITHOUT
    if rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        if asked.along == IMAGES:
            write_csv(out / SUBSETS, members([point.subset for point in points], pretrain.data.splits))
    for number, point in enumerate(points, 1):
        if rank() == 0:
            print(f"[{number}/{len(points)}] {point.subset.name}, seed {point.subset.seed}, {model}", flush=True)
        own = dict(inputs, cache=cache)
        if point.pretrain is not None:
            own["encoder"] = pretrain_stage(
                point.pretrain, point.seen, run_folder(out, ENCODERS, point.subset), cache,
                cache_gb=inputs.get("cache_gb", CACHE_GB),
            )  # fmt: skip
        finetune_stage(point.recipe, manifest, run_folder(out, model, point.subset), **own)
    if rank() > 0:
        return None
    with folder_alone(out):
        return *written([(point.subset, model) for point in points], manifest, out, asked, []), asked


def _refuse_start(asked: Asked, pretrain: Any, encoder: Any) -> None:
    """Refuse a start that does not go with the axis.

    Raises:
        UserError: Says what to give or to leave out.
    """
    if asked.along == IMAGES and pretrain is None:
        raise UserError(
            "--along images: name the recipe of the pre-trainings that are compared, as in --pretrain-recipe tiny."
        )
    if encoder is not None and pretrain is not None:
        raise UserError("--encoder and --pretrain-recipe: encoders are made here; leave one of both out.")
    if encoder is not None and asked.along == MODEL:
        raise UserError("--along model: an encoder has the size that it has; leave --encoder out.")


def _points(recipe: Any, pretrain: Any, manifest: Manifest, asked: Asked, seed: int) -> list[Point]:
    """Return the trainings of one seed."""
    recipe = replace(recipe, run=replace(recipe.run, seed=seed))
    pretrain = None if pretrain is None else replace(pretrain, run=replace(pretrain.run, seed=seed))
    if asked.along == IMAGES:
        return [
            Point(subset, recipe, pretrain, subset.manifest)
            for subset in _shares(pretrain.data.splits, manifest, asked, seed)
        ]
    counted, changed = (_pixels, _of_size) if asked.along == SIZE else (_weights, _of_model)
    made = [_try(value, changed, recipe, pretrain) for value in asked.values]
    counts = [counted(fine) for fine, _ in made]
    if len(counts) < 2 or counts != sorted(set(counts)):
        raise UserError(f"--values {','.join(asked.values)}: name two or more, rising.")
    patients = manifest.rows(*recipe.data.splits).table["patient"].nunique()
    return [
        Point(Subset(Fraction(count), seed, manifest, count, patients, (), manifest.labels, value), fine, before,
              manifest)
        for value, count, (fine, before) in zip(asked.values, counts, made)
    ]  # fmt: skip


def _shares(splits: Sequence[str], manifest: Manifest, asked: Asked, seed: int) -> list[Subset]:
    """Return nested subsets of the patients that are pre-trained on, whatever is known of their labels.

    Raises:
        DataError: Two shares of the same patients, or one of none.
    """
    table = manifest.table
    seen = table["split"].isin(splits)
    order = nested_patients(table[seen], list(manifest.labels), seed)
    counts = [int(share * len(order)) for share in asked.shares]
    if counts[0] < 1 or len(set(counts)) < len(counts):
        raise DataError(
            f"{manifest.path}: of {len(order)} training patients the shares are {', '.join(map(str, counts))}: choose "
            "larger or fewer --shares."
        )
    found = []
    for share, count in zip(asked.shares, counts):
        own = seen & table["patient"].isin(order[:count])
        few = replace(manifest, table=table[own].reset_index(drop=True))
        name = str(share).replace("/", "-")
        found.append(Subset(share, seed, few, int(own.sum()), count, (), manifest.labels, name))
    return found


def _try(value: str, changed: Callable, recipe: Any, pretrain: Any) -> tuple[Any, Any]:
    """Return both recipes with a value of the axis.

    Raises:
        UserError: The value is none of the axis, named before what is wrong with it.
    """
    try:
        return changed(recipe, value), None if pretrain is None else changed(pretrain, value)
    except ValueError as error:  # of a recipe, or of the network that it asks for
        raise UserError(f"--values {value}: {error}") from None


def _of_size(recipe: Any, value: str) -> Any:
    """Return a recipe of images or clips with another side of the input, pixels."""
    if not value.isdigit():
        raise UserError("the side of the input is a whole number of pixels.")
    px, before = int(value), recipe.model.image_size
    changes: dict[str, Any] = {
        "model": replace(recipe.model, image_size=px),
        "data": replace(recipe.data, cache_px=max(recipe.data.cache_px, px)),
        "augment": replace(recipe.augment, size=px),
    }
    if getattr(getattr(recipe, "view", None), "resize_px", None) is not None:
        changes["view"] = replace(recipe.view, resize_px=round(recipe.view.resize_px * px / before))
    made = replace(recipe, **changes)
    made.model.architecture()  # refuses what patches do not fill
    return made


def _of_model(recipe: Any, value: str) -> Any:
    """Return a recipe with another size of the ViT."""
    made = replace(recipe, model=replace(recipe.model, size=value))
    made.model.architecture()
    return made


def _pixels(recipe: Any) -> int:
    return recipe.model.image_size


def _weights(recipe: Any) -> int:
    """Return the number of weights of the recipe's ViT."""
    from ..backbone.vit import ViT

    return sum(each.numel() for each in ViT(recipe.model.architecture()).parameters())
