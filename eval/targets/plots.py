"""Drawings of numbers, grades and times: against the truth, of agreement, of survival by risk, of calibration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..report.matrix import confusion_matrix
from ..report.plots import DASHES, GRID, INK, MODELS, MUTED, axes_px, svg_style, svg_text
from ..statistics.intervals import Estimate
from .ordinal_metrics import confusion_of
from .risk_groups import Groups, RiskGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 400  # drawn of a cloud; the axes hold all


def scatter(truth: np.ndarray, value: np.ndarray, name: str, alt: str, unit: str, model: int = 0) -> str:
    """Draw predicted over true values with the identity, dotted."""
    low, high = min(truth.min(), value.min()), max(truth.max(), value.max())
    with svg_style(name):
        figure, axes = _axes()
        axes.plot([low, high], [low, high], color=MUTED, lw=0.8, ls=(0, (1, 2)))
        _cloud(axes, truth, value, model)
        axes.set(xlabel=f"true{_in(unit)}", ylabel="predicted")
        return svg_text(figure, name, alt, _texts(unit))


def bland_altman(
    truth: np.ndarray, value: np.ndarray, lines: Sequence[Estimate], name: str, alt: str, unit: str, model: int = 0
) -> str:
    """Draw predicted minus true over their mean, with bias and limits of agreement and the intervals of these.

    Args:
        truth: (N,).
        value: (N,) the predicted ones.
        lines: Lower limit, bias and upper limit.
        name: Of the plot, unique on the page.
        alt: What it shows, in words.
        unit: Of the values.
        model: Its place.
    """
    with svg_style(name):
        figure, axes = _axes()
        _cloud(axes, (truth + value) / 2, value - truth, model)
        for estimate, dashes in zip(lines, ((0, (4, 2)), "-", (0, (4, 2)))):
            if not np.isnan(estimate.low):
                axes.axhspan(estimate.low, estimate.high, color=MUTED, alpha=0.16, lw=0)
            axes.axhline(estimate.value, color=INK, lw=0.9, ls=dashes)
        axes.set(xlabel=f"mean of both{_in(unit)}", ylabel="predicted − true")
        return svg_text(figure, name, alt, _texts(unit))


def grades(truth: np.ndarray, grade: np.ndarray, name: str, alt: str) -> str:
    """Draw the confusion of true (rows) and predicted grades."""
    count = int(max(truth.max(), grade.max())) + 1
    return confusion_matrix(confusion_of(truth, grade, count), [f"grade {each}" for each in range(count)], name, alt)


def survival_by_risk(found: Groups, name: str, alt: str, unit: str) -> str:
    """Draw Kaplan-Meier's curves of the groups by risk."""
    with svg_style(name):
        figure, axes = _axes()
        last = max(group.times.max() for group in found.risk)
        for i, group in enumerate(found.risk):
            x, y = np.concatenate([[0], group.times]), np.concatenate([[1], group.values])
            colour, dashes = MODELS[i % len(MODELS)], DASHES[i % len(DASHES)]
            axes.step(x, y, where="post", color=colour, lw=1.5, ls=dashes, clip_on=False)
            axes.text(1.02 * last, group.values[-1], group.name, color=colour, va="center", fontsize=8.5)
        axes.set(xlim=(0, last), ylim=(0, 1.02), xlabel=f"time{_in(unit)}", ylabel="event-free")
        return svg_text(figure, name, alt, _texts(unit))


def survival_calibration(parts: Sequence[RiskGroup], name: str, alt: str, model: int = 0) -> str:
    """Draw observed over mean predicted event-free probability at a time, with intervals; dotted is perfect."""
    colour = MODELS[model % len(MODELS)]
    with svg_style(name):
        figure, axes = _axes()
        axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (1, 2)))
        for part in parts:
            if not np.isnan(part.observed.low):
                axes.vlines(part.predicted, part.observed.low, part.observed.high, color=colour, lw=1.2, alpha=0.6)
        predicted, observed = [part.predicted for part in parts], [part.observed.value for part in parts]
        axes.plot(predicted, observed, color=colour, marker="o", ms=4, lw=1.2, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="predicted event-free probability", ylabel="observed")
        return svg_text(figure, name, alt, {})


def _axes():
    figure, axes = axes_px(320, 250, left=46, right=64, top=8, bottom=32)
    axes.grid(color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _cloud(axes: "Axes", x: np.ndarray, y: np.ndarray, model: int) -> None:
    kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).astype(int))
    axes.plot(x[kept], y[kept], ls="none", marker="o", ms=3, mew=0, alpha=0.55, color=MODELS[model % len(MODELS)])
    axes.update_datalim(np.column_stack([x, y]))
    axes.autoscale_view()


def _in(unit: str) -> str:
    """Return the stand-in for a unit; its text is put in by `svg_text`, escaped."""
    return " (@0@)" if unit else ""


def _texts(unit: str) -> dict[str, str]:
    return {"@0@": unit} if unit else {}
