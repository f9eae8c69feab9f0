"""Whether a smaller graph loses less AUROC than a margin, finding by finding, on the same validation cases."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..eval.statistics.delong import delong_test, few_patients
from ..eval.statistics.reservations import too_few


class Loss(NamedTuple):
    """What a finding loses.

    Attributes:
        label: The finding.
        value: AUROC before minus AUROC after; NaN where a class is missing.
        high: Upper end of its 95 % interval (DeLong, paired, by patients); NaN where it cannot be judged.
        reason: Why it cannot be judged; else empty.
    """

    label: str
    value: float
    high: float
    reason: str

    def words(self, margin: float) -> str:
        """Return a line for people."""
        if self.reason:
            return f"{self.label}: too rare on validation to judge ({self.reason})"
        side = "below" if self.high < margin else "not below"
        return f"{self.label}: AUROC loss {self.value:.4f}, at most {self.high:.4f} (95 % interval), {side} {margin:g}"


def auroc_losses(
    labels: Sequence[str], truth: np.ndarray, before: np.ndarray, after: np.ndarray, patients: Sequence[str]
) -> list[Loss]:
    """Return what each finding loses.

    Args:
        labels: L names.
        truth: (N, L) of 0, 1, NaN (unknown).
        before: (N, L) scores of the exact graph.
        after: (N, L) of the smaller one.
        patients: N names.
    """
    names = np.asarray(patients)
    return [_loss(label, truth[:, i], before[:, i], after[:, i], names) for i, label in enumerate(labels)]


def _loss(label: str, truth: np.ndarray, before: np.ndarray, after: np.ndarray, patients: np.ndarray) -> Loss:
    scored = ~(np.isnan(before) | np.isnan(after))
    truth, before, after, patients = truth[scored], before[scored], after[scored], patients[scored]
    smaller = min(len(set(patients[truth == value])) for value in (0, 1))
    test = few_patients(delong_test(truth, before, after, patients), smaller)
    value = test.difference.value
    if why := too_few(smaller):
        return Loss(label, value, float("nan"), why.removeprefix("no interval: "))
    if test.difference.reason:  # no variance: every pair of cases is in the order of before
        return Loss(label, value, value, "") if value == 0 else Loss(label, value, float("nan"), test.difference.reason)
    return Loss(label, value, test.difference.high, "")


def within(losses: Sequence[Loss], margin: float) -> bool:
    """Return whether every finding that can be judged loses less than the margin, at the upper end of its interval."""
    return all(loss.high < margin for loss in losses if not loss.reason)
