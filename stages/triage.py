"""The stage `triage`: predictions of new cases to the worklist of a reader, the urgent ones first."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.alone import file_alone
from ..core.errors import UserError
from ..datasets.manifest.cells import for_spreadsheets, write_csv
from ..datasets.manifest.tables import read_predictions
from .contract import made_by


def triage_stage(
    predictions: Path, reference: Path, promise: str, out: Path, urgent: Sequence[str] = (), split: str = "val"
) -> tuple[pd.DataFrame, list[str]]:
    """Write a worklist; return it, and what a reader has to know about it.

    Args:
        predictions: Of the new cases.
        reference: Predictions of the same model with truth.
        promise: What must hold of the cases that are called, as of `read_promise`.
        out: CSV to write.
        urgent: Labels, the most urgent first; without, all labels, equally urgent.
        split: Of the reference, which cases choose the thresholds.

    Raises:
        UserError: Predictions of different models, a wrong promise, or a label that is not there.
    """
    from ..eval.statistics.triage import read_promise
    from ..eval.worklist import worklist, worklist_cuts

    asked, new, known = read_promise(promise), read_predictions(predictions), read_predictions(reference)
    notes = _refuse_another_model(predictions, reference)
    labels = list(dict.fromkeys(urgent)) or list(known.labels)
    cuts = worklist_cuts(known, labels, asked, split)
    found = worklist(new, cuts, ranked=bool(urgent))
    with file_alone(out):
        write_csv(out, for_spreadsheets(found), float_format="%.7g")
    for label, each in cuts.items():
        for side, cut in (("upper", each.upper), ("lower", each.lower)):
            if np.isnan(cut.threshold):
                notes.append(f"{label}: no {side} threshold ({cut.reason})")
    return found, notes


def _refuse_another_model(predictions: Path, reference: Path) -> list[str]:
    """Refuse predictions of two models; return a note where that is not known.

    Raises:
        UserError: They are of two models, or calibrated in two ways.
    """
    new, known = made_by(predictions), made_by(reference)
    if "sha256" not in new or "sha256" not in known:
        return ["whether both tables are of one model is not known: there is no .model.json beside one of them"]
    if new["sha256"] != known["sha256"] or new.get("calibration") != known.get("calibration"):
        raise UserError(
            f"{predictions}: predicted by another model, or calibrated otherwise, than {reference}: its thresholds do "
            "not hold here. Predict both with one model."
        )
    return []
