"""The report's section on what models draw: their probability maps, and readers' boxes or masks, brought together."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from ..datasets.images.image_maps import ImageMaps
from ..datasets.manifest.regions import Mask, Regions, boxes_around, boxes_drawn, regions_of, regions_there
from ..datasets.manifest.tables import Manifest, Predictions
from ..eval.evaluation import Evaluation
from ..eval.localisation.boxes import MEASURES
from ..eval.localisation.dense import DenseMetrics, DrawnImage, against_maps, dense_metrics, frame
from ..eval.localisation.image_map import ImageMap
from ..eval.report.dense_section import Against, dense_section
from ..eval.report.section import Section
from .box_report import BoxedMaps, maps_of
from .explain import EXPLANATIONS, MAPS


def dense_report(
    predictions: Mapping[str, Path],
    tables: Mapping[str, Predictions],
    manifest: Manifest,
    evaluation: Evaluation,
    boxed: BoxedMaps,
) -> Section | None:
    """Return the section, where a model has drawn and the manifest has masks or boxes.

    Args:
        predictions: Model name to its table's file.
        tables: The same, read.
        manifest: The cases.
        evaluation: The split, and how intervals are made.
        boxed: All models' maps of findings that are drawn (`box_report.boxed_maps`).

    Returns:
        None where no model has drawn a finding that a reader has drawn.

    Raises:
        DataError: Boxes, a mask or a map cannot be read, or a mask has other proportions than its image.
    """
    target = regions_there(manifest)
    draws = [name for name, own in boxed.metrics.items() if own.method == "dense" and name in tables]
    if not target or not draws:
        return None
    found: dict[str, DenseMetrics] = {}
    against: dict[str, list[Against]] = {}
    for name in draws:
        table = tables[name].rows(evaluation.split)
        regions = regions_of(manifest, target, table.labels)
        images = _images(Path(predictions[name]).parent / EXPLANATIONS / MAPS, table, manifest, regions)
        if any(len(image.parts) for image in images):
            found[name] = dense_metrics(images, table.labels, evaluation, target)
            against[name] = _against(name, boxed, evaluation)
    return dense_section(found, against) if found else None


def _images(folder: Path, table: Predictions, manifest: Manifest, regions: Regions) -> list[DrawnImage]:
    """Return every label of every image of which a map is there and the truth is known."""
    patients = dict(zip(table.table["id"], table.table["patient"], strict=True))
    rows = {case: row for row, case in enumerate(manifest.table["id"]) if case in patients}
    cases = [case for case, row in rows.items() if regions.known[row].any()]
    images = []
    for case, own in maps_of(folder, cases).items():
        if own is None:
            continue
        for label in np.flatnonzero(regions.known[rows[case]]):
            if regions.labels[label] in own.labels:
                images.append(_image(own, regions, rows[case], int(label), patients[case]))
    return images


def _image(own: ImageMaps, regions: Regions, row: int, label: int, patient: str) -> DrawnImage:
    name = regions.labels[label]
    values = own.probabilities(name)
    if values is None:
        raise DataError(
            f"{own.id}: its maps are no probabilities, those of other cases are: maps of several models. Remove the "
            "folder of maps and predict anew."
        )
    found = ImageMap(values, own.extent_px, own.width_px, own.height_px)
    height, width = frame(found)
    parts, boxes = np.zeros((0, height, width), bool), np.zeros((0, 4))
    drawn, sides = regions.drawn.get((row, label)), np.tile([own.width_px, own.height_px], 2)
    if isinstance(drawn, Mask):
        # At its own size, so that no part is too small to be seen; then at that of the raster.
        boxes = boxes_around(drawn.at(own.height_px, own.width_px))
        whole = drawn.at(height, width)
        parts = np.array([_within(whole, box / sides) for box in boxes]).reshape(-1, height, width)
    elif drawn is not None:
        boxes = drawn * sides
        parts = np.array([boxes_drawn(box[None], height, width) for box in drawn])
    threshold = own.thresholds[own.labels.index(name)]
    return DrawnImage(own.id, patient, name, found, threshold, parts, boxes)


def _within(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the part of a mask within a box in shares; the box itself where the mask has become too coarse for it."""
    own = boxes_drawn(box[None], *mask.shape)
    return mask & own if (mask & own).any() else own


def _against(name: str, boxed: BoxedMaps, evaluation: Evaluation) -> list[Against]:
    """Return how a model's drawing compares with every map of the report that is none."""
    rows = []
    for other, metrics in boxed.metrics.items():
        if metrics.method == "dense":
            continue
        count, gains = against_maps(
            boxed.findings[name], boxed.metrics[name].each, boxed.findings[other], metrics.each, evaluation
        )
        if count:
            values = {measure: metrics.metrics[measure][-1].value for measure in MEASURES}
            rows.append(Against(other, metrics.method, count, values, gains))
    return rows
