"""The worklist of a reader: studies by urgency, with what no reader needs to see first and what every reader must see.

Each label has the two thresholds of the report's abstention (`statistics.triage`), chosen on validation cases. A study
is called positive if one of its images reaches the upper threshold of an urgent label, negative if all of its images
were scored and lie below the lower thresholds of all urgent labels, and is left to the reader otherwise. A study of
which an image failed is never called negative.

Positive studies come first, by the order of the urgent labels where there is one; then those left to the reader, those
that could not be scored before all others; then the negative ones. Within each the higher score comes first, measured,
so that labels can be compared, by the share of the validation cases that score lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import DataError
from ..datasets.manifest.tables import Predictions, nearest
from .statistics.triage import EVERY, Cut, Promise, one_per_patient, triage_cuts

POSITIVE, READER, NEGATIVE = "positive", "reader", "negative"
_ORDER = (POSITIVE, READER, NEGATIVE)


@dataclass(frozen=True, eq=False)
class Cuts:
    """The two thresholds of one label, and what its scores are compared with.

    Attributes:
        upper, lower: Scores from `upper` on are called positive, those below `lower` negative; NaN for none.
        reference: (N,) ascending scores of the validation cases.
    """

    upper: Cut
    lower: Cut
    reference: np.ndarray


def worklist_cuts(
    reference: Predictions, labels: Sequence[str], promise: Promise, split: str = "val", seed: int = 0
) -> dict[str, Cuts]:
    """Choose the thresholds of labels, as the report's section on abstention does.

    Args:
        reference: Predictions with truth.
        labels: Urgent labels.
        promise: What must hold of cases that are called.
        split: Of the cases that choose.
        seed: Of the draw of one case per patient.

    Raises:
        DataError: A label that is not there, or no scored case with truth.
    """
    for label in labels:
        if label not in reference.labels:
            raise DataError(f"{reference.path}: no label {label!r}{nearest(label, reference.labels)}.")
    rows = reference.rows(split).scored()
    if not len(rows):
        raise DataError(f"{reference.path}: no scored case of the split {split!r} to choose thresholds on.")
    found = {}
    for label in labels:
        at = reference.labels.index(label)
        truth, score = rows.truth()[:, at], rows.scores()[:, at]
        one = one_per_patient(rows.table["patient"], ~np.isnan(truth), seed)
        found[label] = Cuts(*triage_cuts(truth[one], score[one], promise), np.sort(score))
    return found


def worklist(table: Predictions, cuts: dict[str, Cuts], ranked: bool = False) -> pd.DataFrame:
    """Return a row per study, the most urgent first.

    Args:
        table: Predictions; images of one `study` belong together, a row without one is its own study.
        cuts: By label.
        ranked: Whether their order is that of urgency; else all are equally urgent.

    Returns:
        `place, study, call, because, label, score, urgency, images, failed, id, patient`, and `accession` where the
        table has it. `label`, `score` and `id` are those that decided; `urgency` is the share of the validation cases
        that score lower than `score`.
    """
    for label in cuts:
        if label not in table.labels:
            raise DataError(f"{table.path}: no label {label!r}{nearest(label, table.labels)}.")
    cases = table.table
    studies = cases["study"].where(cases["study"] != "", cases["id"]) if "study" in cases else cases["id"]
    rows = [_study(str(name), group, cuts, ranked) for name, group in cases.groupby(studies, sort=False)]
    rows.sort(key=lambda row: row.pop("key"))
    found = pd.DataFrame(rows)
    found.insert(0, "place", np.arange(1, len(found) + 1))
    return found


def _study(name: str, images: pd.DataFrame, cuts: dict[str, Cuts], ranked: bool) -> dict:
    failed = images["status"] == "failed"
    scored, labels = images[~failed], list(cuts)
    score = scored[[f"p_{label}" for label in labels]].to_numpy(np.float64)
    share = np.column_stack([
        np.searchsorted(cuts[label].reference, score[:, i], side="left") / len(cuts[label].reference)
        for i, label in enumerate(labels)
    ])  # fmt: skip
    above = score >= np.array([cuts[label].upper.threshold for label in labels])  # nothing reaches NaN
    below = score < np.array([cuts[label].lower.threshold for label in labels])
    row, at, call = 0, 0, READER
    if above.any():
        if ranked:
            above[:, int(above.any(axis=0).argmax()) + 1 :] = False
        call = POSITIVE
        row, at = _largest(np.where(above, share, -1))
    elif len(scored):
        call = NEGATIVE if below.all() and not failed.any() else READER
        row, at = _largest(share)
    shown = scored.iloc[row] if len(scored) else images.iloc[0]
    label = labels[at]
    said: dict[str, Any] = {
        "study": name,
        "call": call,
        "because": _because(call, images[failed], label, cuts[label]),
        "label": label if len(scored) else "",
        "score": float(score[row, at]) if len(scored) else np.nan,
        "urgency": float(share[row, at]) if len(scored) else np.nan,
        "images": len(images),
        "failed": int(failed.sum()),
        "id": shown["id"],
        "patient": shown["patient"],
    }
    unscored = call == READER and bool(failed.any())
    first = at * ranked if call == POSITIVE else -int(unscored)
    key = (_ORDER.index(call), first, -said["urgency"] if len(scored) else -np.inf, name)
    return said | ({"accession": shown["accession"]} if "accession" in images else {}) | {"key": key}


def _largest(values: np.ndarray) -> tuple[int, int]:
    """Return row and column of the largest of (N, L) values."""
    row, column = divmod(int(values.argmax()), values.shape[1])
    return row, column


def _because(call: str, failed: pd.DataFrame, label: str, cuts: Cuts) -> str:
    if call == POSITIVE:
        return f"{label} from {_shown(cuts.upper)} on"
    if len(failed):
        return f"{len(failed)} of its images could not be scored: {failed['reason'].iloc[0]}"
    if call == NEGATIVE:
        return "all urgent labels below their lower thresholds"
    return f"{label} decides nothing: from {_shown(cuts.lower)} up to {_shown(cuts.upper)} the reader does"


def _shown(cut: Cut) -> str:
    if np.isnan(cut.threshold):
        return "(no threshold)"
    return "1" if cut.threshold == EVERY else f"{cut.threshold:.3g}"
