"""The report page: sentences, tables, drawings and images put into `templates/`."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.errors import UserError
from ..localisation.tiles import Localisation
from ..statistics.compare import LISTED
from ..statistics.curve_bands import RESAMPLES, curve_bands
from ..statistics.intervals import FEW, NO_INTERVAL, Estimate
from ..statistics.operating_points import parse_rule
from ..statistics.resampling import PatientBootstrap
from ..statistics.results import LabelResult, ModelResult, Results, wrong_cases
from .class_section import class_section, undefined_classes
from .context import Context
from .difference_plot import difference_forest
from .localisation_section import localisation_section, undefined_localisation
from .metrics_json import plain
from .plots import calibration_panel, forest, pr_panel, roc_panel
from .section import Section

MOST_PANELS = 30  # labels drawn; tables always hold all
MOST_SHOWN = 20  # labels whose most wrong cases are shown
MOST_WRONG = 2  # cases per label and kind
MOST_FAILED = 200  # failed cases listed on the page; report.json lists all
IMAGE_PX = 224
ALPHA = 0.05


def page(found: Results, title: str, context: Context, sections: Sequence[Section]) -> str:
    """Return the page as one self-contained HTML text; the arguments are those of `report.evaluate`."""
    import markupsafe

    from .templating import environment, inlined

    templates = environment()
    templates.filters.update(number=number, signed=signed, interval=interval, many=many, p_value=p_value)
    drawn = drawn_labels(found, MOST_PANELS)
    fewer = replace(found.evaluation, resamples=min(found.evaluation.resamples, RESAMPLES))
    bootstraps = [fewer.bootstrap(model.table["patient"], model.truth) for model in found.models]
    return templates.get_template("report.html.j2").render(
        found=found,
        settings=found.evaluation,
        several=len(found.models) > 1,
        pairs=bool(found.comparisons),
        sections=sections,
        first=found.models[0],
        title=title,
        unit=context.unit,
        headline=headline(found, context.unit),
        css=inlined("report.css"),
        meaning=context.meaning,
        forest=markupsafe.Markup(_forest(found)),
        differences={other: markupsafe.Markup(_differences(found, other)) for other in found.comparisons},
        most_listed=LISTED,
        panels=[
            {kind: markupsafe.Markup(svg) for kind, svg in _panels(found, label, bootstraps).items()} | {"label": label}
            for label in drawn
        ],
        rows={row.label: _by_model(found, row.label) for row in found.models[0].labels if row.detailed},
        classes=class_section(found),
        localised=localisation_section(
            context.localisation, {model.name: place for place, model in enumerate(found.models)}, context.slide_pages
        ),
        wrong=_wrong(found.models[0], drawn_labels(found, MOST_SHOWN), context.image),
        undefined=_undefined(found, context.localisation, sections),
        rule_text=_rule_text(found.models),
        most_failed=MOST_FAILED,
        most_panels=MOST_PANELS,
        most_shown=MOST_SHOWN,
        few=FEW,
        no_interval=NO_INTERVAL,
        marked=any(
            not np.isnan(row.metrics["auroc"].value) and row.metrics["auroc"].reason
            for model in found.models
            for row in model.labels
            if row.detailed
        ),
        facts={model.name: _flat(plain(context.provenance.get(model.name, {}))) for model in found.models},
    )


def headline(found: Results, unit: str) -> list[str]:
    """The result in one sentence, and one more for each model that the first is compared with."""
    first = found.models[0]
    sentences = _auroc_sentences(first, unit) if first.classes is None else _class_sentences(first, unit)
    for other, comparison in found.comparisons.items():
        decided = comparison.classes
        what, gap, cases = (
            ("AUROC" if len(first.labels) == 1 else "macro AUROC", comparison.macro["auroc"], comparison.cases)
            if decided is None
            else ("accuracy", decided.accuracy, decided.cases)
        )
        if np.isnan(gap.value):
            sentences.append(f"{first.name} and {other} cannot be compared: {gap.reason}.")
            continue
        sentences.append(
            f"{first.name} minus {other}: {what} difference {signed(gap.value)}{_ci(gap, signed)} on the same "
            f"{many(cases, unit)}. {_verdict(gap, first.name, other)}"
        )
    return sentences


def _auroc_sentences(model: ModelResult, unit: str) -> list[str]:
    size = f"{many(len(model.table), unit)} of {many(model.patients, 'patient')}"
    score = model.macro["auroc"]
    if np.isnan(score.value):
        return [f"The AUROC of {model.name} is undefined on {size}: {score.reason}."]
    if len(model.labels) == 1:
        return [f"AUROC {number(score.value, 2)}{_ci(score)} for {model.labels[0].label} on {size}."]
    over = f"{model.defined} of {many(len(model.labels), 'finding')}"
    return [f"Macro AUROC {number(score.value, 2)}{_ci(score)} over {over} on {size}."]


def _class_sentences(model: ModelResult, unit: str) -> list[str]:
    found = model.classes
    size = f"{many(found.cases, unit)} of {many(found.patients, 'patient')}"
    score, strict = found.metrics["accuracy"], found.metrics["accuracy_failed_as_wrong"]
    if np.isnan(score.value):
        sentences = [f"The accuracy of {model.name} is undefined on {size}: {score.reason}."]
    else:
        sentences = [f"Accuracy {number(score.value, 2)}{_ci(score)} over {len(found.labels)} classes on {size}."]
    if found.failed:
        sentences.append(
            f"With {many(found.failed, f'failed {unit}')} counted as wrong: {number(strict.value, 2)}{_ci(strict)}."
        )
    return sentences


def drawn_labels(found: Results, most: int) -> list[str]:
    """At most so many labels, those with the most positive cases, in the table's order."""
    by_positives = sorted(found.truths, key=lambda row: -row["positive"])[:most]
    detailed = {row.label for row in found.models[0].labels if row.detailed}
    kept = {row["label"] for row in by_positives if row["positive"] and row["negative"]} & detailed
    return [row["label"] for row in found.truths if row["label"] in kept]


def number(value: float, digits: int = 3) -> str:
    """`0.874`, with a real minus sign; an en dash for NaN."""
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """`+0.031` or `−0.004`."""
    return "–" if np.isnan(value) else f"{value:+.{digits}f}".replace("-", "−")


def p_value(p: float) -> str:
    """`0.032`, `<0.001`; an en dash for NaN."""
    return "<0.001" if p < 0.001 else number(p)


def interval(estimate: Estimate, digits: int = 3, sign: bool = False) -> str:
    """`0.84–0.90` or `−0.03 to 0.01`, empty if there is none; with signs `+0.01 to +0.05`."""
    if np.isnan(estimate.low):
        return ""
    if sign:
        return f"{signed(estimate.low, digits)} to {signed(estimate.high, digits)}"
    between = " to " if estimate.low < 0 else "–"
    return f"{number(estimate.low, digits)}{between}{number(estimate.high, digits)}"


def many(count: int, noun: str) -> str:
    """`1 image`, `25,596 images`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _ci(estimate: Estimate, form: Callable[[float], str] | None = None) -> str:
    if np.isnan(estimate.low):
        return f" ({estimate.reason})" if estimate.reason else ""
    return f" (95 % CI {interval(estimate, 3, sign=True) if form else interval(estimate, 2)})"


def _verdict(gap: Estimate, first: str, other: str) -> str:
    if np.isnan(gap.low):
        return "There is no interval, so nothing can be said about the difference."
    if gap.low > 0 or gap.high < 0:
        better = first if gap.value > 0 else other
        return f"The interval excludes zero: {better} is better here than the choice of patients alone would explain."
    return "The interval includes zero: these cases do not show that either is better."


def _rule_text(models: list[ModelResult]) -> str:
    """Where the thresholds come from, in words."""
    told = {
        "youden": "the largest sum of sensitivity and specificity (Youden)",
        "given": "stored with the model",
        "0.5": "fixed at 0.5",
    }
    told |= {
        rule: _cost_text(rule)
        for model in models
        for rule in {row.point.rule for row in model.labels}
        if "cost" in rule
    }
    sentences = []
    for rule, split in dict.fromkeys((row.point.rule, row.point.chosen_on) for model in models for row in model.labels):
        if split:
            sentences.append(f"Thresholds: {told.get(rule, rule)} on the {split} cases of the same model.")
        elif rule in ("given", "0.5"):
            sentences.append(f"Thresholds: {told[rule]}.")
    return " ".join(sentences)


def _cost_text(rule: str) -> str:
    cost = parse_rule(rule)
    where = "that of these cases" if np.isnan(cost.prevalence) else f"{100 * cost.prevalence:g} %"
    return (
        f"the least expected cost, where a missed case costs {cost.missed / cost.alarm:.3g} times as much as a false "
        f"alarm (prevalence: {where}),"
    )


def _by_model(found: Results, label: str) -> list[tuple[ModelResult, LabelResult]]:
    return [(model, row) for model in found.models for row in model.labels if row.label == label and row.detailed]


def _forest(found: Results) -> str:
    """Macro mean of several labels first, then these by falling AUROC of the first model; "" if none is defined."""
    first = found.models[0]
    defined = [row for row in first.labels if not np.isnan(row.metrics["auroc"].value)]
    if not defined:
        return ""
    kept = set(drawn_labels(found, MOST_PANELS))
    labels = [row.label for row in sorted(defined, key=lambda row: -row.metrics["auroc"].value) if row.label in kept]
    rows = []
    for model in found.models:
        own = {row.label: row.metrics["auroc"] for row in model.labels}
        missing = Estimate(float("nan"))
        rows.append([model.macro["auroc"], *(own.get(label, missing) for label in labels)])
    if len(first.labels) == 1:
        alt = f"AUROC with 95 % interval of {first.labels[0].label}; metrics in the table."
        return forest(labels, [row[1:] for row in rows], "forest", alt)
    alt = f"AUROC with 95 % interval: macro mean and {many(len(labels), 'finding')}; metrics in the table."
    return forest(["Macro mean", *labels], rows, "forest", alt)


def _differences(found: Results, other: str) -> str:
    """AUROC differences, macro mean first, then the findings by falling difference; "" if none is defined."""
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


def _panels(found: Results, label: str, bootstraps: Sequence[PatientBootstrap]) -> dict[str, str]:
    """ROC, precision-recall and calibration drawings of one label, all models in each."""
    curves, bands, calibrations, told = [], [], [], []
    for model, bootstrap in zip(found.models, bootstraps, strict=True):
        for i, row in enumerate(model.labels):
            if row.label == label and row.detailed:
                curves.append((model.truth[:, i], model.scores[:, i]))
                bands.append(curve_bands(*curves[-1], bootstrap) or (None, None))
                calibrations.append(row.calibration)
                told.append((model.name, row.metrics))
    of_roc, of_pr = zip(*bands)
    name = f"p{[row['label'] for row in found.truths].index(label)}"
    said = {
        metric: "; ".join(f"{model} {number(metrics[metric].value)}" for model, metrics in told)
        for metric in ("auroc", "average_precision", "calibration_error")
    }
    return {
        "roc": roc_panel(curves, of_roc, f"{name}r", f"ROC curve, {label}. AUROC: {said['auroc']}."),
        "pr": pr_panel(curves, of_pr, f"{name}p", f"Precision-recall curve, {label}. AP: {said['average_precision']}."),
        "calibration": calibration_panel(
            calibrations, f"{name}c", f"Calibration, {label}. Calibration error: {said['calibration_error']}."
        ),
    }


def _wrong(model: ModelResult, labels: list[str], image: Callable[[str], np.ndarray | None] | None) -> list[dict]:
    """Per label the most wrong cases, each with its image as a data URI or a word why there is none."""
    shown = []
    for i, row in enumerate(model.labels):
        if row.label not in labels:
            continue
        cases = []
        for kind, table in wrong_cases(model, i, MOST_WRONG).items():
            for case in table.itertuples():
                uri, why = ("", "") if image is None else _image_uri(image, case.id)
                cases.append(
                    {
                        "kind": kind,
                        "id": case.id,
                        "patient": case.patient,
                        "score": case.score,
                        "uri": uri,
                        "why": why,
                    }
                )
        shown.append({"label": row.label, "threshold": row.point.threshold, "cases": cases})
    return shown


def _image_uri(image: Callable[[str], np.ndarray | None], case: str) -> tuple[str, str]:
    try:
        pixels = image(case)
    except (UserError, OSError) as error:
        return "", f"image not readable: {error}"
    return ("", "no image") if pixels is None else (jpeg_uri(pixels), "")


def jpeg_uri(pixels: np.ndarray) -> str:
    """A small JPEG (longer side at most 224 px) as a `data:` URI.

    Args:
        pixels: (H, W), (H, W, 1) or (H, W, 3), uint8, uint16, or float in 0..1.
    """
    from PIL import Image

    pixels = np.asarray(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    elif pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.nan_to_num(pixels.astype(np.float64)), 0, 1) * 255)
    small = Image.fromarray(pixels.astype(np.uint8))
    small.thumbnail((IMAGE_PX, IMAGE_PX), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _undefined(found: Results, localisation: Mapping[str, Localisation], sections: Sequence[Section]) -> list[dict]:
    """Every metric that is NaN, those with the same reason in one line."""
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
    return [
        {"model": model, "label": label, "reason": reason, "metrics": ", ".join(names).replace("_", " ")}
        for (model, label, reason), names in lines.items()
    ]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as lines: `recipe.epochs`, `200`."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
            lines.append((f"{prefix}{key}", text))
    return lines
