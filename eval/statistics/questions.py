"""A question on two models, put before they are compared: is one not worse, or are both alike, within a margin."""

from dataclasses import dataclass

from ...core.errors import UserError

NON_INFERIORITY, EQUIVALENCE = QUESTIONS = ("non-inferiority", "equivalence")
METRICS = ("auroc", "average_precision", "sensitivity", "specificity", "accuracy")


@dataclass(frozen=True)
class Margin:
    """A question with its margin.

    Attributes:
        question: `non-inferiority` of the first model, or `equivalence`.
        margin: The largest difference that does not matter.
        metric: `auroc`, `average_precision`, `sensitivity`, `specificity` (at the models' thresholds) or `accuracy` (of
            exclusive classes); of one finding `Effusion:sensitivity`. Without a finding the mean over all of them.

    Raises:
        UserError: An unknown question or metric, or a margin that is none.
    """

    question: str
    margin: float
    metric: str = "auroc"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.question not in QUESTIONS:
            raise UserError(f"question {self.question!r}: one of {', '.join(QUESTIONS)}.")
        if not 0 < self.margin < 1:
            raise UserError(f"margin {self.margin:g}: a difference between 0 and 1 that does not matter, such as 0.05.")
        if self.name not in METRICS:
            raise UserError(
                f"metric {self.metric!r}: one of {', '.join(METRICS)}; of one finding Effusion:sensitivity."
            )

    @property
    def name(self) -> str:
        """Return the metric without the finding."""
        return self.metric.rpartition(":")[2]

    @property
    def label(self) -> str:
        """Return the finding; empty for the mean over all."""
        return self.metric.rpartition(":")[0]
