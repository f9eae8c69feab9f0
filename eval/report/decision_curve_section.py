"""The report's section on decision curves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import markupsafe
import numpy as np

from ...datasets.manifest.tables import Predictions
from ..evaluation import Evaluation
from ..statistics.classes import detailed_labels
from ..statistics.compare import same_cases
from ..statistics.decision_curve import THRESHOLDS, DecisionCurve, decision_curves
from ..statistics.further_metrics import net_benefit_difference
from ..statistics.intervals import NO_INTERVAL, Estimate
from .metrics_json import estimate_json
from .plots import DASHES, MODELS, MUTED, axes_px, svg_style, svg_text
from .section import MetricRow, Section

CASES = 1000  # that the page gives the net benefit for
MOST_DRAWN = 30  # labels drawn, those with the most positive cases; tables hold all
SHOWN = (0.05, 0.2, 0.5)  # thresholds whose net benefit is in the table
ALT = 0.2  # the one that a panel's description names
METHODS = (
    "Decision curves (Vickers and Elkin): net benefit is the share of true positives minus the share of false "
    "positives times p / (1 − p), at thresholds p of 0.01 to 0.99; exclusive classes are each taken against all "
    "others. Bands are pointwise 95 % intervals of the bootstrap by patient."
)


def decision_section(tables: Mapping[str, Predictions], evaluation: Evaluation) -> Section:
    """Return decision curves of all models on one split: of all labels, or of many exclusive classes the most frequent.

    Args:
        tables: Model name to its predictions, in the order of the report.
        evaluation: The split, and how the bands are made.
    """
    labels = detailed_labels(next(iter(tables.values())), evaluation.split)
    found = {name: _of_model(table, labels, evaluation) for name, table in tables.items()}
    differences = _differences(tables, labels, evaluation)
    rows = {label: [(name, own[label]) for name, own in found.items() if label in own] for label in labels}
    drawn = _drawn(rows)
    return Section(
        anchor="decisions",
        title="Decision curves",
        after="calibration",
        content={
            "rows": {label: [_row(name, curve) for name, curve in row] for label, row in rows.items()},
            "shown": SHOWN,
            "differences": _by_pair(differences),
            "most_drawn": MOST_DRAWN,
            "panels": [
                {"label": label, "svg": markupsafe.Markup(_panel(rows[label], list(found), f"d{i}", label))}
                for i, label in enumerate(drawn)
            ],
            "marked": any(_marked(curve) for own in found.values() for curve in own.values()),
        },
        plain={
            "thresholds": THRESHOLDS.tolist(),
            "models": [
                {"model": name, "labels": [_plain(label, curve) for label, curve in own.items()]}
                for name, own in found.items()
            ],
            "differences": [
                {"models": row.model, "label": row.label, "metric": row.metric} | estimate_json(row.estimate)
                for row in differences
            ],
        },
        metrics=differences
        + [
            MetricRow(name, label, f"decisions_net_benefit_at_{at:g}", curve.at(at), curve.cases, curve.positives)
            for name, own in found.items()
            for label, curve in own.items()
            for at in SHOWN
        ],
        methods=METHODS,
    )


def _of_model(table: Predictions, labels: Sequence[str], evaluation: Evaluation) -> dict[str, DecisionCurve]:
    scored = table.rows(evaluation.split).scored()
    truth, scores = scored.truth(), scored.scores()
    bootstrap = evaluation.bootstrap(scored.table["patient"], truth)
    places = [table.labels.index(label) for label in labels if label in table.labels]
    curves = decision_curves(truth[:, places], scores[:, places], bootstrap)
    return {table.labels[place]: curve for place, curve in zip(places, curves)}


def _differences(tables: Mapping[str, Predictions], labels: Sequence[str], evaluation: Evaluation) -> list[MetricRow]:
    """Return the net benefit of the first model minus that of each other one, on the cases that both scored."""
    (name, first), *others = tables.items()
    rows = []
    for other, table in others:
        shared = tuple(label for label in labels if label in table.labels and label in first.labels)
        one, two = same_cases(first, table, shared, evaluation.split)
        both = ((one["status"] == "ok") & (two["status"] == "ok")).to_numpy()
        a, b = (replace(first, table=each[both].reset_index(drop=True), labels=shared) for each in (one, two))
        truth, scores = a.truth(), (a.scores(), b.scores())
        bootstrap = evaluation.bootstrap(a.table["patient"], truth)
        for at in SHOWN:
            gaps = net_benefit_difference(truth, *scores, at, bootstrap)
            metric = f"decisions_net_benefit_difference_at_{at:g}"
            rows += [MetricRow(f"{name} - {other}", label, metric, gap, len(truth)) for label, gap in zip(shared, gaps)]
    return rows


def _by_pair(rows: Sequence[MetricRow]) -> dict[str, dict[str, list[Estimate]]]:
    """Return the differences per 1,000 cases by pair of models and label, in the order of `SHOWN`."""
    found: dict[str, dict[str, list[Estimate]]] = {}
    for row in rows:
        e = row.estimate
        scaled = replace(e, value=CASES * e.value, low=CASES * e.low, high=CASES * e.high)
        found.setdefault(row.model, {}).setdefault(row.label, []).append(scaled)
    return found


def _drawn(rows: Mapping[str, Sequence[tuple[str, DecisionCurve]]]) -> list[str]:
    """Return at most 30 labels that have a curve, those with the most positive cases, in the table's order."""
    positives = {
        label: max((curve.positives for _, curve in row if not curve.reason), default=0) for label, row in rows.items()
    }
    kept = sorted(positives, key=lambda label: -positives[label])[:MOST_DRAWN]
    return [label for label in rows if label in kept and positives[label]]


def _row(model: str, curve: DecisionCurve) -> dict:
    """Return a line of the table, per 1,000 cases."""
    shown = [curve.at(threshold) for threshold in SHOWN]
    scaled = [replace(e, value=CASES * e.value, low=CASES * e.low, high=CASES * e.high) for e in shown]
    return {"model": model, "reason": curve.reason, "net_benefit": scaled, "useful": curve.useful()}


def _marked(curve: DecisionCurve) -> bool:
    reasons = [curve.at(threshold).reason for threshold in SHOWN if not curve.reason]
    return any(reason and not reason.startswith(NO_INTERVAL) for reason in reasons)


def _plain(label: str, curve: DecisionCurve) -> dict:
    return {
        "label": label,
        "n": curve.cases,
        "positives": curve.positives,
        "reason": curve.reason,
        "treat_all": curve.treat_all.tolist(),
        "net_benefit": [estimate.value for estimate in curve.net_benefit],
        "low": [estimate.low for estimate in curve.net_benefit],
        "high": [estimate.high for estimate in curve.net_benefit],
        "better_than_all_and_none": curve.useful(),
    }


def _panel(curves: Sequence[tuple[str, DecisionCurve]], models: Sequence[str], name: str, label: str) -> str:
    """Draw net benefit over the threshold: a line and band per model, treating all dotted, treating none grey."""
    defined = [(models.index(model), curve) for model, curve in curves if not curve.reason]
    values = {place: CASES * np.array([e.value for e in curve.net_benefit]) for place, curve in defined}
    first = defined[0][1]
    treat_all = CASES * first.treat_all
    top = 1.08 * max(CASES * first.positives / first.cases, *(value.max() for value in values.values()))
    # A rare finding's curve would hide in a corner: the axis ends where no model is worth 2 % of it any more.
    last = max(THRESHOLDS[value > 0.02 * top].max(initial=0) for value in values.values())
    right = next(right for right in (0.1, 0.2, 0.5, 1) if last <= right)
    within = slice(round(100 * right))
    with svg_style(name):
        figure, axes = axes_px(150, 146, left=34, right=6, top=6, bottom=27)
        axes.axhline(0, color=MUTED, lw=0.8)
        axes.plot(THRESHOLDS[within], treat_all[within], color=MUTED, lw=1, ls=(0, (1, 2)))
        for place, curve in defined:
            colour = MODELS[place % len(MODELS)]
            low, high = (CASES * np.array([getattr(e, end) for e in curve.net_benefit]) for end in ("low", "high"))
            axes.fill_between(THRESHOLDS[within], low[within], high[within], color=colour, alpha=0.16, lw=0)
            axes.plot(THRESHOLDS[within], values[place][within], color=colour, lw=1.5, ls=DASHES[place % len(DASHES)])
        axes.set(xlim=(0, right), ylim=(-0.12 * top, top), xlabel="threshold", ylabel="net benefit / 1,000")
        _ticks(axes, right, top)
        at = round(100 * ALT) - 1
        said = "; ".join(f"{models[place]} {values[place][at]:.1f}" for place, _ in defined)
        alt = (
            f"Decision curve, {label}. Net benefit per 1,000 cases at threshold {ALT}: {said}; "
            f"treat all {treat_all[at]:.1f}; treat none 0."
        )
        return svg_text(figure, name, alt, {})


def _ticks(axes, right: float, top: float) -> None:
    """Put three ticks on the first axis; 0 and a round number on the second."""
    unit = 10.0 ** np.floor(np.log10(top))
    high = max(step * unit for step in (1, 2, 5) if step * unit <= top)
    for place, ticks in (("x", [0, right / 2, right]), ("y", [0, high])):
        names = [f"{tick:g}".removeprefix("0") or "0" for tick in ticks]
        getattr(axes, f"set_{place}ticks")(ticks, names)
