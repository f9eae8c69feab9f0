"""The report's section on boxes: what `prepare` and `predict --explain` wrote, brought together.

Where there are no boxes but masks, the boxes are those around the parts of the masks.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from ..datasets.images.image_maps import ImageMaps, case_file, read_maps
from ..datasets.loading.isolation import isolated
from ..datasets.manifest.boxes import BOXES, Box, read_boxes
from ..datasets.manifest.regions import Mask, boxes_around, regions_of, regions_there
from ..datasets.manifest.tables import Manifest, Predictions
from ..eval.evaluation import Evaluation
from ..eval.localisation.boxes import BoxedFinding, BoxMetrics, box_metrics
from ..eval.localisation.image_map import ImageMap
from ..eval.report.boxes_section import boxes_section
from ..eval.report.section import Section
from .explain import ATTENTION_MAPS, EXPLANATIONS, MAPS
from .fold_tables import models_of_folds

_MIXED = (
    "maps of several models or methods. Remove the folder and write it anew: `clinvit predict ... --explain FOLDER`."
)


@dataclass(frozen=True, eq=False)
class BoxedMaps:
    """The maps of all models that lie on findings with a box, and what they come to. Keys are names in the report.

    Attributes:
        findings: Of each model, or model and further method of maps.
        metrics: The same, in the order of the findings.
        places: Place among all models of the report, which decides a colour.
    """

    findings: dict[str, list[BoxedFinding]] = field(default_factory=dict)
    metrics: dict[str, BoxMetrics] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)

    def section(self, image: Callable[[str], np.ndarray | None] | None = None) -> Section | None:
        """Return the section; None where no model has a map of a finding with a box.

        Args:
            image: Case id to its image, for examples.
        """
        if not self.metrics:
            return None
        return boxes_section(self.metrics, self.places, next(iter(self.findings.values())), image)


def box_report(
    predictions: Mapping[str, Path],
    tables: Mapping[str, Predictions],
    manifest: Manifest,
    evaluation: Evaluation,
    image: Callable[[str], np.ndarray | None] | None = None,
) -> Section | None:
    """Return the section on the maps of `boxed_maps`; None where there are none.

    Args:
        predictions: Model name to its table's file.
        tables: The same, read.
        manifest: The cases.
        evaluation: The split, and how intervals are made.
        image: Case id to its image, for examples.
    """
    return boxed_maps(predictions, tables, manifest, evaluation).section(image)


def boxed_maps(
    predictions: Mapping[str, Path],
    tables: Mapping[str, Predictions],
    manifest: Manifest,
    evaluation: Evaluation,
) -> BoxedMaps:
    """Return all maps, where boxes or masks lie with the manifest and `explanations` beside a predictions table.

    Args:
        predictions: Model name to its table's file.
        tables: The same, read.
        manifest: The cases, with the boxes beside it.
        evaluation: The split, and how intervals are made.

    Raises:
        DataError: The boxes or a map cannot be read, or the maps of one folder are of several models or methods.
    """
    folders = {name: own for name, path in predictions.items() if (own := _folders(Path(path).parent / EXPLANATIONS))}
    there = BoxedMaps(places={name: place for place, name in enumerate(tables)})
    if not folders or not (boxes := _boxes(manifest)):
        return there
    for name, own in folders.items():
        table, models = tables[name].rows(evaluation.split), set()
        for folder in own:
            findings, made, without = _findings(folder, table, boxes, models_of_folds(predictions[name]))
            if not findings:
                continue
            models.add(made[0])
            if len(models) > 1:
                raise DataError(f"{folder}: {_MIXED}")
            row = name if folder.name == MAPS else f"{name}, {made[1]}"
            there.places.setdefault(row, len(there.places))
            there.findings[row] = findings
            there.metrics[row] = box_metrics(findings, table.labels, evaluation, method=made[1], without_map=without)
    return there


def _boxes(manifest: Manifest) -> list[Box]:
    """Return the boxes beside a manifest, or those around the parts of its masks."""
    path = manifest.path.parent / BOXES
    if path.is_file():
        return read_boxes(path, manifest)
    if not regions_there(manifest):
        return []
    found = regions_of(manifest, "masks")
    ids, boxes = manifest.table["id"].tolist(), []
    for (row, label), mask in found.drawn.items():
        assert isinstance(mask, Mask), "these are masks"
        height, width = mask.shape
        for left, top, right, bottom in boxes_around(mask.whole()).tolist():
            boxes.append(Box(ids[row], found.labels[label], left, top, right - left, bottom - top, width, height))
    return boxes


def _folders(explanations: Path) -> list[Path]:
    """Return the folders of maps that `predict --explain` wrote, one per method, that of the model's own first."""
    return [folder for folder in (explanations / MAPS, explanations / ATTENTION_MAPS) if folder.is_dir()]


def _findings(
    folder: Path, table: Predictions, boxes: list[Box], folds: frozenset[str]
) -> tuple[list[BoxedFinding], tuple[str, str], int]:
    """Return the findings that have boxes and a map, the maps' model and method, and how many have none.

    The models of `folds` count as one: each has made the maps of the cases that it held out.
    """
    patients = dict(zip(table.table["id"], table.table["patient"], strict=True))
    of_finding: dict[tuple[str, str], list[Box]] = {}
    for box in boxes:
        if box.id in patients and box.label in table.labels:
            of_finding.setdefault((box.id, box.label), []).append(box)
    maps = maps_of(folder, dict.fromkeys(case for case, _ in of_finding))
    made = {("" if each.model in folds else each.model, each.method) for each in maps.values() if each is not None}
    if len(made) > 1:
        raise DataError(f"{folder}: {_MIXED}")
    found = []
    for (case, label), own in of_finding.items():
        each = maps[case]
        if each is not None and label in each.labels:
            grid = _of_label(each, label)
            corners = np.array([box.within(grid.width_px, grid.height_px) for box in own])
            found.append(BoxedFinding(case, patients[case], label, grid, corners))
    return found, next(iter(made), ("", "")), len(of_finding) - len(found)


def image_map(predictions: Path, case: str, label: str) -> ImageMap | None:
    """Return the map of a case that `predict --explain` wrote beside a table; None where it has none of the label.

    Raises:
        DataError: The map cannot be read.
    """
    found = maps_of(Path(predictions).parent / EXPLANATIONS / MAPS, [case])[case]
    return None if found is None or label not in found.labels else _of_label(found, label)


def _of_label(found: ImageMaps, label: str) -> ImageMap:
    return ImageMap(found.maps[found.labels.index(label)], found.extent_px, found.width_px, found.height_px)


def maps_of(folder: Path, cases: Iterable[str]) -> dict[str, ImageMaps | None]:
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
