"""The report's section on boxes: what `prepare` and `predict --explain` wrote, brought together."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from ..datasets.images.image_maps import ImageMaps, case_file, read_maps
from ..datasets.loading.isolation import isolated
from ..datasets.manifest.boxes import BOXES, Box, read_boxes
from ..datasets.manifest.tables import Manifest, Predictions
from ..eval.evaluation import Evaluation
from ..eval.localisation.boxes import BoxedFinding, box_metrics
from ..eval.localisation.image_map import ImageMap
from ..eval.report.boxes_section import boxes_section
from ..eval.report.section import Section
from .explain import EXPLANATIONS, MAPS


def box_report(
    predictions: Mapping[str, Path],
    tables: Mapping[str, Predictions],
    manifest: Manifest,
    evaluation: Evaluation,
    image: Callable[[str], np.ndarray | None] | None = None,
) -> Section | None:
    """Return the section, where `boxes.csv` lies beside the manifest and `explanations` beside a predictions table.

    Args:
        predictions: Model name to its table's file.
        tables: The same, read.
        manifest: The cases, with the boxes beside it.
        evaluation: The split, and how intervals are made.
        image: Case id to its image, for examples.

    Returns:
        None where no model has a map of a finding with a box.

    Raises:
        DataError: The boxes or a map cannot be read, or the maps of one folder are of several models or methods.
    """
    folders = {name: Path(path).parent / EXPLANATIONS / MAPS for name, path in predictions.items()}
    folders = {name: folder for name, folder in folders.items() if folder.is_dir()}
    path = manifest.path.parent / BOXES
    if not folders or not path.is_file():
        return None
    boxes = read_boxes(path, manifest)
    metrics, first = {}, []
    for name, folder in folders.items():
        table = tables[name].rows(evaluation.split)
        findings, method, without = _findings(folder, table, boxes)
        if findings:
            first = first or findings
            metrics[name] = box_metrics(findings, table.labels, evaluation, method=method, without_map=without)
    if not metrics:
        return None
    places = {name: place for place, name in enumerate(tables)}
    return boxes_section(metrics, places, first, image)


def _findings(folder: Path, table: Predictions, boxes: list[Box]) -> tuple[list[BoxedFinding], str, int]:
    """Return the findings that have boxes and a map, how the maps were made, and how many have none."""
    patients = dict(zip(table.table["id"], table.table["patient"], strict=True))
    of_finding: dict[tuple[str, str], list[Box]] = {}
    for box in boxes:
        if box.id in patients and box.label in table.labels:
            of_finding.setdefault((box.id, box.label), []).append(box)
    maps = _maps(folder, dict.fromkeys(case for case, _ in of_finding))
    made = {(each.model, each.method) for each in maps.values() if each is not None}
    if len(made) > 1:
        raise DataError(
            f"{folder}: maps of several models or methods. Remove the folder and write it anew: `clinvit predict ... "
            "--explain FOLDER`."
        )
    found = []
    for (case, label), own in of_finding.items():
        each = maps[case]
        if each is not None and label in each.labels:
            grid = _of_label(each, label)
            corners = np.array([box.within(grid.width_px, grid.height_px) for box in own])
            found.append(BoxedFinding(case, patients[case], label, grid, corners))
    return found, next(iter(made))[1] if made else "", len(of_finding) - len(found)


def image_map(predictions: Path, case: str, label: str) -> ImageMap | None:
    """Return the map of a case that `predict --explain` wrote beside a table; None where it has none of the label.

    Raises:
        DataError: The map cannot be read.
    """
    found = _maps(Path(predictions).parent / EXPLANATIONS / MAPS, [case])[case]
    return None if found is None or label not in found.labels else _of_label(found, label)


def _of_label(found: ImageMaps, label: str) -> ImageMap:
    return ImageMap(found.maps[found.labels.index(label)], found.extent_px, found.width_px, found.height_px)


def _maps(folder: Path, cases: Iterable[str]) -> dict[str, ImageMaps | None]:
    """Return the maps of cases, read by a process of its own, since HDF5 may die over a broken file; None of no file.

    Raises:
        DataError: A map cannot be read.
    """
    files = {case: case_file(folder, case, ".h5") for case in cases}
    there = [file for file in files.values() if file.is_file()]
    found = dict(zip(there, isolated(read_maps, there))) if there else {}
    if wrong := next((each for each in found.values() if isinstance(each, DataError)), None):
        raise wrong
    return {case: found.get(file) for case, file in files.items()}
