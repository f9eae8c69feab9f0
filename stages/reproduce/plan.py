"""What a row will do with the data and weights at hand: decided for all rows before any of them runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ...datasets.manifest.tables import Manifest
from ...engine.recipe import flat, parse_recipe
from .small import SCALE, shortest, small
from .table import Finetune, Measure, Mil, Row, Step
from .weights import Given, check_given, sort_weights


@dataclass(frozen=True)
class Planned:
    """One step to run.

    Attributes:
        step: As the table has it.
        recipe: Resolved: small on phantoms, the row's labels and the user's options in it.
        predict: A model was given: it predicts, and nothing is trained.
    """

    step: Step
    recipe: Any
    predict: bool = False


@dataclass(frozen=True)
class Plan:
    """One row's steps.

    Attributes:
        row: The row.
        steps: To run, in order.
        given: Weights of the user.
        missing: Why it cannot be run, empty where it can.
        left_out: Keys of the steps that are left out for want of data.
    """

    row: Row
    steps: tuple[Planned, ...]
    given: Given
    missing: str = ""
    left_out: tuple[str, ...] = ()


def make_plan(
    row: Row, manifest: Manifest | None, weights: Sequence[Path], *, phantoms: bool, download: bool,
    options: Sequence[str], smoke: bool = False,
) -> Plan:  # fmt: skip
    """Decide which steps run.

    Args:
        row: The row.
        manifest: The data; None without.
        weights: Given for the row.
        phantoms: Recipes are made small; a checkpoint that is missing becomes a random start.
        download: Weights of timm's hub may be fetched.
        options: Dotted options for the recipes that know them.
        smoke: One epoch of every training.

    Raises:
        UserError: Labels that the data have not, a recipe that does not go with them, or weights that do not fit.
    """
    recipes = {step.key: _resolved(step, row, phantoms, options, smoke) for step in row.steps}
    labels = row.labels or (manifest.labels if manifest is not None else ())
    if manifest is not None:
        manifest.with_labels(labels)
    by_kind = {step.kind: recipes[step.key] for step in row.steps}
    given = sort_weights(row, weights, by_kind, labels)
    check_given(row, given, by_kind, labels)
    if manifest is not None and "finetune" in by_kind and given.model is None:
        _check_finetune(row, by_kind["finetune"], manifest.with_labels(labels))
    steps = [
        Planned(step, recipes[step.key], _predicts(step, given)) for step in row.steps if not _idle(step, row, given)
    ]
    kept = steps
    if manifest is None:
        kept = steps[: next((i for i, planned in enumerate(steps) if _needs_data(planned.step)), len(steps))]
    missing = _missing(row, given, phantoms, download)
    if not missing and steps and not kept:
        missing = "needs data (--data)"
    left_out = tuple(planned.step.key for planned in steps[len(kept) :])
    return Plan(row, tuple(kept), given, missing, left_out)


def unused_options(plans: Sequence[Plan], options: Sequence[str]) -> list[str]:
    """Return the options that no recipe of these rows knows."""
    known = {key for plan in plans for planned in plan.steps for key in flat(planned.recipe)}
    return [key for key, _ in _pairs(options) if key not in known]


def _resolved(step: Step, row: Row, phantoms: bool, options: Sequence[str], smoke: bool) -> Any:
    recipe = step.recipe()
    if row.labels is not None and isinstance(step, Finetune | Mil):
        recipe = replace(recipe, data=replace(recipe.data, labels=row.labels))
    if phantoms:
        recipe = small(recipe, SCALE)
    if smoke:
        recipe = shortest(recipe)
    known = flat(recipe)
    known_options = [part for key, parts in _pairs(options) if key in known for part in parts]
    return parse_recipe(recipe, None, known_options) if known_options else recipe


def _check_finetune(row: Row, recipe: Any, manifest: Manifest) -> None:
    """Refuse now what fine-tuning would refuse after days of pre-training."""
    from ...backbone.card import EncoderCard
    from ...finetune.new_card import check_labels, make_card

    try:
        if recipe.data.labels is not None:
            manifest = manifest.with_labels(recipe.data.labels)
        check_labels(recipe, manifest)
        # A probe is of an encoder: the one that the row pre-trains or that is given, whose shape is the recipe's.
        start = EncoderCard(recipe.model.architecture(), recipe.data.mean, recipe.data.std, method="mae")
        make_card(recipe, manifest, None if recipe.mode == "full" else start)
    except UserError as error:
        raise UserError(f"row {row.name}: {error}") from None


def _pairs(options: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return each option `--a.b 1` or `--a.b=1` as its key and the words that belong to it."""
    pairs: list[tuple[str, list[str]]] = []
    for word in options:
        if word.startswith("--"):
            pairs.append((word[2:].partition("=")[0], [word]))
        elif not pairs:
            raise UserError(f"unknown argument {word!r} (see `clinvit reproduce --help`)")
        else:
            pairs[-1][1].append(word)
    return pairs


def _idle(step: Step, row: Row, given: Given) -> bool:
    """Return whether given weights make the step needless."""
    whole = given.model is not None and any(isinstance(other, Finetune) for other in row.steps)
    return step.trains == "encoder" and (given.encoder is not None or whole)


def _predicts(step: Step, given: Given) -> bool:
    return step.trains == "model" and given.model is not None


def _needs_data(step: Step) -> bool:
    return step.data if isinstance(step, Measure) else True


def _missing(row: Row, given: Given, phantoms: bool, download: bool) -> str:
    if not row.steps:
        return row.note or "not built here"
    needs = row.needs()
    if not needs or phantoms or given.paths() or (download and needs.startswith("timm:")):
        return ""
    hint = " or --download" if needs.startswith("timm:") else ""
    words = needs if needs != "weights" else row.words
    return f"needs weights ({words}): --weights {row.name}=PATH{hint}"
