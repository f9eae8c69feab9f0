"""What the rows of a table will take, said before they run: cases and epochs at once, time and memory when asked."""

from collections.abc import Iterator, Sequence

from ...core.errors import UserError
from ...datasets.manifest.tables import Manifest
from .plan import Plan, Planned
from .table import Finetune, Pretrain

HINT = "time and memory of each, measured here: --estimate; one epoch each, to try the whole way: --smoke"


def work_ahead(plans: Sequence[Plan], data: Manifest | None, pretrain_data: Manifest | None) -> list[str]:
    """Return a line for each training of the rows, and one on how to learn what it costs; nothing is measured.

    Args:
        plans: Of the rows that run.
        data: What is fine-tuned on.
        pretrain_data: What is pre-trained on.
    """
    lines = []
    for planned, manifest in _trainings(plans, data, pretrain_data):
        recipe = planned.recipe
        cases = len(manifest.rows(*recipe.data.splits))
        tiles = getattr(recipe, "tiles_per_slide", None)
        each = f"{recipe.model.image_size} px" + (f", {recipe.model.frames} frames" if recipe.model.frames > 1 else "")
        what = f"{cases * tiles:,} tiles" if tiles else f"{cases:,} cases"
        epochs = f"{recipe.optim.epochs} epoch{'s' * (recipe.optim.epochs != 1)}"
        lines.append(f"{planned.step.key}: {epochs} of {what} of {each}")
    return [*lines, HINT] if lines else []


def refuse_batches(plans: Sequence[Plan], data: Manifest | None, pretrain_data: Manifest | None) -> None:
    """Refuse a batch that the data cannot fill, before the rows ahead of it have trained for days.

    Args:
        plans: As of `work_ahead`.
        data: As of `work_ahead`.
        pretrain_data: As of `work_ahead`.

    Raises:
        UserError: A batch is larger than the data set.
    """
    for planned, manifest in _trainings(plans, data, pretrain_data):
        recipe = planned.recipe
        if getattr(recipe, "tiles_per_slide", None):
            continue
        try:
            recipe.optim.check_cases(len(manifest.rows(*recipe.data.splits)))
        except UserError as error:
            raise UserError(f"{planned.step.key}: {error} Or try the whole way with --smoke.") from None


def estimates(plans: Sequence[Plan], data: Manifest | None, pretrain_data: Manifest | None) -> str:
    """Return what each training would cost here, by real steps on random pixels.

    Args:
        plans: As of `work_ahead`.
        data: As of `work_ahead`.
        pretrain_data: As of `work_ahead`.
    """
    parts = [_estimate(planned, manifest) for planned, manifest in _trainings(plans, data, pretrain_data)]
    return "\n\n".join(parts) if parts else "none of these rows trains an image or clip model: nothing to estimate."


def _trainings(
    plans: Sequence[Plan], data: Manifest | None, pretrain_data: Manifest | None
) -> Iterator[tuple[Planned, Manifest]]:
    """Yield each training of images or clips once, and its data; rows share what has one key."""
    seen = set()
    for plan in plans:
        for planned in plan.steps:
            manifest = pretrain_data if isinstance(planned.step, Pretrain) else data
            trains = isinstance(planned.step, Pretrain | Finetune) and not planned.predict
            if trains and manifest is not None and planned.step.key not in seen:
                seen.add(planned.step.key)
                yield planned, manifest


def _estimate(planned: Planned, manifest: Manifest) -> str:
    # The measuring needs torch and the networks, the plan does not.
    from ...engine.estimate import estimate
    from ...finetune.workload import workload as finetuning
    from ...pretrain.workload import workload as pretraining

    recipe, title = planned.recipe, planned.step.key
    cases = len(manifest.rows(*recipe.data.splits)) * (getattr(recipe, "tiles_per_slide", None) or 1)
    try:
        if isinstance(planned.step, Pretrain):
            return estimate(pretraining(recipe, cases), title)
        return estimate(finetuning(recipe, cases, manifest, None), title)
    except UserError as error:
        return f"{title}: {error}"
