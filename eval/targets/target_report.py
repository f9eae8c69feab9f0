"""The report of numbers, grades or times: the page, `report.json`, `metrics.csv` and `report.tex`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...datasets.manifest.tables import Ordinal, Regression, Survival
from ..report.context import Context
from ..report.latex import HEAD, escape, estimate_cell, table
from ..report.metrics_csv import COLUMNS
from ..report.metrics_json import estimate_json, number_json, plain
from ..report.section import MetricRow, Section
from ..statistics.intervals import LEVEL, Estimate
from .analysis import TimeAnalysis
from .results import TargetResult, TargetResults
from .risk_groups import Groups, RiskGroup, groups
from .words import digits_of, target_headline

MOST_FAILED = 200  # on the page; report.json lists all


@dataclass(frozen=True, eq=False)
class TargetReport:
    """What is written of an evaluation.

    Attributes:
        content: Of `report.json`.
        metrics: Of `metrics.csv`.
        latex: Of `report.tex`.
        page: Of `report.html`.
    """

    content: dict[str, Any]
    metrics: pd.DataFrame
    latex: str
    page: str


def target_report(found: TargetResults, title: str, context: Context, sections: Sequence[Section]) -> TargetReport:
    """Return the report.

    Args:
        found: The metrics.
        title: Heading of the page.
        context: What else is known of the models and the cases.
        sections: Further parts, such as on cases that a model has seen before.
    """
    sentences = target_headline(found, context.unit)
    parted = {(model.name, own.target.name): _groups(own, found) for model in found.models for own in model.targets}
    rows = [*_rows(found, parted), *(row for section in sections for row in section.metrics)]
    return TargetReport(
        _json(found, title, sentences, context, parted, sections),
        _csv(rows),
        _latex(found, title, sentences),
        _page(found, title, sentences, context, parted, sections),
    )


def _groups(own: TargetResult, found: TargetResults) -> Groups | None:
    """Return a time's cases by risk and by prediction; None of other kinds."""
    if not isinstance(own.analysis, TimeAnalysis):
        return None
    risk = own.table[own.target.columns[0]].to_numpy(np.float64)
    bootstrap = found.evaluation.bootstrap(own.table["patient"], own.truth)
    return groups(own.truth, risk, own.analysis.free(own.table), own.analysis.times, bootstrap)


Parted = dict[tuple[str, str], Groups | None]


def _rows(found: TargetResults, parted: Parted) -> Iterator[MetricRow]:
    for model in found.models:
        for own in model.targets:
            name, events = own.target.name, None
            if isinstance(own.target, Survival):
                events = int((own.truth[:, 1] == 1).sum())
            for metric, estimate in own.metrics.items():
                yield MetricRow(model.name, name, metric, estimate, len(own.table), events)
            risk = parted[model.name, name]
            for group in risk.risk if risk is not None else ():
                metric = f"free_{group.name.replace(' ', '_')}"
                yield MetricRow(model.name, name, metric, group.observed, group.cases, group.events)
    for gap in found.comparisons:
        pair = f"{gap.first} - {gap.second}"
        for metric, estimate in gap.differences.items():
            yield MetricRow(pair, gap.target, f"{metric}_difference", estimate, gap.cases)
            yield MetricRow(pair, gap.target, f"{metric}_p", Estimate(gap.p[metric]), gap.cases)


def _csv(rows: Sequence[MetricRow]) -> pd.DataFrame:
    cells = [
        (row.model, row.label, row.metric, e.value, e.low, e.high, row.cases, row.positives, e.reason)
        for row in rows
        for e in [row.estimate]
    ]
    return pd.DataFrame(cells, columns=list(COLUMNS)).astype({"n": "Int64", "positives": "Int64"})


def _json(
    found: TargetResults, title: str, sentences: list[str], context: Context, parted: Parted,
    sections: Sequence[Section],
) -> dict[str, Any]:  # fmt: skip
    settings = found.evaluation
    return {
        "title": title,
        "headline": sentences,
        "split": settings.split,
        "settings": {
            "level": LEVEL, "resamples": settings.resamples, "seed": settings.seed, "interval": settings.interval,
        },
        "splits": found.splits,
        "models": [
            {
                "model": model.name,
                "requested": model.requested,
                "scored": model.scored,
                "notes": list(model.notes),
                "failed": model.failed.to_dict("records"),
                "targets": [_target_json(own, parted[model.name, own.target.name]) for own in model.targets],
                "provenance": plain(context.provenance.get(model.name, {})),
            }
            for model in found.models
        ],
        "comparisons": [
            {
                "first": gap.first, "second": gap.second, "target": gap.target, "cases": gap.cases,
                "patients": gap.patients, "left_out": gap.left_out, "p_holm": number_json(gap.adjusted),
                "differences": {
                    metric: estimate_json(estimate) | {"p": number_json(gap.p[metric])}
                    for metric, estimate in gap.differences.items()
                },
            }
            for gap in found.comparisons
        ],
    } | {section.anchor: plain(section.plain) for section in sections}  # fmt: skip


def _target_json(own: TargetResult, risk: Groups | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "target": own.target.name, "kind": own.target.kind, "unit": own.target.unit, "n": len(own.table),
        "patients": own.patients, "unknown_truth": own.unknown, "failed_with_known_truth": own.failed,
        "metrics": {metric: estimate_json(estimate) for metric, estimate in own.metrics.items()},
    }  # fmt: skip
    if risk is not None:
        found |= {
            "evaluated_times": plain(own.analysis.times) if isinstance(own.analysis, TimeAnalysis) else [],
            "time_of_groups": number_json(risk.when),
            "risk_groups": [_group_json(group) for group in risk.risk],
            "calibration": [_group_json(group) for group in risk.free],
        }
    return found


def _group_json(group: RiskGroup) -> dict[str, Any]:
    return {
        "group": group.name, "n": group.cases, "events": group.events, "predicted": number_json(group.predicted),
        "observed": estimate_json(group.observed),
    }  # fmt: skip


def _latex(found: TargetResults, title: str, sentences: list[str]) -> str:
    parts = [
        HEAD,
        rf"\section*{{{escape(title)}}}",
        escape(" ".join(sentences)),
        "",
        rf"\noindent Split ``{escape(found.evaluation.split)}''. Intervals: 95\,\% in parentheses, "
        rf"{found.evaluation.resamples:,} bootstrap resamples of patients ({found.evaluation.interval}). "
        "Not for clinical use.",
        "",
    ]
    for name, results in _by_target(found).items():
        keys = list(dict.fromkeys(metric for own in results.values() for metric in own.metrics))
        rows = [
            [escape(next(iter(results.values())).analysis.name(key))]
            + [estimate_cell(own.metrics.get(key), digits_of(own, key)) for own in results.values()]
            for key in keys
        ]
        parts.append(table(f"{escape(name)}.", ["Metric", *map(escape, results)], rows))
    for gap in found.comparisons:
        what = _by_target(found)[gap.target][gap.first]
        rows = [
            [escape(what.analysis.name(key)), estimate_cell(own, digits_of(what, key), True)]
            for key, own in gap.differences.items()
        ]
        caption = f"{escape(gap.first)} minus {escape(gap.second)}: {escape(gap.target)}, {gap.cases:,} cases."
        parts.append(table(caption, ["Metric", "Difference"], rows))
    return "\n".join([*parts, r"\end{document}", ""])


def _by_target(found: TargetResults) -> dict[str, dict[str, TargetResult]]:
    """Return the results by target, then by model."""
    by_target: dict[str, dict[str, TargetResult]] = {}
    for model in found.models:
        for own in model.targets:
            by_target.setdefault(own.target.name, {})[model.name] = own
    return by_target


def _page(
    found: TargetResults, title: str, sentences: list[str], context: Context, parted: Parted,
    sections: Sequence[Section],
) -> str:  # fmt: skip
    from ..report.formats import interval, many, number, p_value, signed
    from ..report.page import flat
    from ..report.templating import environment, inlined
    from ..statistics.intervals import NO_INTERVAL

    templates = environment()
    templates.filters.update(number=number, signed=signed, interval=interval, many=many, p_value=p_value)
    by_target = _by_target(found)
    places = {model.name: place for place, model in enumerate(found.models)}
    return templates.get_template("targets.html.j2").render(
        found=found, settings=found.evaluation, several=len(found.models) > 1, title=title, unit=context.unit,
        headline=sentences, css=inlined("report.css"), by_target=by_target, digits_of=digits_of, sections=sections,
        metrics={name: list(next(iter(own.values())).metrics) for name, own in by_target.items()},
        drawn={
            name: [
                plot
                for model, own in results.items()
                for plot in _plots(own, parted[model, name], f"t{i}m{places[model]}", places[model], model)
            ]
            for i, (name, results) in enumerate(by_target.items())
        },
        parted=parted, most_failed=MOST_FAILED, no_interval=NO_INTERVAL, kinds=_kinds(found),
        undefined=_undefined(found),
        facts={model.name: flat(plain(context.provenance.get(model.name, {}))) for model in found.models},
    )  # fmt: skip


def _kinds(found: TargetResults) -> set[str]:
    return {own.target.kind for model in found.models for own in model.targets}


def _undefined(found: TargetResults) -> list[tuple[str, str, str, str]]:
    """Return model, target, metrics and reason of what cannot be computed."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for model in found.models:
        for own in model.targets:
            for metric, estimate in own.metrics.items():
                if np.isnan(estimate.value):
                    key = (model.name, own.target.name, estimate.reason)
                    lines.setdefault(key, []).append(own.analysis.name(metric))
    return [(model, target, ", ".join(names), reason) for (model, target, reason), names in lines.items()]


def _plots(own: TargetResult, risk: Groups | None, name: str, place: int, model: str) -> list[dict[str, Any]]:
    """Return title and drawing of each plot of a target; none without cases."""
    import markupsafe

    from . import plots

    if not len(own.table):
        return []
    target, drawn = own.target, []
    if isinstance(target, Regression):
        truth, value = own.truth[:, 0], own.table[target.columns[0]].to_numpy(np.float64)
        lines = [own.metrics[key] for key in ("limit_low", "bias", "limit_high")]
        drawn = [
            ("Predicted and true", plots.scatter(
                truth, value, f"{name}s", f"{model}: predicted over true {target.name}.", target.unit, place)),
            ("Bland-Altman", plots.bland_altman(
                truth, value, lines, f"{name}b",
                f"{model}: difference over mean of {target.name}, with bias and limits of agreement.", target.unit,
                place)),
        ]  # fmt: skip
    elif isinstance(target, Ordinal):
        grade = own.table[f"grade_{target.name}"].to_numpy(np.float64)
        alt = f"{model}: cases by true and predicted {target.name}."
        drawn = [("Confusion of grades", plots.grades(own.truth[:, 0], grade, f"{name}c", alt))]
    elif risk is not None:
        alt = f"{model}: Kaplan-Meier’s curves of {target.name} by thirds of the risk."
        drawn = [("By risk", plots.survival_by_risk(risk, f"{name}k", alt, target.unit))]
        if risk.free:
            alt = f"{model}: observed over predicted event-free probability of {target.name} at {risk.when:g}."
            drawn.append(
                (f"Calibration at {risk.when:g}", plots.survival_calibration(risk.free, f"{name}l", alt, place))
            )
    return [{"title": words, "model": model, "svg": markupsafe.Markup(svg)} for words, svg in drawn]
