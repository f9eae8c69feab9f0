"""Predictions of units larger than an image, of an exported model, by NumPy alone: as `units.units_table` has them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..datasets.manifest.prediction_columns import Columns
from ..datasets.manifest.unit_names import many, unit_names
from ..eval.statistics.unit_scores import Groups, head_columns, rules_of, unit_findings
from ..finetune.scored import calibrated, predicted_labels
from .exported import Exported


def unit_columns(columns: Columns, cases: Mapping[str, Any], card: Exported) -> tuple[Columns, list[str]]:
    """Return the columns of units, calibrated and labelled, and what there is to say.

    Args:
        columns: Of the predictions of N images, without thresholds and calibration.
        cases: The images, with what they belong to.
        card: Of the model, with its units.

    Raises:
        DataError: Nothing says which images belong together.
    """
    unit, labels = card.aggregation["unit"], card.labels
    own = columns if unit == "patient" else {**columns, unit: cases[unit]}
    groups = Groups(unit_names("predictions", own, unit), own["id"])
    truth, scores = (np.column_stack([np.asarray(own[p + label], float) for label in labels]) for p in ("y_", "p_"))
    rules = rules_of(card.aggregation["rule"], labels)
    found, _ = unit_findings(groups, labels, truth, scores, rules, card.exclusive)
    whole = calibrated(card, np.column_stack([found[f"p_{label}"] for label in labels]))
    made = head_columns(own, groups, unit, card.unit) | found
    made |= {f"p_{label}": whole[:, place] for place, label in enumerate(labels)}
    note = f"{many(len(own['id']), card.unit)} are {many(len(groups.names), unit)}, scored by the rule of the model."
    return made | predicted_labels(made, card), [note]
