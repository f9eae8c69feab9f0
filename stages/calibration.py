"""Calibration of a model's scores: fitted on the validation cases of its run, kept in its card, applied ever after."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ..core.errors import UserError
from ..core.label_groups import groups_of, parts_of
from ..datasets.manifest.tables import Manifest, read_predictions, write_predictions
from ..finetune.pipeline import calibrated

MOST_NAMED = 5  # labels named in a note
METHODS = {"temperature": "temperature scaling", "platt": "Platt scaling", "intercept": "a shift of the logits"}


def check_calibration(method: str, recipe, manifest: Manifest) -> None:
    """Refuse before a training what could not be done after it.

    Raises:
        UserError: The method is unknown or not for exclusive classes, or there is no validation case.
    """
    from ..eval.statistics.scaling import check_method

    if manifest.kinds:
        raise UserError(f"--calibrate is for findings, not for {', '.join(each.name for each in manifest.kinds)}.")
    check_method(method, exclusive=recipe.loss == "ce" or bool(groups_of(manifest.labels)))
    if not len(manifest.rows("val")):
        raise UserError(
            f"{manifest.path}: no case in the split val to calibrate on. Give a tenth of the patients the split val, "
            "or leave --calibrate out."
        )


def store_calibration(model: Path, table: Path, method: str) -> None:
    """Fit a scaling per label on the validation cases of a run, and keep it in the model's card.

    The run's table is rewritten with scaled scores.

    Args:
        model: The model folder, as the run has just written it: a calibrated one would be calibrated twice.
        table: The predictions, not calibrated.
        method: `temperature` or `platt` (`eval.scaling`).
    """
    from ..eval.statistics.scaling import fit_scaling
    from ..mil.cards import load_any_card

    card, predictions = load_any_card(model), read_predictions(table)
    assert not card.calibration, f"{model}: calibrated already"
    val = predictions.rows("val").scored()
    truth, scores, scalings = val.truth(), val.scores(), {}
    for part in parts_of(card.labels, card.exclusive):
        own = fit_scaling(truth[:, part.places], scores[:, part.places], method, part.exclusive, "val")
        scalings |= dict(zip([card.labels[place] for place in part.places], own, strict=True))
    scalings = {label: scalings[label] for label in card.labels}
    card = replace(card, calibration={label: asdict(scaling) for label, scaling in scalings.items()})
    scores = calibrated(card, predictions.scores())
    new = {f"p_{label}": scores[:, place] for place, label in enumerate(card.labels)}
    write_predictions(table, predictions.table.assign(**new))
    card.write(model)
    for line in _left_alone(card):
        print(f"note: scores stay as they are for {line}")


def calibration_facts(card) -> dict | str:
    """What the report's section on calibration and its provenance say of a model."""
    if not card.calibration:
        return "none"
    left_alone = _left_alone(card)
    facts = {"not for": "; ".join(left_alone)} if left_alone else {}
    done = [scaling for scaling in card.calibration.values() if scaling["method"] != "none"]
    if not done:
        return facts
    if "recalibrated" in card.data:  # on another site, whose cases chose nothing
        return {"method": METHODS[done[0]["method"]], "fitted on": done[0]["split"]} | facts
    chosen = "the thresholds"
    if card.recipe.get("select") in ("best", "accuracy") and card.recipe.get("mode") != "knn":
        chosen = "the epoch and the thresholds"
    return {"method": METHODS[done[0]["method"]], "fitted on": done[0]["split"], "same cases chose": chosen} | facts


def _left_alone(card) -> Sequence[str]:
    """The labels that are not scaled, those with the same reason in one line."""
    lines: dict[str, list[str]] = {}
    for label, scaling in card.calibration.items():
        if scaling["reason"]:
            lines.setdefault(scaling["reason"], []).append(label)
    return [
        f"{', '.join(labels[:MOST_NAMED])}{f' and {len(labels) - MOST_NAMED} more' if labels[MOST_NAMED:] else ''} "
        f"({reason})"
        for reason, labels in lines.items()
    ]
