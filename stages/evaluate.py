"""The stage `evaluate` of every task: predictions tables, and what lies beside them, to a report."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..core.alone import folder_alone
from ..core.errors import DataError, UserError
from ..datasets.manifest.tables import Manifest, Predictions, read_predictions
from .calibration import calibration_facts
from .explain import EXPLANATIONS
from .facts import facts_beside
from .seen import seen_beside, seen_sentences
from .stages import open_manifest


def evaluate_stage(
    predictions: Mapping[str, Path],
    out: Path,
    *,
    split: str = "test",
    data: Path | None = None,
    rule: str = "youden",
    prevalence: float | Mapping[str, float] | None = None,
    subgroups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    interval: str = "percentile",
    stratify: bool = False,
    title: str = "Evaluation",
) -> dict:
    """The report of one or more predictions tables; model folders beside them give thresholds and provenance.

    Where a folder `explanations` lies beside a table (`predict --explain`) and `data` has outlines of tumours or boxes
    of findings, the maps are held against these.

    Args:
        predictions: Model name to its table's file, the model reported on first.
        out: Folder of the report.
        split: The split to evaluate.
        data: Manifest or its folder: who the cases are, their subgroups, and images of the most wrong ones.
        rule, prevalence, resamples, seed, interval, stratify, title: See `eval.report.evaluate`.
        subgroups: Columns of the manifest; None for sex, age, view, scanner and site where it has them.

    Raises:
        UserError: Subgroups are asked for without `data`, or by a column that it does not have; or another
            process is writing there.
    """
    from ..eval.report.report import evaluate
    from ..eval.statistics.resampling import Resampling

    if subgroups and data is None:
        raise UserError("--subgroups needs --data: the columns are those of the manifest.")

    tables = {name: read_predictions(path) for name, path in predictions.items()}
    cards = {name: _card_beside(path) for name, path in predictions.items()}
    thresholds = {
        name: {label: t["value"] for label, t in stored.items() if t["value"] is not None}
        for name, stored in _stored_thresholds(predictions, cards).items()
        if not len(tables[name].rows("val"))
    }
    manifest = open_manifest(data) if data is not None else None
    with folder_alone(Path(out)):
        localisation, pages = _localisation(predictions, tables, manifest, Path(out), split, resamples, seed)
        unit = _unit([card for card in cards.values() if card is not None])
        image = _images(manifest) if manifest is not None and unit != "slide" else None
        resampling = Resampling(resamples, seed, interval, stratify)
        return evaluate(
            tables,
            Path(out),
            split=split,
            thresholds=thresholds or None,
            rule=rule,
            prevalence=prevalence,
            resamples=resamples,
            seed=seed,
            interval=interval,
            stratify=stratify,
            title=title,
            unit=unit,
            provenance={name: _provenance(card) for name, card in cards.items() if card is not None},
            image=image,
            localisation=localisation,
            slide_pages=pages,
            what_one_means=next((card.meaning for card in cards.values() if card is not None), {}),
            sections=lambda found: [
                _seen(found.split, predictions, tables),
                *_sections(found, predictions, tables, manifest, subgroups, resampling, image),
            ],
        )


def _stored_thresholds(predictions: Mapping[str, Path], cards: Mapping) -> dict[str, dict]:
    """The thresholds of the models that have some: of the folder beside a table, or as `predict` wrote them there."""
    found = {
        name: facts_beside(path).get("thresholds") or getattr(cards[name], "thresholds", None)
        for name, path in predictions.items()
    }
    return {name: stored for name, stored in found.items() if stored}


def _seen(split: str, predictions: Mapping[str, Path], tables: Mapping[str, Predictions]):
    """The section on cases that the models have seen before."""
    from ..eval.report.seen_section import seen_section

    facts = {name: seen_beside(path, tables[name].table) for name, path in predictions.items()}
    return seen_section(split, {name: seen_sentences(split, found) for name, found in facts.items()}, facts)


def _sections(
    found, predictions: Mapping[str, Path], tables: Mapping[str, Predictions], manifest: Manifest | None,
    columns: Sequence[str] | None, resampling, image: Callable[[str], np.ndarray | None] | None,
) -> list:  # fmt: skip
    """What the report has beside the results: decision curves, and of a manifest the cohort, boxes and subgroups."""
    from ..eval.report.cohort_section import cohort_section
    from ..eval.report.decision_curve_section import decision_section
    from ..eval.report.subgroup_section import subgroup_section
    from ..eval.statistics.cohort import cohort
    from ..eval.statistics.groups import manifest_columns, usual_columns
    from ..eval.statistics.subgroups import subgroups
    from .box_report import box_report

    sections = [decision_section(tables, found.split, resampling)]
    if manifest is None:
        return sections
    boxes = box_report(predictions, tables, manifest, found.split, resampling, image)
    sections += [cohort_section(cohort(manifest)), *([] if boxes is None else [boxes])]
    known = manifest_columns(manifest)
    names = usual_columns(known) if columns is None else columns
    if names:
        points = {model.name: [label.point for label in model.labels] for model in found.models}
        own = subgroups(tables, known, names, points=points, split=found.split, resampling=resampling)
        sections.append(subgroup_section(own))
    return sections


def _localisation(
    predictions: Mapping[str, Path], tables: Mapping[str, Predictions], manifest: Manifest | None, out: Path,
    split: str, resamples: int, seed: int,
) -> tuple[dict, dict[str, str]]:  # fmt: skip
    """Localisation by model, and the address of every slide's page (of the first model that has one)."""
    found, pages = {}, {}
    for name, path in predictions.items():
        maps = Path(path).parent / EXPLANATIONS
        if manifest is None or not maps.is_dir() or len(tables[name].labels) != 1:
            continue
        from ..datasets.slides.shared_work import slide_file
        from .slides.localise import localised

        metrics = localised(maps, manifest, tables[name].labels[0], split, resamples, seed)
        if metrics is not None:
            found[name] = metrics
            for slide in metrics.slides:
                page = slide_file(maps, slide.id, ".html")
                if page.is_file():
                    pages.setdefault(slide.id, Path(os.path.relpath(page.resolve(), out.resolve())).as_posix())
    return found, pages


def _card_beside(predictions: Path):
    from ..mil.cards import load_any_card

    folder = Path(predictions).parent / "model"
    return load_any_card(folder) if folder.is_dir() else None


def _unit(cards: list) -> str:
    """What a case is called in the report."""
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


def _images(manifest: Manifest) -> Callable[[str], np.ndarray | None]:
    """What the report shows of a case: the image, or four frames of the clip, two by two."""
    from ..datasets.images.radiographs import RADIOGRAPH_SUFFIXES, read_radiograph
    from ..datasets.video.clips import open_clip

    files = dict(zip(manifest.table["id"], manifest.files()))

    def image(case: str) -> np.ndarray | None:
        if case not in files:
            return None
        try:
            if files[case].suffix.lower() in RADIOGRAPH_SUFFIXES:
                return read_radiograph(files[case], shorter_px=320)
        except DataError:
            return None
        try:
            with open_clip(files[case], shorter_px=160) as clip:
                one, two, three, four = clip[((np.arange(4) + 0.5) * len(clip) / 4).astype(int)]
        except DataError:
            return None
        return np.block([[one, two], [three, four]]) / np.float32(255)

    return image
