"""The report's section on subgroups: the first model on the page, all models in the JSON and the CSV."""

from collections.abc import Mapping
from itertools import groupby

import markupsafe
import numpy as np

from ..statistics.intervals import Estimate
from ..statistics.subgroups import Contrast, LabelMetrics, Subgroup, Subgroups
from .formats import noted
from .metrics_json import estimate_json
from .plots import INK, MODELS, MUTED, row_axes, svg_style, svg_text
from .section import MetricRow, Section

MOST_TABLES = 30  # labels with a table of their own on the page, those with the most positive cases
NAMES = {
    "auroc": "AUROC",
    "macro_auroc": "macro AUROC",
    "accuracy": "accuracy",
    "baseline_accuracy": "accuracy of always saying the most frequent class",
}
METHODS = (
    "Subgroups: within a group, intervals are as everywhere. Group minus all other cases: the variance is DeLong’s for "
    "two groups, summed by patient, so that patients with cases in both are counted once (Obuchowski); of a macro mean "
    "and of an accuracy it is the same sum of squares over patients. p is of the normal distribution, adjusted by Holm "
    "over all groups of all columns, of the t distribution where patients are few; with fewer than 10 patients in a "
    "class on either side there is none. A macro mean is over findings that all groups of its column have enough of."
)


def subgroup_section(found: Mapping[str, Subgroups]) -> Section:
    """Return the section after "Calibration".

    Args:
        found: Model name to its subgroups, the first model first.
    """
    first_name, first = next(iter(found.items()))
    lead = next(iter(first.whole.metrics), "auroc")
    return Section(
        anchor="subgroups",
        title="Subgroups",
        after="calibration",
        content={
            "model": first_name,
            "found": first,
            "lead": lead,
            "lead_name": NAMES[lead],
            "names": {name: NAMES[name] for name in first.whole.metrics},
            "columns": [(column, list(own)) for column, own in groupby(first.groups, lambda group: group.column)],
            "forest": markupsafe.Markup(_forest(first, lead)),
            "labels": _tabled(first.whole),
            "tested": [name for name in first.whole.metrics if name in first.whole.contrasts],
            "marked": any(noted(estimate) for group in [first.whole, *first.groups] for estimate in _shown(group)),
        },
        plain={
            "columns": first.columns,
            "models": [
                {
                    "model": name,
                    "comparisons": own.comparisons,
                    "not_in_manifest": own.not_in_manifest,
                    "groups": [_plain(group, group is own.whole) for group in (own.whole, *own.groups)],
                }
                for name, own in found.items()
            ],
        },
        metrics=[metric for name, own in found.items() for group in own.groups for metric in _metrics(name, group)],
        methods=METHODS,
    )


def _tabled(whole: Subgroup) -> list[int]:
    """Return the places of the labels that get a table, in order."""
    positives = np.array([label.positives for label in whole.labels], dtype=int)
    return sorted(np.argsort(-positives, kind="stable")[:MOST_TABLES].tolist())


def _shown(group: Subgroup) -> list[Estimate]:
    contrasts = [*group.contrasts.values(), *(label.contrast for label in group.labels)]
    own = [estimate for label in group.labels for estimate in label.metrics.values()]
    return [*group.metrics.values(), *own, *(contrast.difference for contrast in contrasts)]


def _metrics(model: str, group: Subgroup) -> list[MetricRow]:
    place = f"[{group.column}={group.name}]"
    found = [MetricRow(model, "", f"subgroup_{name}{place}", e, group.cases) for name, e in group.metrics.items()]
    found += [
        MetricRow(model, "", f"subgroup_{name}_difference{place}", contrast.difference, group.cases)
        for name, contrast in group.contrasts.items()
    ]
    for label in group.labels:
        own = label.metrics | {"auroc_difference": label.contrast.difference}
        found += [
            MetricRow(model, label.label, f"subgroup_{name}{place}", estimate, label.cases, label.positives)
            for name, estimate in own.items()
        ]
    return found


def _plain(group: Subgroup, whole: bool) -> dict:
    return {
        "column": group.column,
        "group": group.name,
        "patients": group.patients,
        "cases": group.cases,
        "failed": group.failed,
        "macro_over": list(group.mean_of),
        "metrics": {name: estimate_json(e) for name, e in group.metrics.items()},
        "differences": {} if whole else {name: _contrast_json(each) for name, each in group.contrasts.items()},
        "labels": [_plain_label(label, whole) for label in group.labels],
    }


def _plain_label(label: LabelMetrics, whole: bool) -> dict:
    return {
        "label": label.label,
        "patients": label.patients,
        "n": label.cases,
        "positives": label.positives,
        "patients_in_smaller_class": label.smaller_class,
        "metrics": {name: estimate_json(e) for name, e in label.metrics.items()},
    } | ({} if whole else {"auroc_difference": _contrast_json(label.contrast)})


def _contrast_json(contrast: Contrast) -> dict:
    return estimate_json(contrast.difference) | {"p": contrast.p, "p_holm": contrast.adjusted}


def _forest(found: Subgroups, lead: str) -> str:
    """Draw one line per group under the name of its column; all cases are dotted. "" if nothing is defined."""
    lines: list[tuple[str, Estimate | None]] = []
    for column, own in groupby(found.groups, lambda group: group.column):
        lines += [(column, None), *((group.name, _lead(group, lead)) for group in own)]
    whole = _lead(found.whole, lead)
    ends = [end for _, e in lines if e for end in (e.value, e.low) if not np.isnan(end)]
    if not ends:
        return ""
    left = max(0.0, np.floor((min(ends) - 0.01) * 10) / 10)
    with svg_style("subgroups"):
        figure, axes, texts = row_axes([name for name, _ in lines], len(lines) * 19 + 42, left=150, longest=24)
        axes.set(xlim=(left, 1), ylim=(len(lines) - 0.5, -0.7))
        axes.set_xticks(np.arange(1, left - 0.01, -0.1 if left >= 0.4 else -0.2))
        axes.axvline(whole.value, color=MUTED, lw=0.8, ls=(0, (1, 2)))
        for tick, (_, estimate) in zip(axes.get_yticklabels(), lines):
            tick.set(color=MUTED if estimate is None else INK, fontsize=11)
        axes.set_xlabel(f"{NAMES[lead]} (95 % interval)", fontsize=11)
        for y, (_, e) in enumerate(lines):
            if e is not None:
                axes.hlines(y, e.low, e.high, color=MODELS[0], lw=1.5)
                axes.plot(e.value, y, ls="none", marker="o", ms=5, color=MODELS[0], mec=MODELS[0], clip_on=False)
        alt = f"{NAMES[lead]} with 95 % interval of {len(found.groups)} groups; metrics in the table."
        return svg_text(figure, "subgroups", alt, texts)


def _lead(group: Subgroup, lead: str) -> Estimate:
    return group.metrics[lead] if lead in group.metrics else group.labels[0].metrics[lead]
