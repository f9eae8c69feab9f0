"""The stage `evaluate` of every task: predictions tables, and what lies beside them, to a report."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.alone import folder_alone
from ..core.documents import read_yaml
from ..core.errors import UserError
from ..datasets.images.image_maps import case_file
from ..datasets.manifest.cells import read_csv
from ..datasets.manifest.tables import Manifest, Predictions, read_predictions
from .calibration import calibration_facts
from .case_images import case_images
from .data import open_manifest
from .explain import EXPLANATIONS
from .facts import facts_beside
from .seen import seen_beside, seen_sentences

if TYPE_CHECKING:
    from ..eval import Context, Evaluation, Report
    from ..eval.report.section import Section
    from ..eval.statistics.results import Results


def evaluate_stage(
    predictions: Mapping[str, Path | Sequence[Path]],
    out: Path,
    *,
    data: Path | None = None,
    evaluation: "Evaluation | None" = None,
    title: str = "Evaluation",
    readers: Path | None = None,
    facts: Path | None = None,
    efficiency: Mapping[int, Mapping[str, Path]] | None = None,
    steps: Mapping[str, Path] | None = None,
) -> "Report":
    """Write the report of one or more predictions tables; model folders beside them give thresholds and provenance.

    Where a folder `explanations` lies beside a table (`predict --explain`) and `data` has outlines of tumours or boxes
    of findings, the maps are held against these.

    Args:
        predictions: Model name to its table's file, the model reported on first; of a cross-validation to the tables of
            its folds, of which the rows of the split are put together.
        out: Folder of the report.
        data: Manifest or its folder: who the cases are, their subgroups, and images of the most wrong ones.
        evaluation: What is evaluated, and how; the standard one by default.
        title: Heading of the page.
        readers: Table of readers' ratings of the same cases (`eval.statistics.readers`).
        facts: YAML file of what only the authors know, for the checklists (`eval.report.checklist_items.AUTHORS`).
        efficiency: Labelled training cases to the tables of two models that were trained on so many, as `predictions`
            has them of one number: the report gets a section on label efficiency.
        steps: Of a cascade: name of each step to its model's table, in order: the report gets a section on them.

    Raises:
        UserError: Subgroups are asked for without `data`, or by a column that it does not have; or another
            process is writing there.
    """
    from ..eval import Evaluation, evaluate

    evaluation = evaluation or Evaluation()
    single = _joined(predictions, Path(out), evaluation.split)
    if data is None and evaluation.of_manifest:
        raise UserError(f"{evaluation.of_manifest} needs --data: the columns are those of the manifest.")
    said = _facts(facts)
    tables = {name: _with_units(path, read_predictions(path, targets=True)) for name, path in single.items()}
    evaluation = _with_rows(evaluation, single, tables)
    manifest = open_manifest(data) if data is not None else None
    with folder_alone(Path(out)):
        context = _context(single, tables, manifest, Path(out), evaluation)
        context = replace(context, sections=_with_parts(context, evaluation, efficiency or {}, steps or {}))
        context = replace(context, reads=None if readers is None else read_csv(readers), facts=said)
        return evaluate(tables, out, manifest, evaluation, title=title, context=context)


def _joined(predictions: Mapping[str, Path | Sequence[Path]], out: Path, split: str) -> dict[str, Path]:
    """Return one table per model; those of folds are joined below `out/folds`."""
    found: dict[str, Path] = {}
    for name, path in predictions.items():
        if isinstance(path, str | Path):
            found[name] = Path(path)
            continue
        from .fold_tables import joined_folds

        with folder_alone(out):
            found[name] = joined_folds(list(path), case_file(out / "folds", name, "") / "predictions.csv", split)
    return found


def _context(
    predictions: Mapping[str, Path], tables: Mapping[str, Predictions], manifest: Manifest | None, out: Path,
    evaluation: "Evaluation",
) -> "Context":  # fmt: skip
    """Gather what model folders, explanations and images beside the tables say."""
    from ..eval import Context
    from .box_report import BoxedMaps, boxed_maps, image_map
    from .dense_report import dense_report

    cards = {name: _card_beside(path) for name, path in predictions.items()}
    known = {name: card for name, card in cards.items() if card is not None}
    stored = {
        name: own
        for name, path in predictions.items()
        if aggregation_beside(path).get("unit") == evaluation.unit and (own := stored_thresholds(path))
    }
    localisation, pages = _localisation(predictions, tables, manifest, out, evaluation)
    unit = _unit(list(known.values()))
    image = case_images(manifest) if manifest is not None and unit != "slide" else None

    def sections(_) -> list:
        found = [_seen(evaluation.split, predictions, tables)]
        if manifest is None or any(table.targets for table in tables.values()):
            return found
        maps: BoxedMaps = boxed_maps(predictions, tables, manifest, evaluation)
        drawn = dense_report(predictions, tables, manifest, evaluation, maps)
        return [*found, *(section for section in (maps.section(image), drawn) if section is not None)]

    return Context(
        unit=unit,
        thresholds={
            name: {label: t["value"] for label, t in own.items() if t["value"] is not None}
            for name, own in stored.items()
            if not len(tables[name].rows("val").scored())
        },
        rules={name: {label: t["how"] for label, t in own.items() if t.get("how")} for name, own in stored.items()},
        provenance={name: _provenance(card) for name, card in known.items()},
        meaning=next((card.meaning for card in known.values()), {}),
        image=image,
        image_map=lambda case, label: image_map(next(iter(predictions.values())), case, label),
        localisation=localisation,
        slide_pages=pages,
        sections=sections,
    )


def _with_parts(
    context: "Context",
    evaluation: "Evaluation",
    efficiency: Mapping[int, Mapping[str, Path]],
    steps: Mapping[str, Path],
) -> "Callable[[Results], Sequence[Section]]":  # fmt: skip
    """Return what gives the sections of the context, and those on label efficiency and on steps where there are any."""
    from ..eval.report.label_efficiency_section import label_efficiency_section
    from ..eval.report.steps_section import steps_section
    from ..eval.statistics.results import results

    def evaluated(paths: Mapping[str, Path]) -> "Results":
        return results({name: read_predictions(path) for name, path in paths.items()}, evaluation)

    def sections(found: "Results") -> "list[Section]":
        more = list(context.sections(found))
        if efficiency:
            sizes = {cases: evaluated(models) for cases, models in efficiency.items()}
            more.append(label_efficiency_section(sizes, context.unit))
        if steps:
            more.append(steps_section({name: evaluated({name: path}) for name, path in steps.items()}, context.unit))
        return more

    return sections


def aggregation_beside(predictions: Path) -> Mapping[str, Any]:
    """Return `unit` and `rule` of the model of a table, whose thresholds are of these units; empty of single images."""
    facts = facts_beside(predictions)
    if facts:
        return facts.get("aggregation") or {}
    return getattr(_card_beside(predictions), "aggregation", {})


def manifest_of_rows(manifest: Manifest, predictions: Path, table: Predictions) -> Manifest:
    """Return the manifest with a row per unit where a table of predictions has one."""
    from ..eval.units import Units, unit_manifest

    own = aggregation_beside(predictions)
    of = facts_beside(predictions).get("of") or getattr(_card_beside(predictions), "unit", "image")
    if not own or f"failed_{of}s" not in table.table:
        return manifest
    return unit_manifest(manifest, Units(own["unit"], of=of), exclusive=False)


def _with_rows(
    evaluation: "Evaluation", predictions: Mapping[str, Path], tables: Mapping[str, Predictions]
) -> "Evaluation":
    """Return the evaluation with what the rows of the tables are: their units where nobody says it, and of what."""
    facts = {name: facts_beside(path) for name, path in predictions.items()}
    cards = {name: _card_beside(path) for name, path in predictions.items()}
    of = {name: facts[name].get("of") or getattr(cards[name], "unit", "image") for name in tables}
    evaluation = replace(evaluation, unit_of=next(iter(of.values()), "image"))
    if evaluation.unit is not None:
        return evaluation
    units = {
        aggregation_beside(path).get("unit")
        for name, path in predictions.items()
        if f"failed_{of[name]}s" in tables[name].table
    }
    if len(units) > 1:
        raise UserError(
            f"the tables are of different units ({', '.join(sorted(map(str, units)))}): name one by --unit."
        )
    return replace(evaluation, unit=units.pop()) if units else evaluation


def _with_units(path: Path, table: Predictions) -> Predictions:
    """Return a table of numbers, grades or times with the units that its model's card says."""
    if not table.targets:
        return table
    found = facts_beside(path).get("targets") or getattr(_card_beside(path), "targets", ())
    units = {str(each["name"]): str(each.get("unit", "")) for each in found}
    return replace(table, targets=tuple(replace(each, unit=units.get(each.name, "")) for each in table.targets))


def _facts(path: Path | None) -> dict[str, str]:
    """Return what the authors have written down.

    Raises:
        UserError: The file is missing or no YAML, or a key is unknown.
    """
    from ..eval.report.checklists_section import checked_facts

    if path is None:
        return {}
    try:
        return checked_facts(read_yaml(path, remedy="It holds lines such as `dates: 2019 to 2021`."), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None


def stored_thresholds(predictions: Path) -> dict[str, dict]:
    """Return a model's thresholds by label, as `predict` wrote them beside the table, or of the model; or nothing.

    Those of units are none for a table of the single images.
    """
    if facts := facts_beside(predictions):
        return facts.get("thresholds") or {}
    card = _card_beside(predictions)
    if card is None or (card.aggregation and f"failed_{card.unit}s" not in read_csv(predictions, nrows=1)):
        return {}
    return card.thresholds


def _seen(split: str, predictions: Mapping[str, Path], tables: Mapping[str, Predictions]):
    """Return the section on cases that the models have seen before."""
    from ..eval.report.seen_section import seen_section

    facts = {name: seen_beside(path, tables[name].table) for name, path in predictions.items()}
    sentences = {name: seen_sentences(split, found) for name, found in facts.items()}
    for name, path in predictions.items():
        sentences[name][1].extend(_unreadable(_trained_on(path)))
    return seen_section(split, sentences, facts)


def _trained_on(predictions: Path) -> Mapping:
    """Return what the model's card says of its training data; from beside the table, or of the model folder there."""
    facts = facts_beside(predictions)
    return facts.get("trained_on") or getattr(_card_beside(predictions), "data", None) or {}


def _unreadable(data: Mapping) -> list[str]:
    """Say how many training files a model has never seen, as they could not be read."""
    count = data.get("unreadable_train")
    if not count:
        return []
    named = data.get("unreadable_ids", ())
    first = f" ({', '.join(map(str, named[:3]))}{', ...' if count > 3 else ''})" if named else ""
    one = count == 1
    return [
        f"{count:,} training file{'s' * (not one)} could not be read and {'was' if one else 'were'} left out of its "
        f"training{first}; the reasons stand in unreadable.csv of its run folder."
    ]


def _localisation(
    predictions: Mapping[str, Path], tables: Mapping[str, Predictions], manifest: Manifest | None, out: Path,
    evaluation: "Evaluation",
) -> tuple[dict, dict[str, str]]:  # fmt: skip
    """Return the localisation by model, and the address of every slide's page (of the first model that has one)."""
    found, pages = {}, {}
    for name, path in predictions.items():
        maps = Path(path).parent / EXPLANATIONS
        if manifest is None or not maps.is_dir() or len(tables[name].labels) != 1:
            continue
        from ..datasets.slides.shared_work import slide_file
        from .slides.localise import localised

        metrics = localised(maps, manifest, tables[name].labels[0], evaluation)
        if metrics is not None:
            found[name] = metrics
            for slide in metrics.slides:
                page = slide_file(maps, slide.id, ".html")
                if page.is_file():
                    pages.setdefault(slide.id, Path(os.path.relpath(page.resolve(), out.resolve())).as_posix())
    return found, pages


def _card_beside(predictions: Path):
    folder = Path(predictions).parent / "model"
    if not folder.is_dir():
        return None
    from ..mil.cards import load_any_card

    return load_any_card(folder)


def _unit(cards: list) -> str:
    """Return what a case is called in the report."""
    return cards[0].unit if cards else "case"


def _provenance(card) -> dict:
    return {
        "network": card.network_words(),
        **card.origin(),
        "data": card.data,
        "calibration": calibration_facts(card),
        "recipe": card.recipe,
        "versions": card.versions,
    }
