"""The report's section on label efficiency: two models, each trained on fewer and more labelled cases."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import markupsafe
import numpy as np

from ..statistics.intervals import Estimate
from ..statistics.results import Results
from .formats import interval, many, number, signed
from .metrics_json import estimate_json
from .plots import GRID, MARKS, MODELS, axes_px, svg_style, svg_text
from .section import MetricRow, Section

METHODS = (
    "Label efficiency: every training set of labelled cases holds the patients of all smaller ones; all models are "
    "evaluated on the same cases, and the two of one size are compared by the paired bootstrap by patient. Intervals "
    "are of the test cases alone; another choice of labelled cases or another seed of training would differ by more."
)


ALONE = Estimate(float("nan"), reason="there is one model")


class Step(NamedTuple):
    """One number of labelled training cases: macro AUROC of both models, and the first minus the second."""

    cases: int
    first: Estimate
    second: Estimate = ALONE
    gain: Estimate = ALONE

    def estimate(self, key: str) -> Estimate:
        """Return `first`, `second` or `gain`."""
        return {"first": self.first, "second": self.second, "gain": self.gain}[key]


def label_efficiency_section(found: Mapping[int, Results], unit: str = "image") -> Section:
    """Return the section after "Discrimination".

    Args:
        found: Labelled training cases to the evaluation of two models that were trained on them, the same two for all
            numbers, under the same names.
        unit: What a case is, in the singular.
    """
    sizes = sorted(found)
    first, second = (model.name for model in found[sizes[0]].models)
    rows = []
    for size in sizes:
        own, other = (model.macro["auroc"] for model in found[size].models)
        rows.append(Step(size, own, other, found[size].comparisons[second].macro["auroc"]))
    words = verdict(rows, (first, second), unit)
    return Section(
        anchor="efficiency",
        title="Label efficiency",
        after="results",
        content={
            "names": (first, second),
            "rows": rows,
            "plot": markupsafe.Markup(efficiency_plot(rows, (first, second), unit)),
            "verdict": words,
            "unit": unit,
        },
        plain={
            "models": [first, second],
            "verdict": words,
            "steps": [
                {"cases": row.cases, **{key: estimate_json(row.estimate(key)) for key in ("first", "second", "gain")}}
                for row in rows
            ],
        },
        metrics=[
            MetricRow(name, "", f"efficiency_macro_auroc[{row.cases}]", row.estimate(key))
            for row in rows
            for name, key in ((first, "first"), (second, "second"), (f"{first} - {second}", "gain"))
        ],
        methods=METHODS,
    )


def verdict(rows: list[Step], names: tuple[str, str], unit: str) -> str:
    """Return what the curve shows, in words: at how many labels the first model is ahead, and what labels it saves."""
    first, second = names
    ahead = [row for row in rows if row.gain.low > 0]
    behind = [row for row in rows if row.gain.high < 0]
    words = []
    for shown, which in ((ahead, "ahead of"), (behind, "behind")):
        if shown:
            at = ", ".join(f"{row.cases:,}" for row in shown)
            words.append(f"With {at} labelled {unit}s {first} is {which} {second}: the interval excludes 0.")
    left = [row for row in rows if row not in ahead and row not in behind]
    if left:
        at = ", ".join(f"{row.cases:,}" for row in left)
        words.append(f"With {at} labelled {unit}s neither is shown to be better.")
    most = rows[-1]
    enough = next((row for row in rows[:-1] if row.first.value >= most.second.value), None)
    if enough is not None:
        words.append(
            f"{first} with {enough.cases:,} labelled {unit}s reaches {number(enough.first.value, 2)}, {second} "
            f"with {most.cases:,} reaches {number(most.second.value, 2)}."
        )
    return " ".join(words)


def efficiency_plot(
    rows: list[Step],
    names: tuple[str, ...],
    unit: str,
    metric: str = "macro AUROC",
    fitted: Sequence[Sequence[tuple[float, Estimate]]] = (),
    thing: str = "",
) -> str:
    """Draw a metric of one or two models over the number of labelled cases, on a logarithmic axis.

    Args:
        rows: By size.
        names: Of the models.
        unit: What a case is.
        metric: Its name.
        fitted: A curve per model, its sizes and values with their band; the marks are then not joined.
        thing: What there is more of, where that is not labelled cases.
    """
    two = len(names) > 1
    sizes = np.array([row.cases for row in rows], float)
    points = [[row.first for row in rows], [row.second for row in rows]][: len(names)]
    said = "; ".join(
        f"{many(row.cases, unit)}: {' and '.join(number(own[place].value) for own in points)}"
        + (f", difference {signed(row.gain.value)} ({interval(row.gain, sign=True)})" if two else "")
        for place, row in enumerate(rows)
    )
    with svg_style("efficiency"):
        figure, axes = axes_px(400, 230, left=44, right=14, top=8, bottom=38)
        axes.set_xscale("log")
        for model, curve in enumerate(fitted):
            along, band = [size for size, _ in curve], [each for _, each in curve]
            low, high = ([getattr(each, end) for each in band] for end in ("low", "high"))
            axes.fill_between(along, low, high, color=MODELS[model], alpha=0.16, lw=0)
            axes.plot(along, [each.value for each in band], color=MODELS[model], lw=1.5)
        for model, own in enumerate(points):
            at = sizes * (1 + 0.02 * (2 * model - 1) * two)  # beside each other
            axes.vlines(at, [e.low for e in own], [e.high for e in own], color=MODELS[model], lw=1.5)
            line = "" if fitted else "-"
            axes.plot(at, [e.value for e in own], marker=MARKS[model], ms=6, color=MODELS[model], lw=1.5, ls=line)
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes], fontsize=11)
        axes.set_xticks([], minor=True)
        labelled = f"labelled {unit}s"
        thing = thing or labelled
        texts = {"@0@": f"{thing} for training" if thing == labelled else thing, "@1@": metric}
        ticks = [tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
        marked = {f"@{place}@": f"{tick:.2f}" for place, tick in enumerate(ticks, len(texts))}
        axes.set_yticks(ticks, list(marked), fontsize=11)  # numbers would lose their second digit (`svg_text`)
        axes.grid(axis="y", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("@0@", fontsize=11)
        axes.set_ylabel("@1@", fontsize=11)
        alt = f"{metric[0].upper()}{metric[1:]} of {' and '.join(names)} by number of {thing}. {said}."
        return svg_text(figure, "efficiency", alt, texts | marked)
