"""What is measured of each kind of target: one value that results, comparison and report ask."""

from typing import Protocol

import numpy as np
import pandas as pd

from ...datasets.manifest.tables import Ordinal, Regression, Survival, Target
from ..statistics.resampling import PatientBootstrap
from . import ordinal_metrics, regression_metrics, survival_metrics
from .measured import Measured


class Analysis(Protocol):
    """What is measured of one target."""

    @property
    def target(self) -> Target:
        """Return the target of the table."""

    @property
    def main(self) -> tuple[str, ...]:
        """Return the metric that a result is about, and others that are said with it."""

    @property
    def higher(self) -> bool:
        """Return whether more of the first is better."""

    def measured(self, truth: np.ndarray, table: pd.DataFrame, bootstrap: PatientBootstrap) -> Measured:
        """Return the metrics of N scored cases with known (N, T) truth."""

    def name(self, metric: str) -> str:
        """Return a metric's name, for people."""


class NumberAnalysis:
    """Of a number."""

    main, higher = ("mae", "rmse", "concordance"), False

    def __init__(self, target: Regression):
        self.target = target

    def measured(self, truth: np.ndarray, table: pd.DataFrame, bootstrap: PatientBootstrap) -> Measured:
        """Return errors, concordance, and limits of agreement."""
        value = table[self.target.columns[0]].to_numpy(np.float64)
        return regression_metrics.regression_measured(truth[:, 0], value, bootstrap)

    def name(self, metric: str) -> str:
        """Return a metric's name."""
        return regression_metrics.NAMES[metric]


class GradeAnalysis:
    """Of a grade."""

    main, higher = ("kappa_quadratic", "grade_mae"), True

    def __init__(self, target: Ordinal):
        self.target = target

    def measured(self, truth: np.ndarray, table: pd.DataFrame, bootstrap: PatientBootstrap) -> Measured:
        """Return kappas, errors in grades, and the AUROC of each threshold."""
        grade = table[f"grade_{self.target.name}"].to_numpy(np.float64)
        atleast = table[list(self.target.columns)].to_numpy(np.float64)
        return ordinal_metrics.ordinal_measured(truth[:, 0], grade, atleast, bootstrap)

    def name(self, metric: str) -> str:
        """Return a metric's name."""
        if metric.startswith(ordinal_metrics.AUROC):
            return f"AUROC, grade {metric.removeprefix(ordinal_metrics.AUROC)} or more"
        return ordinal_metrics.NAMES[metric]


class TimeAnalysis:
    """Of a time until an event.

    Args:
        target: Of the table.
        times: At which it is evaluated, the same for models that are compared.
    """

    main, higher = ("c_harrell", "c_uno", "brier_integrated"), True

    def __init__(self, target: Survival, times: np.ndarray):
        self.target, self.times = target, times

    def measured(self, truth: np.ndarray, table: pd.DataFrame, bootstrap: PatientBootstrap) -> Measured:
        """Return concordance, discrimination and calibration in time."""
        risk, free = table[self.target.columns[0]].to_numpy(np.float64), self.free(table)
        return survival_metrics.survival_measured(truth, risk, free, self.times, bootstrap)

    def free(self, table: pd.DataFrame) -> np.ndarray:
        """Return (N, J) event-free probabilities at the evaluated times."""
        free = table[list(self.target.columns[1:])].to_numpy(np.float64)
        return survival_metrics.free_at(self.times, np.array(self.target.times), free)

    def name(self, metric: str) -> str:
        """Return a metric's name."""
        for head, words in survival_metrics.AT_TIME.items():
            if metric.startswith(head):
                return f"{words} {metric.removeprefix(head)}"
        return survival_metrics.NAMES[metric]


def analysis(target: Target, truth: np.ndarray, times: np.ndarray | None = None) -> Analysis:
    """Return what is measured of a target.

    Args:
        target: Of the table.
        truth: (N, T) known truth of the evaluated cases.
        times: Of a time until an event: where another model is evaluated, whose predictions it is compared with.
    """
    if isinstance(target, Regression):
        return NumberAnalysis(target)
    if isinstance(target, Ordinal):
        return GradeAnalysis(target)
    assert isinstance(target, Survival)
    own = np.array(target.times)
    if times is None:
        times = survival_metrics.evaluated_times(own, truth)
    return TimeAnalysis(target, times if len(own) else times[:0])
