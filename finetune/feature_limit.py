"""A limit on the distance of a case from the training cases, as it is applied: by NumPy alone, for graphs too.

`out_of_distribution` says how it is found.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .scored import WARNING, Predictor, PredictorCard, Scored, score_width

RECORD = "out_of_distribution"  # what the data of the card say of it
RATE = 0.01  # of patients like those of validation
LEAST_PATIENTS = 19  # of validation: with these one in 20 is flagged
LEAST_CASES = 100  # of training
_WHISKER = 1e-3  # by which the limit is raised, so that rounding flags no validation case that is not


@dataclass(frozen=True)
class Limit:
    """What is far from the training cases.

    Attributes:
        mean: (D,) of the training cases' features.
        whiten: (D, D): the length of `(features - mean) @ whiten` is the distance.
        limit: Distance above which a case is flagged.
        rate: Share of patients like those of validation that it flags at most.
        training, patients: Training cases and validation patients that it is from.
    """

    mean: np.ndarray
    whiten: np.ndarray
    limit: float
    rate: float
    training: int
    patients: int

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return (N,) distances of (N, D) features."""
        return np.sqrt((((features - self.mean) @ self.whiten) ** 2).sum(axis=1))

    def facts(self) -> dict[str, float]:
        """Return what the card records."""
        return {"rate": self.rate, "training_cases": self.training, "validation_patients": self.patients}

    def words(self, distance: float) -> str:
        """Return what is said of a case that is flagged."""
        return (
            f"out of distribution: its features are unlike those of the training cases (distance {distance:.3g}, limit "
            f"{self.limit:.3g}, which at most {self.rate:.2g} of validation-like patients exceed)"
        )


def why_none(training: int, patients: int) -> str:
    """Say which of training cases and validation patients are too few for a limit; empty where they are enough."""
    if training < LEAST_CASES:
        return f"{training} training cases, fewer than {LEAST_CASES}"
    return f"{patients} validation patients, fewer than {LEAST_PATIENTS}" if patients < LEAST_PATIENTS else ""


def conformal(limit: Limit, distances: np.ndarray, patients: Sequence[str]) -> Limit | str:
    """Return a limit like another one, raised or lowered to what validation patients have, or why there is none.

    Whatever gives the distances, of patients like these it flags no more than the stated share: they may be those of
    another form of the network, such as its int8 graph, from the mean and covariance of the first.

    Args:
        limit: Its mean and covariance stay.
        distances: (M,), NaN where a case failed.
        patients: M names.
    """
    furthest: dict[str, float] = {}
    for patient, distance in zip(patients, distances, strict=True):
        if np.isfinite(distance):
            furthest[patient] = max(furthest.get(patient, 0.0), float(distance))
    count = len(furthest)
    if few := why_none(limit.training, count):
        return few
    rate = max(RATE, 1 / (count + 1))
    place = math.ceil(round((count + 1) * (1 - rate), 9)) - 1
    value = sorted(furthest.values())[place] * (1 + _WHISKER)
    return replace(limit, limit=value, rate=rate, patients=count)


class Watched:
    """Scores of a predictor of scores and features, with a warning for each case that is out of distribution.

    Attributes:
        card: Of the model.
        distances: Of the cases that were scored, by position.

    Args:
        predictor: Gives (n, L + D) values.
        limit: Of the model.
    """

    card: PredictorCard

    def __init__(self, predictor: Predictor, limit: Limit):
        self.card, self._predictor, self._limit = predictor.card, predictor, limit
        self.distances: dict[int, float] = {}

    def scores(self, cases: Any) -> Iterator[Scored]:
        """Yield the scores of all cases; see `Predictor`."""
        labels = score_width(self.card)
        for some in self._predictor.scores(cases):
            distances = self._limit.distances(some.scores[:, labels:])
            self.distances |= dict(zip(map(int, some.positions), distances.tolist(), strict=True))
            reasons = _warned(self._limit, some.reasons, distances)
            yield some._replace(scores=some.scores[:, :labels], reasons=reasons)


def warned(table: Any, limit: Limit, distances: np.ndarray) -> Any:
    """Return a table of predictions with a warning for each case that is out of distribution.

    Args:
        table: DataFrame of N cases.
        limit: Of the model.
        distances: (N,), NaN where a case failed.
    """
    texts = _warned(limit, table[WARNING] if WARNING in table else [""] * len(table), distances)
    return table.assign(**{WARNING: texts}) if any(texts) else table


def _warned(limit: Limit, texts: Sequence[str], distances: np.ndarray) -> list[str]:
    """Return texts, with what is said of a case that is flagged."""
    return [
        "; ".join(filter(None, [text, limit.words(distance)])) if distance > limit.limit else text
        for text, distance in zip(texts, distances, strict=True)
    ]
