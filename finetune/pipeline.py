"""The one way from cases to a table: scores of a predictor, calibration, a row per case, predicted labels.

Files, cached pixels, arrays, bags of tiles and exported graphs come this way, from the command and from Python.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..core.errors import masked
from ..datasets.manifest.tables import Asked, Manifest, Target, predictions_table

PREDICTED = "pred_"
WARNING = "warning"


class Scored(NamedTuple):
    """What became of some cases.

    Attributes:
        positions: n positions among the cases asked for.
        scores: (n, L) float64 probabilities, NaN where there are none.
        reasons: n texts, empty where a case went well. Of a case with scores, what there is to warn of.
    """

    positions: Sequence[int]
    scores: np.ndarray
    reasons: Sequence[str]


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

    def scores(self, cases: pd.DataFrame) -> Iterator[Scored]:
        """Yield the scores of all cases, some at a time, before any calibration.

        Args:
            cases: N rows with `id`, `path` (or what else the predictor reads of them).
        """


def predicted(cases: pd.DataFrame, truth: np.ndarray, predictor: Predictor, progress: bool = True) -> pd.DataFrame:
    """Return the predictions table of cases, one row each; of a failed one with its reason.

    Where a case with scores has something to warn of, there is a column `warning`.

    Args:
        cases: N rows with `id, patient, split` and what the predictor reads; where there is a column `shown`, that
            stands for the `path` in reasons.
        truth: (N, L) of 0, 1, NaN; of targets that are no labels theirs.
        predictor: Gives the scores.
        progress: Whether to show a bar.
    """
    card = predictor.card
    found = predictor.scores(cases)
    scores, reasons = collected(
        shown(found, len(cases), card.unit) if progress else found, len(cases), score_width(card)
    )
    if "shown" in cases:
        names = zip(reasons, cases["path"], cases["shown"], strict=True)
        reasons = [masked(reason, path, name) for reason, path, name in names]
    reasons, warnings = apart(scores, reasons)
    kinds = kinds_of(card)
    table = predictions_table(cases, card.labels, truth, calibrated(card, scores), reasons, targets=kinds)
    table = table if kinds else with_predicted_labels(table, card)
    return table.assign(**{WARNING: warnings}) if any(warnings) else table


def kinds_of(card: PredictorCard) -> tuple[Target, ...]:
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
    with tqdm(total=total, initial=before, desc="predicting", unit=unit, disable=None) as bar:
        for some in found:
            yield some
            bar.update(len(some.positions))


def calibrated(card: PredictorCard, scores: np.ndarray) -> np.ndarray:
    """Return (N, L) scores after the calibration in the model's card; the same where it has none."""
    from ..eval.statistics.scaling import Scaling, scaled

    if not card.calibration:
        return scores
    return scaled(scores, [Scaling(**card.calibration[label]) for label in card.labels], card.exclusive)


def with_predicted_labels(table: pd.DataFrame, card: PredictorCard) -> pd.DataFrame:
    """Return the table with `pred_<label>`: 1 where the score reaches the model's threshold, else 0.

    It is empty where the case failed; labels without a threshold have no column. Exclusive classes have none: the
    largest score decides.
    """
    if card.exclusive:
        return table
    cuts = {label: (card.thresholds.get(label) or {}).get("value") for label in card.labels}
    cuts = {label: cut for label, cut in cuts.items() if cut is not None}
    scores = {label: table[f"p_{label}"].to_numpy(np.float64) for label in cuts}
    columns = {
        PREDICTED + label: np.where(np.isnan(scores[label]), np.nan, scores[label] >= cuts[label]) for label in cuts
    }
    table = pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)
    table.attrs["thresholds"] = cuts  # which an evaluation without validation cases takes
    return table


def manifest_cases(manifest: Manifest, asked: Asked) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the cases of a manifest with the `path` of each file, and (N, T) truth, NaN where unknown.

    Reasons show the id: names of files stay in the manifest.

    Args:
        manifest: N cases.
        asked: Labels or targets of the model; those that the manifest does not have are unknown.
    """
    files = [str(file) for file in manifest.files()]
    return manifest.table.assign(path=files, shown=manifest.table["id"]), manifest.truth(asked)
