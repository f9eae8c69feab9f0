"""The report of an evaluation, as files and as an object.

`report.html` to read, `report.json` and `metrics.csv` to go on with, `report.tex` for a paper, and of models compared
`disagreements.csv`.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...core.errors import UserError
from ...core.files import write_json, write_text, written_aside
from ...datasets.manifest.tables import Manifest, Predictions, for_spreadsheets
from ..evaluation import STANDARD, Evaluation
from ..inputs import Cases, Table, held_against, open_cases, open_predictions
from ..statistics.resampling import shared_resamples
from ..statistics.results import Results, results
from ..units import Units, by_unit, members, unit_manifest
from .checklists_section import checklists_section
from .context import Context
from .group_section import findings_alone, group_section
from .headline import headline
from .images import together
from .latex import latex
from .metrics_csv import disagreements_table, metrics_table
from .metrics_json import report_json
from .page import page
from .section import Section

PAGE = "report.html"
SHOWN = (  # in a notebook
    "accuracy", "baseline_accuracy", "auroc", "average_precision", "sensitivity", "specificity", "mae", "rmse",
    "concordance", "kappa_quadratic", "grade_mae", "c_harrell", "c_uno", "brier_integrated",
)  # fmt: skip
_PLAIN = {"index": False, "lineterminator": "\n", "float_format": "%.6g"}


class Report:
    """A report that has been written.

    Attributes:
        path: The page, `report.html`; the other files lie beside it.
        headline: The result in sentences.
        metrics: All metrics, one per row: `model, label, metric, value, low, high, n, positives, reason`.
    """

    def __init__(self, path: Path, content: dict[str, Any], metrics: pd.DataFrame):
        """Hold what `evaluate` has written: the page, the content of `report.json`, and `metrics.csv`."""
        self.path, self.metrics = path, metrics
        self.headline: list[str] = content["headline"]
        self._content = content

    def to_dict(self) -> dict[str, Any]:
        """Return what `report.json` holds. A NaN is None there, with a reason beside it."""
        return self._content

    def __repr__(self) -> str:
        """Return the result in sentences, and where the page is."""
        return "\n".join([*self.headline, f"report: {self.path}"])

    def _repr_html_(self) -> str:
        """Return the headline and a table of the main metrics, for notebooks."""
        sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.headline)
        return f"{sentences}{self._table().to_html()}<p>{escape(str(self.path))}</p>"

    def _table(self) -> pd.DataFrame:
        """Return one row per model and label, one column per metric, each with its interval."""
        rows = self.metrics.assign(metric=self.metrics["metric"].str.replace(r"^(macro|classes)_", "", regex=True))
        rows = rows[rows["metric"].isin(SHOWN) & ~rows["model"].str.contains(" - ", regex=False)]
        shown = [
            "–" if np.isnan(row.value) else f"{row.value:.3f}" + _interval(row.low, row.high)
            for row in rows.itertuples()
        ]
        table = rows.assign(shown=shown, label=rows["label"].replace("", "all"))
        return table.pivot_table("shown", ["model", "label"], "metric", "first", sort=False).fillna("")


@shared_resamples()
def evaluate(
    models: Mapping[str, Table],
    out: str | os.PathLike = "report",
    data: Cases | None = None,
    evaluation: Evaluation = STANDARD,
    *,
    title: str = "Evaluation",
    context: Context | None = None,
) -> Report:
    """Evaluate one or more models on one split and write the report.

    Args:
        models: Model name to its predictions: a table as `predict` returns it, a `predictions.csv`, or a run folder.
            The first model is the one reported on: its most wrong cases are shown, and it is compared with each of the
            others. A table may bring the model's thresholds by label as `table.attrs["thresholds"]`, which are used
            where it has no scored `val` rows and `evaluation` no rule.
        out: Folder for `report.html`, `report.json`, `metrics.csv` and `report.tex`, and `disagreements.csv` where
            models are compared.
        data: The manifest, its file or its folder: with it the report describes the cohort and compares subgroups.
        evaluation: What is evaluated, and how.
        title: Heading of the page.
        context: What else is known of the models and the cases.

    Raises:
        DataError: A table is none or has no row in the split, or two tables differ in their cases.
        UserError: No table, thresholds or localisation of an unknown model, or subgroups without a manifest or by a
            column that it does not have.
    """
    if data is None and evaluation.of_manifest:
        raise UserError(f"{evaluation.of_manifest} needs --data: the columns are those of the manifest.")
    tables = {name: evaluation.said(open_predictions(table, name, targets=True)) for name, table in models.items()}
    manifest = None if data is None else open_cases(data)
    context = context or Context(meaning={} if manifest is None else manifest.meaning)
    if evaluation.units is None:
        tables = _held(tables, manifest, evaluation)
    else:
        tables, manifest, context = _of_units(tables, manifest, evaluation, evaluation.units, context)
    if any(table.targets for table in tables.values()):
        return _of_targets(tables, Path(out), evaluation, title, context)
    every, tables = tables, findings_alone(tables)
    for name in sorted(context.localisation.keys() - tables.keys()):
        raise UserError(f"Localisation is given for {name!r}, but the models are {', '.join(tables)}.")
    in_order = {name: context.localisation[name] for name in tables if name in context.localisation}
    own = _thresholds(models, tables, evaluation.unit)
    context = replace(context, localisation=in_order, thresholds=own | dict(context.thresholds))
    found = results(tables, evaluation, context.thresholds, context.rules)
    sections = [*context.sections(found), *_readers(found, tables, context), *_sections(found, tables, manifest)]
    sentences = headline(found, context.unit)
    if (groups := group_section(every, evaluation, context.unit)) is not None:
        sections.insert(0, groups)
        sentences += [f"{each['name']}: {each['sentences'][0]}" for each in groups.content["groups"]]
    sections.append(checklists_section(found, context, sections))
    content = report_json(found, title, sentences, context, sections)
    metrics = metrics_table(found, context.localisation, sections)
    html = page(found, title, context, sections)
    out = Path(out)
    _write_table(out / "metrics.csv", metrics)
    if found.comparisons:
        _write_table(out / "disagreements.csv", disagreements_table(found))
    write_text(out / "report.tex", latex(found, title, sentences))
    write_json(out / "report.json", content)
    write_text(out / PAGE, html)
    return Report(out / PAGE, content, metrics)


def _of_targets(
    tables: Mapping[str, Predictions], out: Path, evaluation: Evaluation, title: str, context: Context
) -> Report:
    """Write the report of numbers, grades or times."""
    from ..targets.results import target_results
    from ..targets.target_report import target_report

    if context.reads is not None:
        raise UserError("readers' ratings are of findings, not of numbers, grades or times: leave them out.")
    found = target_results(tables, evaluation)
    written = target_report(found, title, context, context.sections(None))
    _write_table(out / "metrics.csv", written.metrics)
    write_text(out / "report.tex", written.latex)
    write_json(out / "report.json", written.content)
    write_text(out / PAGE, written.page)
    return Report(out / PAGE, written.content, written.metrics)


def _held(tables: Mapping[str, Predictions], manifest: Manifest | None, evaluation: Evaluation) -> dict:
    """Return the tables, held against the manifest where there is one."""
    if manifest is None:
        return dict(tables)
    return {name: held_against(table, manifest, evaluation.split) for name, table in tables.items()}


def _of_units(
    tables: Mapping[str, Predictions], manifest: Manifest | None, evaluation: Evaluation, units: Units, context: Context
) -> tuple[dict[str, Predictions], Manifest | None, Context]:
    """Return tables, manifest and context with a row per unit."""
    from ..statistics.classes import exclusive

    classes = {name: bool(table.labels) and exclusive(table) for name, table in tables.items()}
    images = set() if manifest is None else set(manifest.table["id"])
    single = {name: table for name, table in tables.items() if images & set(table.table["id"])}
    held = {**tables, **_held(single, manifest, evaluation)}
    found = {name: by_unit(table, units, classes[name], manifest) for name, table in held.items()}
    context = replace(context, unit=units.unit, image_map=lambda case, label: None)
    if manifest is None:
        return found, None, replace(context, image=None)
    shown = None if context.image is None else together(members(manifest, units.unit), context.image)
    manifest = unit_manifest(manifest, units, any(classes.values()))
    rest = {name: table for name, table in found.items() if name not in single}
    return found | _held(rest, manifest, evaluation), manifest, replace(context, image=shown)


def _thresholds(
    models: Mapping[str, Table], tables: Mapping[str, Predictions], unit: str | None
) -> dict[str, dict[str, float]]:
    """Return the thresholds in `attrs` of tables in memory, of those that have no `val` rows to choose them on.

    Those of single images are none for units.
    """
    own = {name: table for name, table in models.items() if isinstance(table, pd.DataFrame)}
    brought = {
        name: table.attrs.get("thresholds") for name, table in own.items() if unit in (None, table.attrs.get("unit"))
    }
    return {name: dict(own) for name, own in brought.items() if own and not len(tables[name].rows("val").scored())}


def _readers(found: Results, tables: Mapping[str, Predictions], context: Context) -> list[Section]:
    """Return the section on readers beside the first model, where there are any."""
    if context.reads is None:
        return []
    from ..statistics.readers import checked_reads, reader_results
    from .readers_section import readers_section

    first, table = found.models[0], tables[found.models[0].name]
    reads = checked_reads(context.reads, table.labels, "readers")
    cuts = {label.label: label.point.threshold for label in first.labels}
    return [readers_section(first.name, *reader_results(table, reads, cuts, found.evaluation))]


def _sections(found: Results, tables: Mapping[str, Predictions], manifest: Manifest | None) -> list[Section]:
    """Return what tables and manifest are enough for: decision curves, the cohort, subgroups."""
    from ..statistics.cohort import cohort
    from ..statistics.groups import manifest_columns, usual_columns
    from ..statistics.paired_groups import paired_groups
    from ..statistics.subgroups import subgroups
    from .abstention_section import abstention_section
    from .cohort_section import cohort_section
    from .decision_curve_section import decision_section
    from .fairness_section import fairness_section
    from .further_section import further_section, weighted_section
    from .sites_section import sites_section
    from .subgroup_section import subgroup_section
    from .within_section import within_section

    sections = [further_section(tables, found.evaluation), decision_section(tables, found.evaluation)]
    left = abstention_section(tables, found.evaluation)
    sections += [] if left is None else [left]
    if manifest is None:
        return sections
    sections.append(cohort_section(cohort(manifest)))
    columns, wanted = manifest_columns(manifest), found.evaluation.subgroups
    names = usual_columns(columns) if wanted is None else wanted
    points = {model.name: [label.point for label in model.labels] for model in found.models}
    population = weighted_section(tables, columns, points, found.evaluation)
    sections += [] if population is None else [population]
    places = sites_section(tables, columns, points, found.evaluation)
    sections += [] if places is None else [places]
    if names:
        sections.append(subgroup_section(subgroups(tables, columns, names, points, found.evaluation)))
        gaps = fairness_section(tables, columns, names, points, found.evaluation)
        sections += [] if gaps is None else [gaps]
    if names and found.comparisons:
        first = found.models[0].name
        pairs = {other: (tables[first], tables[other]) for other in found.comparisons}
        within = {other: paired_groups(*both, columns, names, found.evaluation) for other, both in pairs.items()}
        sections.append(within_section(first, within))
    return sections


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with written_aside(path) as aside:
        for_spreadsheets(table).to_csv(aside, **_PLAIN)


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" ({low:.2f}–{high:.2f})"
