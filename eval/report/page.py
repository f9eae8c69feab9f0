"""The report page: sentences, tables, drawings and images put into `templates/`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..localisation.tiles import Localisation
from ..statistics.compare import LISTED
from ..statistics.curve_bands import RESAMPLES
from ..statistics.intervals import FEW, NO_INTERVAL
from ..statistics.operating_points import GIVEN
from ..statistics.results import LabelResult, ModelResult, Results
from ..statistics.rules import parse_rule
from .answer import answer, shared_reason
from .class_section import class_section, undefined_classes
from .context import Context
from .difference_plot import difference_forest
from .formats import interval, many, number, p_value, signed
from .frequencies import natural_frequencies
from .headline import headline
from .localisation_section import localisation_section, undefined_localisation
from .matched_words import matched_rate
from .metrics_json import plain
from .panels import curves_of, panels
from .section import Section
from .wrong_section import wrong_section

MOST_PANELS = 30  # labels drawn; tables always hold all
MOST_SHOWN = 20  # labels whose most wrong cases are shown
MOST_ANSWERED = 12  # classes in the table at the head of the page
MOST_FAILED = 200  # failed cases listed on the page; report.json lists all
ALPHA = 0.05


def page(found: Results, title: str, context: Context, sections: Sequence[Section]) -> str:
    """Return the page as one self-contained HTML text; the arguments are those of `report.evaluate`."""
    import markupsafe

    from .templating import environment, inlined

    templates = environment()
    templates.filters.update(number=number, signed=signed, interval=interval, many=many, p_value=p_value)
    templates.filters.update(frequencies=natural_frequencies, shared_reason=shared_reason)
    drawn = drawn_labels(found, MOST_PANELS)
    fewer = replace(found.evaluation, resamples=min(found.evaluation.resamples, RESAMPLES))
    bootstraps = [fewer.bootstrap(model.table["patient"], model.truth) for model in found.models]
    curves = {label: curves_of(found, label, bootstraps) for label in drawn}
    return templates.get_template("report.html.j2").render(
        found=found,
        settings=found.evaluation,
        several=len(found.models) > 1,
        pairs=bool(found.comparisons),
        sections=sections,
        first=found.models[0],
        matched_rate=matched_rate(found),
        title=title,
        unit=context.unit,
        headline=headline(found, context.unit),
        css=inlined("report.css"),
        meaning=context.meaning,
        answer=answer(found, drawn, curves),
        differences={other: markupsafe.Markup(_differences(found, other)) for other in found.comparisons},
        most_listed=LISTED,
        panels=[
            {kind: markupsafe.Markup(svg) for kind, svg in panels(curves[label], label, f"p{i}").items()}
            | {"label": label}
            for i, label in enumerate(drawn)
        ],
        rows={row.label: _by_model(found, row.label) for row in found.models[0].labels if row.detailed},
        classes=class_section(found),
        localised=localisation_section(
            context.localisation, {model.name: place for place, model in enumerate(found.models)}, context.slide_pages
        ),
        wrong=wrong_section(found.models[0], drawn_labels(found, MOST_SHOWN), context),
        with_images=context.image is not None,
        most_answered=MOST_ANSWERED,
        undefined=_undefined(found, context.localisation, sections),
        rule_text=_rule_text(found.models),
        most_failed=MOST_FAILED,
        most_panels=MOST_PANELS,
        most_shown=MOST_SHOWN,
        few=FEW,
        no_interval=NO_INTERVAL,
        marked=any(row.metrics["auroc"].marked for model in found.models for row in model.labels if row.detailed),
        facts={model.name: flat(plain(context.provenance.get(model.name, {}))) for model in found.models},
    )


def drawn_labels(found: Results, most: int) -> list[str]:
    """Return at most so many labels, those with the most positive cases, in the table's order."""
    by_positives = sorted(found.truths, key=lambda row: -row["positive"])[:most]
    detailed = {row.label for row in found.models[0].labels if row.detailed}
    kept = {row["label"] for row in by_positives if row["positive"] and row["negative"]} & detailed
    return [row["label"] for row in found.truths if row["label"] in kept]


def _rule_text(models: list[ModelResult]) -> str:
    """Say where the thresholds come from, by finding where they come from several places."""
    sources: dict[tuple[str, str], dict[str, None]] = {}
    for model in models:
        for row in model.labels:
            if row.detailed and row.point.source:
                sources.setdefault((row.point.rule, row.point.chosen_on), {})[row.label] = None
    sentences = []
    for (rule, split), labels in sources.items():
        whose = f" of {', '.join(labels)}" if len(sources) > 1 else ""
        sentences.append(f"Thresholds{whose}: {_source_text(rule, split)}.")
    return " ".join(sentences)


def _source_text(rule: str, split: str) -> str:
    if rule == GIVEN:
        return "stored with the model"
    if not split:
        return f"{rule}, from the protocol"
    words = "the largest sum of sensitivity and specificity (Youden)" if rule == "youden" else rule
    return f"{_cost_text(rule) if 'cost' in rule else words} on the {split} cases of the same model"


def _cost_text(rule: str) -> str:
    cost = parse_rule(rule)
    where = "that of these cases" if np.isnan(cost.prevalence) else f"{100 * cost.prevalence:g} %"
    return (
        f"the least expected cost, where a missed case costs {cost.missed / cost.alarm:.3g} times as much as a false "
        f"alarm (prevalence: {where}),"
    )


def _by_model(found: Results, label: str) -> list[tuple[ModelResult, LabelResult]]:
    return [(model, row) for model in found.models for row in model.labels if row.label == label and row.detailed]


def _differences(found: Results, other: str) -> str:
    """Draw AUROC differences, macro mean first, then findings by falling difference; "" if none is defined."""
    comparison, name = found.comparisons[other], f"difference{list(found.comparisons).index(other)}"
    rows = [
        (difference.value, label, difference, comparison.adjusted[i] < ALPHA)
        for i, (label, difference) in enumerate(zip(comparison.labels, comparison.differences["auroc"]))
        if not np.isnan(difference.value) and label in drawn_labels(found, MOST_PANELS)
    ]
    if not rows:
        return ""
    rows.sort(key=lambda row: -row[0])
    labels = ["Macro mean", *(label for _, label, _, _ in rows)]
    return difference_forest(
        labels,
        [comparison.macro["auroc"], *(difference for _, _, difference, _ in rows)],
        [comparison.p["auroc"] < ALPHA, *(found for _, _, _, found in rows)],
        "AUROC difference (95 % interval)",
        name,
        f"Differences of AUROC, {found.models[0].name} minus {other}, with 95 % intervals: macro mean and "
        f"{many(len(rows), 'finding')}; metrics in the table.",
    )


def _undefined(found: Results, localisation: Mapping[str, Localisation], sections: Sequence[Section]) -> list[dict]:
    """Return every metric that is NaN, those with the same reason in one line, for all labels that share both."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for model in found.models:
        for metric, estimate in model.macro.items():
            if np.isnan(estimate.value):
                lines.setdefault((model.name, "all findings", estimate.reason), []).append(f"macro {metric}")
        if model.classes is not None:
            lines |= undefined_classes(model.name, model.classes)
        if model.name in localisation:
            lines |= undefined_localisation(model.name, localisation[model.name])
        for row in model.labels:
            if np.isnan(row.point.threshold) and row.detailed:
                lines.setdefault((model.name, row.label, row.point.reason), []).append("threshold")
            for metric, estimate in row.metrics.items():
                if np.isnan(estimate.value):
                    lines.setdefault((model.name, row.label, estimate.reason), []).append(metric)
    for entry in (entry for section in sections for entry in section.metrics):
        if np.isnan(entry.estimate.value):
            place = (entry.model, entry.label or "all findings", entry.estimate.reason)
            lines.setdefault(place, []).append(entry.metric)
    labels: dict[tuple[str, str, str], list[str]] = {}
    for (name, label, reason), names in lines.items():
        labels.setdefault((name, reason, ", ".join(names).replace("_", " ")), []).append(label)
    return [
        {"model": name, "labels": own, "reason": reason, "metrics": metrics}
        for (name, reason, metrics), own in labels.items()
    ]


def flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested facts as lines: `recipe.epochs`, `200`."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            lines += flat(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
            lines.append((f"{prefix}{key}", text))
    return lines
