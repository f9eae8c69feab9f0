"""The small panels of one label, all models in each: ROC, precision-recall and calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..statistics.curve_bands import Band, curve_bands
from ..statistics.resampling import PatientBootstrap
from ..statistics.results import LabelResult, Results
from .formats import number
from .plots import Point, calibration_panel, pr_panel, roc_panel


@dataclass(frozen=True, eq=False)
class Curves:
    """What the panels of one label draw, of M models that have it.

    Attributes:
        rows: M pairs of the model's name and its metrics.
        curves: M pairs of truth (N,) and score (N,).
        roc_bands, pr_bands: M bands; None where there is none.
    """

    rows: Sequence[tuple[str, LabelResult]]
    curves: Sequence[tuple[np.ndarray, np.ndarray]]
    roc_bands: Sequence[Band | None]
    pr_bands: Sequence[Band | None]

    @property
    def roc_points(self) -> list[Point]:
        """Return the operating points, 1 - specificity and sensitivity."""
        return [(1 - _value(row, "specificity"), _value(row, "sensitivity")) for _, row in self.rows]

    @property
    def pr_points(self) -> list[Point]:
        """Return the operating points, sensitivity and PPV."""
        return [(_value(row, "sensitivity"), _value(row, "ppv")) for _, row in self.rows]


def curves_of(found: Results, label: str, bootstraps: Sequence[PatientBootstrap]) -> Curves:
    """Gather what is drawn of one label."""
    rows, curves, bands = [], [], []
    for model, bootstrap in zip(found.models, bootstraps, strict=True):
        for i, row in enumerate(model.labels):
            if row.label == label and row.detailed:
                rows.append((model.name, row))
                curves.append((model.truth[:, i], model.scores[:, i]))
                bands.append(curve_bands(*curves[-1], bootstrap) or (None, None))
    of_roc, of_pr = zip(*bands, strict=True)
    return Curves(rows, curves, of_roc, of_pr)


def panels(own: Curves, label: str, name: str) -> dict[str, str]:
    """Draw the panels of one label; `name` is unique on the page."""
    said = {
        metric: "; ".join(f"{model} {number(row.metrics[metric].value)}" for model, row in own.rows)
        for metric in ("auroc", "average_precision", "calibration_error")
    }
    roc = f"ROC curve, {label}. AUROC: {said['auroc']}."
    pr = f"Precision-recall curve, {label}. AP: {said['average_precision']}."
    fit = f"Calibration, {label}, and the scores by truth. Calibration error: {said['calibration_error']}."
    calibrations = [row.calibration for _, row in own.rows]
    return {
        "roc": roc_panel(own.curves, own.roc_bands, own.roc_points, f"{name}r", roc),
        "pr": pr_panel(own.curves, own.pr_bands, own.pr_points, f"{name}p", pr),
        "calibration": calibration_panel(calibrations, own.curves, f"{name}c", fit),
    }


def _value(row: LabelResult, metric: str) -> float:
    estimate = row.metrics.get(metric)
    return float("nan") if estimate is None else estimate.value
