"""What a learning curve found: sentences, one page that a head of department reads, JSON, and a CSV of all runs."""

from collections.abc import Sequence
from typing import Any

import markupsafe
import numpy as np
import pandas as pd

from ..statistics.intervals import Estimate
from ..statistics.learning_curve import LOG, POWER, LearningCurve
from ..statistics.learning_runs import MACRO, LearningRuns, Target
from ..statistics.reservations import FEW
from .formats import interval, many, number, signed
from .label_efficiency_section import Step, efficiency_plot, verdict
from .learning_axis import learning_axis
from .metrics_json import estimate_json, number_json

_DRAWN = 40  # points of a curve in the plot
FAR = 1.0  # times the largest size: what is said of more labels than that is a guess


def sentences(found: LearningRuns, asked: Any) -> list[str]:
    """Say what further labels are worth, where the encoder is ahead, and by which form.

    Args:
        found: What was measured.
        asked: `more`, `unit`, `along`, `split` and `resamples` (`Asked` of the stage).
    """
    target = found.targets[0]
    said = [_worth(model, target, found, asked) for model in found.models]
    rows = _rows(target)
    if len(found.models) == 2 and rows:
        said.append(verdict(rows, (found.models[0], found.models[1]), asked.unit))
    said += [_form(model, curve) for model, curve in target.curves.items() if curve is not None]
    largest = max((curve.measured.sizes[-1] for curve in target.curves.values() if curve is not None), default=np.nan)
    if asked.more > FAR * largest:
        further, times = learning_axis(asked).further, number(asked.more / largest, 1)
        said.append(
            f"{asked.more:,} further {further} are {times} times as many as were ever trained on: so "
            "far out the curve is a guess, whatever its interval."
        )
    return [*said, *_left_out(found)]


def metric_name(target: Target) -> str:
    """Return `macro AUROC`, `AUROC of Mass`."""
    one = target.name != MACRO or len(target.findings) == 1
    return f"AUROC of {target.findings[0]}" if one else "macro AUROC"


def curve_page(found: LearningRuns, asked: Any, notes: Sequence[str]) -> str:
    """Return the page as one self-contained HTML text."""
    from .templating import environment, inlined

    target, templates = found.targets[0], environment()
    templates.filters.update(number=number, many=many, words=_words, gained=_gained)
    rows = _rows(target)
    along = learning_axis(asked)
    plot = ""
    if rows:
        plot = efficiency_plot(rows, found.models, asked.unit, metric_name(target), _fitted(target), along.thing)
    return templates.get_template("learning_curve.html.j2").render(
        found=found,
        asked=asked,
        along=along,
        how=along.how.format(values=", ".join(asked.named())),
        sentences=sentences(found, asked),
        notes=notes,
        metric=metric_name(target),
        rows=rows,
        plot=markupsafe.Markup(plot),
        targets=[(metric_name(each), _target_rows(each, asked.more)) for each in found.targets],
        seeds=len({run.seed for run in found.runs}),
        css=inlined("report.css"),
    )


def curve_json(found: LearningRuns, asked: Any, notes: Sequence[str]) -> dict[str, Any]:
    """Return what `learning_curve.json` holds."""
    return {
        "split": asked.split, "unit": asked.unit, "cases": found.cases, "patients": found.patients,
        "resamples": asked.resamples, "more": asked.more, "models": list(found.models),
        "along": asked.along, "shares": [str(share) for share in asked.shares], "values": list(asked.values),
        "seeds": asked.seeds,
        "curves": [
            {"metric": metric_name(target), "findings": list(target.findings), "model": model,
             **_curve_json(curve, asked.more)}
            for target in found.targets for model, curve in target.curves.items()
        ],
        "gains": [
            {"metric": metric_name(target), "cases": size, "difference": estimate_json(gain)}
            for target in found.targets for size, gain in target.gains.items()
        ],
        "rare": found.rare, "absent": found.absent, "notes": list(notes), "sentences": sentences(found, asked),
    }  # fmt: skip


def curve_csv(found: LearningRuns) -> pd.DataFrame:
    """Return a row per run and metric; an empty score is that of a finding absent in the subset."""
    rows = [
        (run.model, str(run.share), run.seed, run.cases, run.patients, metric_name(target), score)
        for target in found.targets
        for run, score in zip(found.runs, target.scores)
    ]
    return pd.DataFrame(rows, columns=["model", "share", "seed", "cases", "patients", "metric", "value"])


def _left_out(found: LearningRuns) -> list[str]:
    """Say which findings are not in the mean, or that there is none."""
    said = [] if found.targets[0].name == MACRO else ["No finding can be averaged: the first of the table is shown."]
    if found.rare:
        named = ", ".join(f"{label} ({patients})" for label, patients in found.rare.items())
        said.append(
            f"Not in the mean, and without intervals, with fewer than {FEW} patients in the smaller class where the "
            f"models are scored: {named}."
        )
    if found.absent:
        named = ", ".join(found.absent)
        said.append(f"Not in the mean, for want of a positive or a negative case in some subsets: {named}.")
    return said


def _worth(model: str, target: Target, found: LearningRuns, asked: Any) -> str:
    curve = target.curves[model]
    if curve is None:
        return f"{_capital(model)}: fewer than two shares have a score for {metric_name(target)}: no curve."
    which = f"{_capital(model)}: another" if len(found.models) > 1 else "Another"
    along = learning_axis(asked)
    gained, size = _gained(curve.worth(asked.more)), along.size(round(curve.measured.sizes[-1]), asked.unit)
    return (
        f"{which} {asked.more:,} {along.thing} are worth {gained} {metric_name(target)}, on top of "
        f"{_words(curve.points()[-1])} with {size}."
    )


def _form(model: str, curve: LearningCurve) -> str:
    values = ", ".join(f"{name} = {number(value)}" for name, value in curve.coefficients().items())
    log, power = curve.fit.errors[0]
    if np.isnan(log):
        why = "two sizes cannot choose between forms"
    elif np.isnan(power):
        why = f"{LOG} is {number(log)} off at the largest size, when fitted on the smaller ones; three sizes cannot "
        why += f"tell whether {POWER} would be better"
    else:
        why = f"off at the largest size, when fitted on the smaller ones: {LOG} by {number(log)}, {POWER} by "
        why += number(power)
    return f"The curve of {model} is {curve.form} with {values} ({why})."


def _rows(target: Target) -> list[Step]:
    """Return the sizes that all models have, with the mean of their runs and the difference of two models."""
    curves = [curve for curve in target.curves.values() if curve is not None]
    if len(curves) < len(target.curves):
        return []
    points = [dict(zip(curve.measured.sizes.tolist(), curve.points())) for curve in curves]
    shared = [size for size in points[0] if all(size in own for own in points)]
    if len(curves) == 1:
        return [Step(round(size), points[0][size]) for size in shared]
    return [Step(round(size), points[0][size], points[1][size], target.gains[size]) for size in shared]


def _fitted(target: Target) -> list[list[tuple[float, Estimate]]]:
    """Return the curves of the models over the sizes measured, and to twice the largest."""
    found = []
    for curve in target.curves.values():
        assert curve is not None, "the plot is of models that have a curve"
        sizes = np.geomspace(curve.measured.sizes[0], 2 * curve.measured.sizes[-1], _DRAWN)
        found.append(list(zip(sizes.tolist(), curve.at(sizes))))
    return found


def _target_rows(target: Target, more: int) -> list[dict[str, Any]]:
    return [
        {"model": model, "curve": curve, "last": None if curve is None else curve.points()[-1],
         "worth": "" if curve is None else _gained(curve.worth(more))}
        for model, curve in target.curves.items()
    ]  # fmt: skip


def _curve_json(curve: LearningCurve | None, more: int) -> dict[str, Any]:
    if curve is None:
        return {"form": None, "points": []}
    log, power = map(number_json, curve.fit.errors[0])
    return {
        "form": curve.form, "coefficients": curve.coefficients(), "leave_largest_out": {LOG: log, POWER: power},
        "resamples_saturating": float(curve.draws.saturating().mean()), "worth": estimate_json(curve.worth(more)),
        "points": [
            {"cases": size, "runs": int(runs), **estimate_json(point)}
            for size, runs, point in zip(curve.measured.sizes.tolist(), curve.measured.counts(), curve.points())
        ],
    }  # fmt: skip


def _gained(gain: Estimate) -> str:
    if np.isnan(gain.low):
        return f"{signed(gain.value)} (no interval: {gain.reason.removeprefix('no interval: ')})"
    return f"{signed(gain.value)} ({interval(gain, sign=True)})"


def _words(found: Estimate) -> str:
    """Return `0.874 (0.84–0.90)`, without its interval where it has none."""
    return number(found.value) + (f" ({interval(found)})" if not np.isnan(found.low) else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
