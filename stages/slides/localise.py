"""Heat maps held against outlines: Camelyon16's FROC, tile AUROC, Dice."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ...datasets.manifest.tables import Manifest
from ...datasets.slides.shared_work import slide_file
from ...eval.evaluation import STANDARD, Evaluation
from ...eval.localisation.froc import SlideHits, hits, lesions, read_detections
from ...eval.localisation.tiles import Localisation, TileSlide, choose_dice_threshold, localisation, tile_truth
from ...eval.statistics.operating_points import OperatingPoint
from .maps import DETECTIONS, SCORES

# Camelyon16 evaluates at level 5.
MASK_DOWNSAMPLE = 32


def localised(maps: Path, manifest: Manifest, label: str, evaluation: Evaluation = STANDARD) -> Localisation | None:
    """Return the localisation metrics of a split; None where no slide of it has both a map and a known truth.

    None too where the manifest has no outline at all: slides without the label alone show nothing of where it is.

    A slide without tumour is truth as it stands; one with tumour needs outlines. Where only part of the tumour is
    outlined (`outlined` = part), tiles outside of the outlines are unknown and detections there are not counted.

    Args:
        maps: Folder that `predict --explain` wrote.
        manifest: With the columns `label` and `annotation`.
        label: Whose tumour is outlined.
        evaluation: Split to evaluate, resamples and seed; the threshold for Dice comes from val.
    """
    if not any(annotation_of(row, manifest) for row in manifest.table.to_dict("records")):
        return None
    found = list(_slides(maps, manifest.rows(evaluation.split), label))
    if not found:
        return None
    point = dice_point(maps, manifest, label)
    tiles, detected = zip(*found)
    return localisation(tiles, detected, point, evaluation)


def dice_point(maps: Path, manifest: Manifest, label: str) -> OperatingPoint:
    """Return the threshold for Dice, chosen on the validation slides."""
    return choose_dice_threshold([tiles for tiles, _ in _slides(maps, manifest.rows("val"), label)])


def tile_truth_of(row: Mapping, manifest: Manifest, label: str, grid) -> np.ndarray | None:
    """Return (N,) 1, 0 or NaN of the tiles of a slide; None where nothing is known about them."""
    from ...datasets.slides.annotations import read_annotation
    from ...datasets.slides.outlines import tumour_fraction

    if row[label] == 0:
        return np.zeros(len(grid.coords))
    annotation = annotation_of(row, manifest)
    if row[label] != 1 or annotation is None:
        return None
    truth = tile_truth(tumour_fraction(grid.coords, grid.tile_level0_px, read_annotation(annotation, label)))
    if partly_outlined(row):
        truth[truth == 0] = math.nan
    return truth


def annotation_of(row: Mapping, manifest: Manifest) -> Path | None:
    """Return the outlines of a slide, if the manifest names some."""
    named = str(row.get("annotation", "")).strip()
    return manifest.path.parent / named if named else None


def partly_outlined(row: Mapping) -> bool:
    """Return whether there is tumour outside of the outlines."""
    return row.get("outlined", "") == "part"


def _slides(maps: Path, manifest: Manifest, label: str) -> Iterator[tuple[TileSlide, SlideHits]]:
    from ...datasets.loading.isolation import read_alone
    from ...datasets.slides.annotations import read_annotation
    from ...datasets.slides.hdf5 import read_scores
    from ...datasets.slides.outlines import rasterise

    for row in manifest.table.to_dict("records"):
        path = slide_file(maps / SCORES, row["id"])
        if not path.is_file():
            continue
        scores, grid = read_alone(read_scores, path)
        truth = tile_truth_of(row, manifest, label, grid)
        if truth is None:
            continue
        reference = None
        size_px = grid.width_px, grid.height_px
        if row[label] == 1:
            outlines = read_annotation(annotation_of(row, manifest), label)
            mask = rasterise(outlines, *size_px, MASK_DOWNSAMPLE)
            reference = lesions(mask, grid.mpp * MASK_DOWNSAMPLE, MASK_DOWNSAMPLE)
        detections = read_detections(slide_file(maps / DETECTIONS, row["id"], ".csv"))
        found = hits(detections, reference, size_px, row["id"], row["patient"])
        if partly_outlined(row):
            found = SlideHits(found.id, found.patient, np.zeros(0), found.found, found.isolated)
        yield TileSlide(row["id"], row["patient"], scores, truth), found
