"""What a model draws, against what readers drew: overlap, free-response detection, average precision of boxes.

Every label of every image counts of which it is known where the finding is, or that it is nowhere. Intervals are by
patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation import Evaluation
from ..statistics.intervals import Estimate, estimates
from ..statistics.metrics import ratio
from .boxes import FRAME_PX, BoxedFinding, paired_gains
from .detections import Detected, Detections, detections, matched, precision_draws, precision_estimate
from .froc import Froc, SlideHits, froc
from .image_map import ImageMap

OVERLAPS = ("iou", "dice")
LEAST_IOUS = (0.3, 0.5)  # from which on the box of a detection is right


@dataclass(frozen=True, eq=False)
class DrawnImage:
    """One label in one image.

    Attributes:
        id, patient: Of the case.
        label: Of the finding.
        map: Its probabilities.
        threshold: From which on a pixel belongs to the finding.
        parts: (K, h, w) bool, where the finding is, part by part, at any size over the whole image; (0, h, w) where it
            is nowhere.
        boxes: (K, 4) left, top, right and bottom of these parts, in px of the image.
    """

    id: str
    patient: str
    label: str
    map: ImageMap
    threshold: float
    parts: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True, eq=False)
class DenseMetrics:
    """What the report shows of one model. Lists run over `labels` and, last, all together.

    Attributes:
        labels: Those with a finding that is drawn.
        findings, images, patients: Findings that are drawn, images whose truth is known, patients with a finding.
        overlap: `iou` and `dice` to their means over the findings.
        froc: Sensitivity over false positives per image; all together per image and label.
        precision: Least IoU to average precision; all together the mean over labels.
        target: What was drawn: `boxes` or `masks`.
        empty: Findings of which nothing was drawn at the threshold.
    """

    labels: tuple[str, ...]
    findings: list[int]
    images: list[int]
    patients: list[int]
    overlap: dict[str, list[Estimate]]
    froc: list[Froc]
    precision: dict[float, list[Estimate]]
    target: str
    empty: int


def frame(found: ImageMap) -> tuple[int, int]:
    """Return height and width of the raster on which what is drawn is held against the truth."""
    scale = FRAME_PX / min(found.width_px, found.height_px)
    return round(found.height_px * scale), round(found.width_px * scale)


def overlap(image: DrawnImage) -> tuple[float, float]:
    """Return IoU and Dice of what is drawn of a finding that is somewhere."""
    height, width = image.parts.shape[1:]
    drawn = np.nan_to_num(image.map.sampled(width, height)) >= image.threshold
    truth = image.parts.any(axis=0)
    shared, either = int((drawn & truth).sum()), int((drawn | truth).sum())
    return shared / either, 2 * shared / (either + shared)


def dense_metrics(
    images: Sequence[DrawnImage], labels: Sequence[str], evaluation: Evaluation, target: str
) -> DenseMetrics:
    """Compute all metrics of one model.

    Args:
        images: At least one with a finding.
        labels: All labels, in their order; those without a finding are left out.
        evaluation: How intervals are made.
        target: What the truth is, to be passed on.
    """
    somewhere = {image.label for image in images if len(image.parts)}
    labels = tuple(label for label in labels if label in somewhere)
    images = [image for image in images if image.label in somewhere]
    groups = [[image for image in images if image.label == label] for label in labels]
    found = [detections(image.map) for image in images]
    overlaps, empty = _overlaps(images, labels, evaluation)
    hits = {id(image): _hits(image, own) for image, own in zip(images, found, strict=True)}
    curves = [
        froc([hits[id(image)] for image in group], evaluation.resamples, evaluation.seed) for group in (*groups, images)
    ]
    return DenseMetrics(
        labels=labels,
        findings=[sum(len(image.parts) > 0 for image in group) for group in (*groups, images)],
        images=[len({image.id for image in group}) for group in (*groups, images)],
        patients=[len({image.patient for image in group if len(image.parts)}) for group in (*groups, images)],
        overlap=overlaps,
        froc=curves,
        precision={least: _precision(images, found, labels, evaluation, least) for least in LEAST_IOUS},
        target=target,
        empty=empty,
    )


def _overlaps(
    images: Sequence[DrawnImage], labels: Sequence[str], evaluation: Evaluation
) -> tuple[dict[str, list[Estimate]], int]:
    """Return mean IoU and Dice by label and over all findings, and how many are 0."""
    drawn = [image for image in images if len(image.parts)]
    among = np.array([[*(image.label == label for label in labels), True] for image in drawn])
    values = np.array([overlap(image) for image in drawn])
    bootstrap = evaluation.bootstrap([image.patient for image in drawn], among.astype(np.float64))
    few = [bootstrap.having(column) for column in among.T]
    every = among.astype(np.float64)
    weighted = {name: np.where(among, own[:, None], 0.0) for name, own in zip(OVERLAPS, values.T, strict=True)}
    draws = bootstrap.drawn(
        lambda weights: {name: ratio(weights.sums(own), weights.sums(every)) for name, own in weighted.items()}
    )
    out = {
        name: estimates(ratio(own.sum(axis=0), every.sum(axis=0)), draws[name], [""] * among.shape[1], few)
        for name, own in weighted.items()
    }
    return out, int((values[:, 0] == 0).sum())


def _hits(image: DrawnImage, found: Detections) -> SlideHits:
    """Return which parts of a finding its detections hit: those in which their maxima lie."""
    height, width = image.parts.shape[1:]
    rows = np.clip((found.peaks[:, 1] / image.map.height_px * height).astype(int), 0, height - 1)
    columns = np.clip((found.peaks[:, 0] / image.map.width_px * width).astype(int), 0, width - 1)
    inside = image.parts[:, rows, columns]  # (K, D)
    best = np.where(inside, found.scores, 0.0).max(axis=1, initial=0.0)
    return SlideHits(f"{image.label}|{image.id}", image.patient, found.scores[~inside.any(axis=0)], best)


def _precision(
    images: Sequence[DrawnImage],
    found: Sequence[Detections],
    labels: Sequence[str],
    evaluation: Evaluation,
    least_iou: float,
) -> list[Estimate]:
    """Return average precision by label, and the mean over them; all resample the same patients."""
    patients = [image.patient for image in images]
    bootstrap = evaluation.bootstrap(patients, np.zeros((len(images), 0)))
    right = [matched(own.boxes, image.boxes, least_iou) for image, own in zip(images, found, strict=True)]
    values, draws, sizes = [], [], []
    for label in labels:
        own = [
            Detected(image.patient, each.scores, flags, len(image.boxes))
            if image.label == label
            else Detected(image.patient, np.zeros(0), np.zeros(0, bool), 0)
            for image, each, flags in zip(images, found, right, strict=True)
        ]
        value, draw = precision_draws(own, bootstrap)
        values.append(value)
        draws.append(draw)
        sizes.append(len({each.patient for each in own if each.truths}))
    each = [precision_estimate([value], draw[:, None], size) for value, draw, size in zip(values, draws, sizes)]
    return [*each, precision_estimate(values, np.column_stack(draws), min(sizes))]


def against_maps(
    drawn: Sequence[BoxedFinding], own: np.ndarray, maps: Sequence[BoxedFinding], theirs: np.ndarray,
    evaluation: Evaluation,
) -> tuple[int, dict[str, Estimate]]:  # fmt: skip
    """Return the differences of what is drawn to another model's maps, paired by finding, over those that both have.

    Args:
        drawn: N findings with what a model drew.
        own: (N, 3) measures of these (`boxes.measures`).
        maps: M findings with maps.
        theirs: (M, 3) the same of these.
        evaluation: How intervals are made.

    Returns:
        How many findings, and by measure the difference.
    """
    rows = {(each.id, each.label): row for row, each in enumerate(maps)}
    pairs = [(row, rows[each.id, each.label]) for row, each in enumerate(drawn) if (each.id, each.label) in rows]
    if not pairs:
        return 0, {}
    first, second = (np.array(side) for side in zip(*pairs))
    every = np.ones((len(pairs), 1), bool)
    bootstrap = evaluation.bootstrap([drawn[row].patient for row in first], every.astype(np.float64))
    gains = paired_gains(own[first] - theirs[second], every, bootstrap)
    return len(pairs), {name: found[0] for name, found in gains.items()}
