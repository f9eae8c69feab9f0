"""What the cards of all models share: what is asked of the network, in outputs and in columns of a table."""

from typing import Any

import numpy as np

from ..datasets.manifest.targets import Asked, Target, stored


class Answers:
    """The part of a card that says what the model answers.

    Attributes:
        labels: Names of what is asked.
        targets: Of numbers, grades and times, each as JSON holds it (`Target.plain`); empty of findings.
        aggregation: Of a model whose thresholds and calibration are of units larger than an image: `unit`, and the
            `rule` by which scores of images become its own (`eval.units`), `learned` where the network knows it.
    """

    labels: tuple[str, ...]
    targets: tuple[dict[str, Any], ...]
    aggregation: dict[str, Any]

    @property
    def kinds(self) -> tuple[Target, ...]:
        """Return the targets that are no labels; a model of these has no labels."""
        return tuple(stored(each) for each in self.targets)

    @property
    def asked(self) -> Asked:
        """Return labels or targets."""
        return self.kinds or self.labels

    @property
    def outputs(self) -> int:
        """Return how many outputs the network has."""
        return sum(each.width for each in self.kinds) if self.targets else len(self.labels)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the S columns of the scores in a predictions table."""
        if self.targets:
            return tuple(column for each in self.kinds for column in each.columns)
        return tuple(f"p_{label}" for label in self.labels)

    def summaries(self, scores: np.ndarray) -> np.ndarray:
        """Return (N, L) one number for each label or target of (N, S) scores: those of findings themselves."""
        if not self.targets:
            return scores
        ends = np.cumsum([len(each.columns) for each in self.kinds])
        parts = np.split(scores, ends[:-1], axis=1)
        return np.column_stack([each.summary(own) for each, own in zip(self.kinds, parts, strict=True)])

    def to_dict(self) -> dict:
        """Return plain values for JSON; of findings as ever."""
        values = super().to_dict()  # type: ignore[misc]
        unset = [name for name in ("targets", "aggregation") if not getattr(self, name)]
        return {key: value for key, value in values.items() if key not in unset}
