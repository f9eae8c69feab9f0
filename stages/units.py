"""Predictions of units larger than an image: what the stages `predict` and `finetune` make of those of images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..core.errors import UserError
from ..datasets.manifest.tables import (
    Manifest,
    Predictions,
    many,
    plural,
    read_predictions,
    unit_ids,
    write_predictions,
)
from ..finetune.scored import calibrated, predicted_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..eval.units import Rule, Units
    from .dicom.case import ResultCase

THRESHOLDS_OF_IMAGES = "thresholds and calibration of the model are of single {of}s: none hold for {units}"


@dataclass(frozen=True)
class Asked:
    """What a user asks of the rows of a prediction.

    Attributes:
        unit: `study`, `patient` or `case`; None for what the model's card says.
        rule: As of `eval.units.Units`.

    Raises:
        UserError: A rule without a unit.
    """

    unit: str | None = None
    rule: "Rule" = None

    def __post_init__(self) -> None:
        if self.unit is None and self.rule is not None:
            raise UserError("--unit-rule needs --unit study, patient or case.")

    def units(self, card: Any) -> "Units | None":
        """Return the units of the rows; None of single images.

        Raises:
            UserError: The model has learned other units.
        """
        from ..eval.units import LEARNED, Units

        own = card.aggregation
        if self.rule == LEARNED and own.get("rule") != LEARNED:
            raise UserError("--unit-rule learned is for `finetune`: the model has learned no rule; take max or mean.")
        if own.get("rule") == LEARNED and (self.unit not in (None, own["unit"]) or self.rule is not None):
            raise UserError(
                f"the model scores {plural(own['unit'])}, as it has learned: leave --unit and --unit-rule out. "
                "`clinvit evaluate --unit patient` puts its predictions together."
            )
        if self.unit is None:
            return Units(own["unit"], own["rule"], card.unit) if own else None
        rule = self.rule if self.rule is not None or own.get("unit") != self.unit else own["rule"]
        return Units(self.unit, rule, card.unit)


IMAGES = Asked()  # no larger units, but those of the model


def aggregation_of(units: "Units") -> dict[str, Any]:
    """Return the units as cards and facts hold them."""
    return {"unit": units.unit, "rule": units.rule}


def image_card(card: Any) -> Any:
    """Return the card as it holds for single images: without thresholds and calibration that are of units."""
    return replace(card, thresholds={}, calibration={}) if card.aggregation else card


def unit_card(card: Any, units: "Units") -> Any:
    """Return the card as it holds for units: with its thresholds and calibration where they are of these."""
    own = card.aggregation == aggregation_of(units)
    return card if own else replace(card, thresholds={}, calibration={}, aggregation=aggregation_of(units))


def unit_facts(card: Any, units: "Units") -> dict[str, Any]:
    """Return what stands beside a table of units: which, of what, and the thresholds that hold for them."""
    own = unit_card(card, units)
    return {
        "aggregation": aggregation_of(units), "of": card.unit, "thresholds": own.thresholds,
        "calibration": own.calibration,
    }  # fmt: skip


def scored_members(cases: pd.DataFrame, images: pd.DataFrame, units: "Units", out: Path) -> dict[str, list[str]]:
    """Return the paths of the images that each unit was scored on, by its id; of one that failed, of all.

    Args:
        cases: The N images.
        images: Their predictions.
        units: Which.
        out: What messages call the table.
    """
    ids = unit_ids(out, cases, units.unit)
    scored = (images["status"] == "ok").to_numpy()
    found: dict[str, list[str]] = {}
    for unit, rows in cases.groupby(ids.to_numpy(), sort=False).indices.items():
        own = [row for row in rows if scored[row]] or rows
        found[unit] = [cases["path"].iloc[row] for row in own]
    return found


def with_unit_facts(units: "Units", members: dict[str, list[str]]) -> "Callable[[ResultCase], ResultCase]":
    """Return what adds to a DICOM result of how many images a unit was scored, and how."""

    def told(case: "ResultCase") -> "ResultCase":
        rule = units.rule if isinstance(units.rule, str) else "a rule for each finding" if units.rule else "max"
        words = f"{units.unit} of {many(len(members[case.id]), units.of)}, by {rule}"
        return replace(case, facts={**case.facts, "Scored": words})

    return told


def images_table(out: Path, card: Any) -> Path:
    """Return where the scores of the single images lie, `predictions.images.csv` beside `predictions.csv`."""
    return out.with_name(f"{out.stem}.{card.unit}s{out.suffix}")


def units_table(table: pd.DataFrame, cases: pd.DataFrame, units: "Units", card: Any) -> pd.DataFrame:
    """Return the predictions table of units, calibrated and labelled as the model's card says of these.

    Args:
        table: Of the images.
        cases: The same N images, with what they belong to.
        units: Which.
        card: Of the model. What there is to say is in `attrs["notes"]`.
    """
    found = by_units(checked(table, cases, units.unit, card), units, card)
    own = unit_card(card, units)
    notes = [*found.notes]
    if not own.thresholds and card.thresholds:
        notes.append(THRESHOLDS_OF_IMAGES.format(of=card.unit, units=plural(units.unit)) + ".")
    rows = found.table
    if own.calibration:
        scores = calibrated(own, found.scores())
        rows = rows.assign(**{f"p_{label}": scores[:, place] for place, label in enumerate(found.labels)})
    if not found.targets:
        rows = rows.assign(**predicted_labels(rows, own))
    rows.attrs |= {"notes": notes, "unit": units.unit}
    return rows


def refuse_units(manifest: Manifest, asked: Asked) -> None:
    """Refuse before a training units that nothing in the manifest says, and rules that are none for its labels.

    Raises:
        DataError: The manifest has no column of the unit.
        UserError: A rule is none.
    """
    from ..eval.units import LEARNED, Units

    assert asked.unit is not None
    unit_ids(manifest.path, manifest.table, asked.unit)
    if asked.rule != LEARNED:
        Units(asked.unit, asked.rule).rules(manifest.labels)


def by_units(found: Predictions, units: "Units", card: Any) -> Predictions:
    """Return predictions of images as those of units."""
    from ..eval.units import by_unit

    return by_unit(found, units, card.exclusive)


def checked(table: pd.DataFrame, cases: pd.DataFrame, unit: str, card: Any) -> Predictions:
    """Return a table in memory as predictions, with the column of the unit."""
    own = table if unit == "patient" or unit not in cases else table.assign(**{unit: cases[unit].to_numpy()})
    return Predictions(Path("predictions"), own, () if card.targets else card.labels, targets=card.kinds)


def store_units(model: Path, table: Path, manifest: Manifest, units: "Units") -> None:
    """Make the predictions of a run those of units, and its model one of units; those of images lie beside them.

    Thresholds and calibration are chosen afterwards, on the validation units of the table.

    Args:
        model: The model folder, as the run has just written it.
        table: Its predictions of images, which are moved.
        manifest: Of the cases.
        units: Which.
    """
    from ..mil.cards import load_any_card

    card, found = load_any_card(model), read_predictions(table, targets=True)
    write_predictions(images_table(table, card), found.table)
    if units.unit != "patient" and units.unit in manifest.table:
        known = manifest.table.set_index("id")[units.unit]
        found = replace(found, table=found.table.assign(**{units.unit: found.table["id"].map(known).to_numpy()}))
    of_units = by_units(found, units, card)
    write_predictions(table, of_units.table)
    replace(card, aggregation=aggregation_of(units)).write(model)
    for note in of_units.notes:
        print(f"note: {note}")


def validation_images(table: Path, card: Any, val: Sequence[str]) -> Sequence[str]:
    """Return the ids of the images that validation units consist of; the units themselves where they are images."""
    images = images_table(table, card)
    if not card.aggregation or not images.is_file():
        return val
    return read_predictions(images, targets=True).rows("val").scored().table["id"].tolist()
