"""Numbers, grades and times at the start and the end of a training: what is refused, fitted, said and completed."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, UserError
from ..core.label_groups import groups_of, is_mixed, one_group
from ..datasets.manifest.tables import Manifest, Survival, Target
from .answers import Answers
from .objectives import with_baseline
from .recipe import LOSSES

OF_FINDINGS = ("bce", "ce")


OwnCard = TypeVar("OwnCard", bound=Answers)


def check_targets(recipe: Any, manifest: Manifest, taught: bool = False) -> None:
    """Refuse what does not go with numbers, grades and times, or their losses with findings.

    Args:
        recipe: Of a fine-tuning or a multiple-instance learning.
        manifest: With the labels or targets that are learned.
        taught: Whether teachers are learned from.

    Raises:
        UserError: Says what, and what to do.
        DataError: Labels and targets are mixed.
    """
    if not manifest.kinds:
        _check_groups(recipe, manifest, taught)
        if recipe.loss not in OF_FINDINGS and recipe.loss in LOSSES:
            raise UserError(
                f"--loss {recipe.loss} is not for findings; {manifest.path.with_suffix('.json')} declares no number, "
                "grade or time (`targets`; `clinvit prepare --option targets=NAME:KIND` writes it)."
            )
        return
    names = ", ".join(each.name for each in manifest.kinds)
    if manifest.labels:
        raise DataError(
            f"{manifest.path}: findings ({', '.join(manifest.labels[:3])}{', ...' if manifest.labels[3:] else ''}) and "
            f"targets ({names}) are learned by models of their own: name one kind, --data.labels '[{names}]'."
        )
    if recipe.loss != "bce" and not any(recipe.loss in each.losses for each in manifest.kinds):
        known = dict.fromkeys(loss for each in manifest.kinds for loss in each.losses)
        raise UserError(f"--loss {recipe.loss} is not for {names}: one of {', '.join(known)}, or leave it out.")
    for name, off in (
        ("mixup", 0), ("cutmix", 0), ("label_smoothing", 0), ("balance", "none"),
    ):  # fmt: skip
        if getattr(recipe, name, off) != off:
            raise UserError(f"{name} is for findings, not for {names}: set --{name} {off}.")
    if recipe.select not in ("best", "last"):
        raise UserError(f"--select {recipe.select} is for findings: best or last for {names}.")
    if recipe.mode == "knn":
        raise UserError(f"mode knn is for findings, not for {names}: take linear, attentive or full.")
    if getattr(recipe, "aggregator", "").startswith("clam"):
        raise UserError(
            f"CLAM clusters the instances of findings; for {names} take another aggregator (attention, ...)."
        )
    if taught:
        raise UserError(f"distillation is for findings, not for {names}.")
    if recipe.loss == "cox" and recipe.optim.batch_size < 2:
        raise UserError(
            f"--loss cox compares the cases of a batch, and optim.batch_size is {recipe.optim.batch_size}: take "
            "hazards, or a larger batch."
        )


def _check_groups(recipe: Any, manifest: Manifest, taught: bool) -> None:
    """Refuse what does not go with groups of exclusive classes beside findings.

    Raises:
        UserError: Says what, and what to do.
    """
    if not is_mixed(manifest.labels):
        return
    names = ", ".join(groups_of(manifest.labels))
    if recipe.loss == "ce":
        raise UserError(
            f"--loss ce is for labels that all exclude each other; {names} stand beside others: leave --loss out, "
            "and each group is learned by cross-entropy."
        )
    wrong = {
        "mode knn": recipe.mode == "knn", "distillation": taught,
        "contexts": bool(getattr(recipe, "contexts", ())),
        "CLAM": getattr(recipe, "aggregator", "").startswith("clam"),
        f"select {recipe.select}": recipe.select not in ("best", "last"),
    }  # fmt: skip
    for what in (what for what, asked in wrong.items() if asked):
        raise UserError(f"{what} is not made for groups of classes ({names}) beside other labels: leave it out.")


def answers(recipe: Any, manifest: Manifest) -> dict[str, Any]:
    """Return what a card says of labels or targets; the latter with what they take from the training cases.

    Raises:
        DataError: A target has nothing to learn in the training cases.
    """
    if not manifest.kinds:
        return {
            "labels": manifest.labels,
            "meaning": {label: manifest.meaning.get(label, f"1 = {label} present") for label in manifest.labels},
            "exclusive": recipe.loss == "ce" or one_group(manifest.labels),
        }
    train = manifest.rows(*recipe.data.splits)
    try:
        fitted = [
            each.fitted(train.truth([each]), recipe.loss if recipe.loss in each.losses else "")
            for each in manifest.kinds
        ]
    except DataError as error:
        raise DataError(f"{manifest.path}: {error}") from None
    return {
        "labels": tuple(each.name for each in fitted),
        "meaning": {each.name: each.words() for each in fitted},
        "exclusive": False,
        "targets": tuple(each.plain() for each in fitted),
    }


def say_targets(card: Answers) -> None:
    """Print what each target, and each group of exclusive classes, is and how it is learned."""
    for each in card.kinds:
        print(f"target {each.name}: {each.words()}")
    groups = {} if getattr(card, "dense", None) else groups_of(card.labels)
    for group, places in groups.items():
        names = ", ".join(card.labels[place] for place in places)
        print(f"group {group}: exactly one of {names} is true, learned by cross-entropy; the largest score decides")


@torch.inference_mode()
def completed(card: OwnCard, pairs: Iterable[tuple[Tensor, Tensor]]) -> OwnCard:
    """Return the card with the baseline hazards of Cox's model, from the trained network's outputs.

    Args:
        card: Of the model.
        pairs: (B, O) outputs and (B, T) truth of the training cases, batch by batch.
    """
    outputs, truth = (np.concatenate(each) for each in zip(*((o.float().cpu(), t.cpu()) for o, t in pairs)))
    found: list[Target] = []
    out = known = 0
    for each in card.kinds:
        own, their = outputs[:, out : out + each.width], truth[:, known : known + len(each.truth)]
        if isinstance(each, Survival) and each.loss == "cox":
            each = with_baseline(each, own[:, 0], their)
        found.append(each)
        out, known = out + own.shape[1], known + their.shape[1]
    return replace(card, targets=tuple(each.plain() for each in found))  # type: ignore[type-var]
