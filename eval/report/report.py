"""The report of an evaluation: `report.html` to read, `report.json` and `metrics.csv` to go on with, `report.tex` for a
paper, and of models compared `disagreements.csv`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...core.errors import UserError
from ...core.files import write_json, write_text, written_aside
from ...datasets.manifest.tables import Predictions, for_spreadsheets
from ..localisation.tiles import Localisation
from ..localisation.tiles_json import as_plain
from ..statistics.classes import ClassResult
from ..statistics.intervals import LEVEL
from ..statistics.results import ModelResult, Results, results
from .comparison_tables import comparison_json, difference_rows, disagreements_table
from .latex import latex
from .localisation_section import localisation_metrics
from .metrics_json import estimate_json, number_json
from .page import headline, page
from .section import Section

PLAIN = {"index": False, "lineterminator": "\n", "float_format": "%.6g"}


def evaluate(
    tables: Mapping[str, Predictions],
    out: Path,
    *,
    split: str = "test",
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    rule: str = "youden",
    prevalence: float | Mapping[str, float] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    interval: str = "percentile",
    stratify: bool = False,
    title: str = "Evaluation",
    unit: str = "image",
    provenance: Mapping[str, Mapping[str, Any]] | None = None,
    image: Callable[[str], np.ndarray | None] | None = None,
    what_one_means: Mapping[str, str] | None = None,
    localisation: Mapping[str, Localisation] | None = None,
    slide_pages: Mapping[str, str] | None = None,
    sections: Callable[[Results], Sequence[Section]] = lambda found: (),
) -> dict[str, Any]:
    """Evaluate one or more models on one split and write the report into the folder `out`.

    Args:
        tables: Model name to its predictions. The first model is the one reported on: its most wrong cases
            are shown, and it is compared with each of the others.
        out: Folder for `report.html`, `report.json`, `metrics.csv` and `report.tex`, and `disagreements.csv` where
            models are compared.
        split: The split to evaluate.
        thresholds: Model name to its stored thresholds by label. A model without them gets thresholds from
            the `val` rows of its own table.
        rule: How these are chosen; see `operating_points.choose`.
        prevalence: At which predictive values are wanted beside those of the cases: one for all labels, or by label.
        resamples, seed, interval, stratify: See `resampling.Resampling`.
        title: Heading of the page.
        unit: What a case is, in the singular: image, slide, clip.
        provenance: Model name to what it was made of and by (recipe, versions, fingerprints), shown as it is.
        image: Case id to an image, (H, W) or (H, W, 3), uint8, uint16 or float in 0..1; None if there is
            none.
        what_one_means: Label to the meaning of a 1.
        localisation: Model name to where it saw it, of whole slides; the report gets a section on it.
        slide_pages: Slide id to the address of its page (`slide_page`), relative to `out`, for that section's links.
        sections: Gives further parts of the report, from the results.

    Returns:
        What `report.json` holds. A NaN is None there, with a reason beside it.

    Raises:
        DataError: A table has no row in `split`, or two tables differ in their cases.
        UserError: No table, an unknown rule, interval or prevalence, too few resamples, or thresholds or localisation
            of an unknown model.
    """
    localisation = dict(localisation or {})
    if localisation.keys() - tables.keys():
        name = min(localisation.keys() - tables.keys())
        raise UserError(f"Localisation is given for {name!r}, but the models are {', '.join(tables)}.")
    if slide_pages and not localisation:
        raise UserError("Slide pages are linked from the section on localisation: give the localisation too.")
    localisation = {name: localisation[name] for name in tables if name in localisation}
    found = results(
        tables,
        split=split,
        thresholds=thresholds,
        rule=rule,
        prevalence=prevalence,
        resamples=resamples,
        seed=seed,
        interval=interval,
        stratify=stratify,
    )
    parts = list(sections(found))
    facts = {name: _plain(dict((provenance or {}).get(name, {}))) for name in tables}
    metrics = as_json(found, title, unit, facts, dict(what_one_means or {}))
    for model in metrics["models"]:
        if model["model"] in localisation:
            model["localisation"] = as_plain(localisation[model["model"]])
    metrics |= {section.anchor: _plain(section.plain) for section in parts}
    html = page(
        found,
        title=title,
        unit=unit,
        facts=facts,
        image=image,
        meaning=what_one_means or {},
        localisation=localisation,
        slide_pages=slide_pages or {},
        sections=parts,
    )
    out = Path(out)
    with written_aside(out / "metrics.csv") as aside:
        for_spreadsheets(metrics_table(found, localisation, parts)).to_csv(aside, **PLAIN)
    if found.comparisons:
        with written_aside(out / "disagreements.csv") as aside:
            for_spreadsheets(disagreements_table(found)).to_csv(aside, **PLAIN)
    write_text(out / "report.tex", latex(found, title, metrics["headline"]))
    write_json(out / "report.json", metrics)
    write_text(out / "report.html", html)
    return metrics


def as_json(
    found: Results, title: str, unit: str, facts: Mapping[str, Any], meaning: Mapping[str, str]
) -> dict[str, Any]:
    """All metrics as plain dicts, lists, strings, numbers and None."""
    return {
        "title": title,
        "headline": headline(found, unit),
        "split": found.split,
        "settings": {
            "level": LEVEL,
            "resamples": found.resamples,
            "seed": found.seed,
            "interval": found.resampling.interval,
            "stratified": found.resampling.stratify,
            "threshold_rule": found.rule,
        },
        "splits": found.splits,
        "labels": [row | {"what_one_means": meaning.get(row["label"], "")} for row in found.truths],
        "models": [_model_json(model) | {"provenance": facts[model.name]} for model in found.models],
        "comparisons": [
            {"first": found.models[0].name, "second": other} | comparison_json(comparison)
            for other, comparison in found.comparisons.items()
        ],
    }


def metrics_table(
    found: Results, localisation: Mapping[str, Localisation], sections: Sequence[Section] = ()
) -> pd.DataFrame:
    """One row per metric, the columns as named below. Macro means have no label. Of exclusive classes,
    `classes_accuracy` and the like are over all of them, `class_sensitivity` and the like are each one's own; both are
    of the decisions, not of a threshold.
    """
    rows = []
    for model in found.models:
        for metric, e in model.macro.items():
            rows.append((model.name, "", f"macro_{metric}", e.value, e.low, e.high, len(model.table), "", e.reason))
        rows += [] if model.classes is None else _class_rows(model.name, model.classes)
        if model.name in localisation:
            slides = localisation[model.name].froc.slides
            for metric, e in localisation_metrics(localisation[model.name]).items():
                rows.append((model.name, "", f"localisation_{metric}", e.value, e.low, e.high, slides, "", e.reason))
        for label in model.labels:
            head, size = (model.name, label.label), (label.cases, label.positives)
            threshold = label.point
            rows.append((*head, "threshold", threshold.threshold, np.nan, np.nan, *size, threshold.reason))
            for metric, e in label.metrics.items():
                rows.append((*head, metric, e.value, e.low, e.high, *size, e.reason))
    rows += difference_rows(found)
    for model, label, metric, e, cases, positives in (entry for section in sections for entry in section.metrics):
        rows.append((model, label, metric, e.value, e.low, e.high, cases, positives, e.reason))
    columns = ["model", "label", "metric", "value", "low", "high", "n", "positives", "reason"]
    return pd.DataFrame(rows, columns=columns)


def _class_rows(model: str, found: ClassResult) -> list[tuple]:
    rows = []
    for metric, e in found.metrics.items():
        cases = found.cases + (found.failed if metric == "accuracy_failed_as_wrong" else 0)
        rows.append((model, "", f"classes_{metric}", e.value, e.low, e.high, cases, "", e.reason))
    for i, label in enumerate(found.labels):
        for metric, estimates in found.per_class.items():
            e, size = estimates[i], (found.cases, int(found.confusion[i].sum()))
            rows.append((model, label, f"class_{metric}", e.value, e.low, e.high, *size, e.reason))
    return rows


def _model_json(model: ModelResult) -> dict[str, Any]:
    return {
        "model": model.name,
        "requested": model.requested,
        "scored": len(model.table),
        "patients": model.patients,
        "failed": model.failed.to_dict("records"),
        "defined_labels": model.defined,
        "thresholds_chosen_on_these_cases": model.optimistic,
        "macro": {metric: estimate_json(e) for metric, e in model.macro.items()},
        "labels": [
            {
                "label": label.label,
                "n": label.cases,
                "positives": label.positives,
                "threshold": {
                    "value": number_json(label.point.threshold),
                    "rule": label.point.rule,
                    "chosen_on": label.point.chosen_on,
                    "reason": label.point.reason,
                },
                "prevalence": number_json(label.prevalence),
                "metrics": {metric: estimate_json(e) for metric, e in label.metrics.items()},
                "calibration": [
                    {"mean_score": number_json(score), "n": int(n)} | {"observed": estimate_json(observed)}
                    for score, n, observed in zip(
                        label.calibration.mean_score, label.calibration.cases, label.calibration.observed
                    )
                ],
            }
            for label in model.labels
        ],
    } | _classes_json(model.classes)


def _classes_json(found: ClassResult | None) -> dict[str, Any]:
    """`classes` with what was decided; nothing where the labels are not exclusive."""
    if found is None:
        return {}
    truth, decision = found.confusion.nonzero()
    return {
        "classes": {
            "n": found.cases,
            "unknown_truth": found.unknown,
            "failed_with_known_truth": found.failed,
            "decisions_from_the_table": found.ruled,
            "decisions_not_the_largest_score": found.differing,
            "metrics": {metric: estimate_json(e) for metric, e in found.metrics.items()},
            "labels": [
                {"label": label, "n": int(found.confusion[i].sum())}
                | {metric: estimate_json(estimates[i]) for metric, estimates in found.per_class.items()}
                for i, label in enumerate(found.labels)
            ],
            # Cells that are not 0: of 400 classes nearly all are.
            "confusion": [
                {"truth": found.labels[i], "decision": found.labels[j], "cases": int(found.confusion[i, j])}
                for i, j in zip(truth, decision)
            ],
        }
    }


def _plain(facts: Any) -> Any:
    """Provenance as JSON can hold it: numbers that are not finite become None, unknown objects their text."""
    if isinstance(facts, Mapping):
        return {str(key): _plain(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple | set):
        return [_plain(value) for value in facts]
    if isinstance(facts, np.generic):
        return _plain(facts.item())
    if isinstance(facts, float):
        return number_json(facts)
    return facts if facts is None or isinstance(facts, str | int | bool) else str(facts)
