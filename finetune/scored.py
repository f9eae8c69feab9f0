"""The one way from cases to rows, by NumPy alone: scores of a predictor, calibration, a row per case, predicted labels.

`pipeline` makes a DataFrame of the rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..core.errors import masked
from ..core.label_groups import findings_of, parts_of
from ..datasets.manifest.prediction_columns import Columns, prediction_columns

PREDICTED = "pred_"
WARNING = "warning"
REGION = "region_px"  # left, top, right, bottom of what was read of a clip that is cropped


class Scored(NamedTuple):
    """What became of some cases.

    Attributes:
        positions: n positions among the cases asked for.
        scores: (n, L) float64 probabilities, NaN where there are none.
        reasons: n texts, empty where a case went well. Of a case with scores, what there is to warn of.
        regions: Of clips that are read cropped n texts: which part was read, px (`video.region.Region.text`); else ().
    """

    positions: Sequence[int]
    scores: np.ndarray
    reasons: Sequence[str]
    regions: Sequence[str] = ()


class PredictorCard(Protocol):
    """What the pipeline asks of the card of a model; see `ModelCard`."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def exclusive(self) -> bool: ...

    @property
    def thresholds(self) -> dict[str, dict]: ...

    @property
    def calibration(self) -> dict[str, dict]: ...

    @property
    def unit(self) -> str: ...


class Predictor(Protocol):
    """What gives scores of cases."""

    @property
    def card(self) -> PredictorCard:
        """Of the model."""

    def scores(self, cases: Any) -> Iterator[Scored]:
        """Yield the scores of all cases, some at a time, before any calibration.

        Args:
            cases: Columns or DataFrame of N rows with `id`, `path` (or what else the predictor reads of them).
        """


def predicted_columns(
    cases: Mapping[str, Any], truth: np.ndarray, predictor: Predictor, progress: bool = True
) -> Columns:
    """Return the columns of the predictions table; arguments as of `pipeline.predicted`, of columns or a DataFrame."""
    card, count = predictor.card, len(cases["id"])
    found = predictor.scores(cases)
    regions: dict[int, str] = {}
    found = noting_regions(shown(found, count, card.unit) if progress else found, regions)
    scores, reasons = collected(found, count, score_width(card))
    if "shown" in cases:
        names = zip(reasons, cases["path"], cases["shown"], strict=True)
        reasons = [masked(reason, path, name) for reason, path, name in names]
    reasons, warnings = apart(scores, reasons)
    kinds = kinds_of(card)
    columns = prediction_columns(cases, card.labels, truth, calibrated(card, scores), reasons, targets=kinds)
    columns |= {} if kinds else predicted_labels(columns, card)
    columns |= {REGION: [regions.get(row, "") for row in range(count)]} if any(regions.values()) else {}
    return columns | ({WARNING: warnings} if any(warnings) else {})


def noting_regions(found: Iterable[Scored], regions: dict[int, str]) -> Iterator[Scored]:
    """Yield the same; the regions that were read of cropped clips are added by position."""
    for some in found:
        regions |= dict(zip(map(int, some.positions), some.regions))
        yield some


def kinds_of(card: PredictorCard) -> tuple[Any, ...]:
    """Return the targets of a card that are no labels; a card of findings need not know of them."""
    return getattr(card, "kinds", ())


def score_width(card: PredictorCard) -> int:
    """Return how many scores a case has."""
    return sum(len(each.columns) for each in kinds_of(card)) or len(card.labels)


def apart(scores: np.ndarray, texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return reasons of failures and warnings of cases that have scores, from the texts of both."""
    failed = np.isnan(scores).all(axis=1) if scores.shape[1] else np.array([bool(text) for text in texts], bool)
    reasons = [text if bad else "" for text, bad in zip(texts, failed, strict=True)]
    return reasons, ["" if bad else text for text, bad in zip(texts, failed, strict=True)]


def collected(found: Iterable[Scored], cases: int, width: int) -> tuple[np.ndarray, list[str]]:
    """Return (cases, width) float64 scores, NaN where there are none, and as many reasons."""
    scores, reasons = np.full((cases, width), np.nan), [""] * cases
    for some in found:
        scores[some.positions] = some.scores
        for position, reason in zip(some.positions, some.reasons, strict=True):
            reasons[position] = reason
    return scores, reasons


def shown(found: Iterable[Scored], total: int, unit: str, before: int = 0) -> Iterator[Scored]:
    """Yield the same, with a bar.

    Args:
        found: Scores of `total - before` cases.
        total: All cases.
        unit: What a case is.
        before: Cases that were done before.
    """
    from tqdm import tqdm

    with tqdm(total=total, initial=before, desc="predicting", unit=unit, disable=None) as bar:
        for some in found:
            yield some
            bar.update(len(some.positions))


def calibrated(card: PredictorCard, scores: np.ndarray) -> np.ndarray:
    """Return (N, L) scores after the calibration in the model's card; the same where it has none."""
    from ..eval.statistics.applied_scaling import Scaling, scaled

    if not card.calibration:
        return scores
    found = np.array(scores, np.float64)
    for part in parts_of(card.labels, card.exclusive):
        scalings = [Scaling(**card.calibration[card.labels[place]]) for place in part.places]
        found[:, part.places] = scaled(scores[:, part.places], scalings, part.exclusive)
    return found


def cut_offs(card: PredictorCard) -> dict[str, float]:
    """Return the thresholds of a model's findings, of those that have one; exclusive classes have none."""
    findings = [] if card.exclusive else findings_of(card.labels)
    found = {label: (card.thresholds.get(label) or {}).get("value") for label in findings}
    return {label: float(cut) for label, cut in found.items() if cut is not None}


def predicted_labels(columns: Mapping[str, Any], card: PredictorCard) -> Columns:
    """Return `pred_<label>`: 1 where the score reaches the model's threshold, else 0.

    It is NaN where the case failed; labels without a threshold have no column. Exclusive classes have none: the
    largest score decides.

    Args:
        columns: Of the table, with `p_<label>`.
        card: Of the model.
    """
    found = {}
    for label, cut in cut_offs(card).items():
        scores = np.asarray(columns[f"p_{label}"], np.float64)
        found[PREDICTED + label] = np.where(np.isnan(scores), np.nan, scores >= cut)
    return found
