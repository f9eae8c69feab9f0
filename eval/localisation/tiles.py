"""Where the model sees it: tiles to detections, tile-level AUROC and Dice, and all of it for the report.

Truth of a tile is 1, 0, or NaN where the tile lies on a border or in an area that nobody annotated; NaN tiles count in
no metric. Each patient's slides are drawn together in the intervals, since the tiles of one slide resemble each other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.errors import DataError
from ..evaluation import STANDARD, Evaluation
from ..statistics.intervals import Estimate, PatientBootstrap, percentile
from ..statistics.metrics import auroc, ratio, reasons
from ..statistics.operating_points import OperatingPoint
from ..statistics.scaled_intervals import LOGIT, on_scale
from .froc import Froc, SlideHits, froc

NO_TUMOUR = "no tumour tile"
POOLED_PATIENTS = 20  # for an interval of all tiles together: with 10 it covered 91 % of the time
DETECTION_RADIUS_UM = 200.0


@dataclass(frozen=True)
class TileSlide:
    """One slide's tiles.

    Attributes:
        id, patient: Of the slide.
        scores: (N,) in 0..1.
        truth: (N,) 1, 0, or NaN (unknown).
    """

    id: str
    patient: str
    scores: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class SlideMetrics:
    """One slide's line in the report.

    Attributes:
        id: Of the slide.
        tiles, tumour_tiles: With known truth.
        auroc, dice: Of these; NaN with a reason where undefined.
        lesions, lesions_hit: All, and those that a detection hit.
        false_positives: Detections outside of any lesion.
    """

    id: str
    tiles: int
    tumour_tiles: int
    auroc: Estimate
    dice: Estimate
    lesions: int
    lesions_hit: int
    false_positives: int


@dataclass(frozen=True)
class Localisation:
    """What the report shows of one model.

    Attributes:
        froc: Curve and score.
        metrics: By name. `tile_auroc` and `dice` are over all tiles, slides without tumour included; the means are
            over the slides in which the metric is defined.
        point: The threshold behind Dice.
        slides: One by one.
    """

    froc: Froc
    metrics: dict[str, Estimate]
    point: OperatingPoint
    slides: tuple[SlideMetrics, ...]


def tile_truth(tumour_fraction: np.ndarray, least: float = 0.5) -> np.ndarray:
    """Return the truth of tiles (N,) from their share of tumour: 1 from `least` on, 0 without any, NaN between."""
    fraction = np.asarray(tumour_fraction, dtype=np.float64)
    return np.where(fraction >= least, 1.0, np.where(fraction == 0, 0.0, np.nan))


def detections_from_tiles(
    coords: np.ndarray,
    scores: np.ndarray,
    tile_level0_px: int,
    size_px: tuple[int, int],
    radius_px: float,
    least: float = 0.05,
) -> np.ndarray:
    """Return one detection for each local maximum of the tile scores.

    The highest tile is taken, all tiles within `radius_px` of it are dropped, and so on. FROC charges every
    detection outside of a lesion, but counts a lesion once however often it is hit: a large lesion may have several
    maxima, while a cluster of false tiles should not cost more than one. (Connected groups above a threshold give one
    point for each group, which for a bent group may lie outside of it, and the threshold is one more thing to choose.)

    Args:
        coords: (N, 2) top left corners x, y in level-0 px.
        scores: (N,) in 0..1.
        tile_level0_px: Side of a tile.
        size_px: Width and height of the slide; the centre of a tile that sticks out is moved inside.
        radius_px: In level-0 px; 200 µm (`DETECTION_RADIUS_UM`) is a good start, never less than a tile.
        least: Tiles below this score are never detections. FROC needs the low ones too: its right end is at 8 false
            positives per slide.

    Returns:
        (M, 3) probability, x, y (centre of the tile), by falling probability.

    Raises:
        DataError: Numbers of coordinates and scores differ, or a score is not in 0..1.
    """
    from scipy.spatial import cKDTree

    coords, scores = checked_tiles(coords, scores)
    kept = np.flatnonzero(scores >= least)
    order = kept[np.lexsort((coords[kept, 0], coords[kept, 1], -scores[kept]))]
    centres = np.minimum(coords[order] + tile_level0_px / 2, np.asarray(size_px) - 1).astype(np.float64)
    if not len(order):
        return np.zeros((0, 3))
    tree, alive, peaks = cKDTree(centres), np.ones(len(order), dtype=bool), []
    for i in range(len(order)):
        if alive[i]:
            peaks.append(i)
            alive[tree.query_ball_point(centres[i], radius_px)] = False
    return np.column_stack([scores[order][peaks], np.floor(centres[peaks])])


def checked_tiles(coords: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return tiles and scores as (N, 2) and (N,) float64.

    Raises:
        DataError: Their numbers differ, or a score is not in 0..1.
    """
    coords, scores = np.asarray(coords).reshape(-1, 2), np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(coords) != len(scores):
        raise DataError(f"{len(coords)} tiles, but {len(scores)} scores. Score the tiles of this very feature file.")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise DataError("a tile score is not in 0..1. Give probabilities, or scale the scores first.")
    return coords, scores


def tile_auroc(slides: Sequence[TileSlide], resamples: int = 2000, seed: int = 0) -> dict[str, Estimate]:
    """Compute how well tumour tiles are scored above the others.

    Returns:
        `tile_auroc` over the tiles of all slides together, and `tile_auroc_mean`, the mean over the slides that have
        both kinds of tiles.
    """
    bootstrap = PatientBootstrap([slide.patient for slide in slides for _ in slide.scores], resamples, seed)
    truth = _joined(slide.truth for slide in slides)[:, None]
    scores = _joined(slide.scores for slide in slides)[:, None]
    value, why = float(auroc(truth, scores)[0]), reasons(truth)[0].replace("case", "tile")
    draws = np.full(resamples, np.nan) if why else bootstrap.ranks(truth, scores)["auroc"][:, 0]
    few = int(bootstrap.smaller_class(truth)[0])
    pooled = on_scale(percentile(value, draws, why, few), draws, few, LOGIT)
    if few < POOLED_PATIENTS and not np.isnan(pooled.low):
        words = f"no interval: tiles of {few} patients, fewer than {POOLED_PATIENTS}, vary too much"
        pooled = Estimate(value, reason=words)
    own = np.array([slide_auroc(slide).value for slide in slides])
    return {"tile_auroc": pooled, "tile_auroc_mean": _mean(own, slides, resamples, seed, "no slide has both")}


def slide_auroc(slide: TileSlide) -> Estimate:
    """Compute the AUROC of one slide's tiles, without an interval (its tiles are not independent)."""
    truth = slide.truth[:, None]
    why = reasons(truth)[0].replace("case", "tile").replace("positive", "tumour").replace("negative", "normal")
    return Estimate(float(auroc(truth, slide.scores[:, None])[0]), reason=why)


def dice(scores: np.ndarray, truth: np.ndarray, threshold: float) -> Estimate:
    """Compute the Dice coefficient of the tiles at or above the threshold and the tumour tiles of one slide.

    Undefined without a tumour tile: then it would be 0 or 1 by a single false tile.
    """
    known = ~np.isnan(truth)
    if not (truth == 1).any():
        return Estimate(float("nan"), reason=NO_TUMOUR)
    if np.isnan(threshold):
        return Estimate(float("nan"), reason="no threshold")
    predicted = scores[known] >= threshold
    return Estimate(float(2 * (predicted & (truth[known] == 1)).sum() / (predicted.sum() + (truth == 1).sum())))


def choose_dice_threshold(slides: Sequence[TileSlide], chosen_on: str = "val") -> OperatingPoint:
    """Choose the threshold with the largest Dice over all tiles of the validation slides, tumour or not.

    It lies halfway to the next lower score, as thresholds do here (see `operating_points`).
    """
    truth, scores = _joined(slide.truth for slide in slides), _joined(slide.scores for slide in slides)
    known = ~np.isnan(truth)
    truth, scores = truth[known] == 1, scores[known]
    if not truth.any():
        return OperatingPoint(float("nan"), "dice", chosen_on, f"{NO_TUMOUR} in {chosen_on}")
    order = np.argsort(-scores, kind="stable")
    found, falling = np.cumsum(truth[order]), scores[order]
    last = np.append(falling[1:] != falling[:-1], True)  # of equal scores, all are predicted positive or none
    values = (2 * found / (np.arange(1, len(order) + 1) + truth.sum()))[last]
    steps = np.append(falling[last], 0.0)
    best = int(values.argmax())
    return OperatingPoint(float((steps[best] + steps[best + 1]) / 2), "dice", chosen_on)


def dice_metrics(
    slides: Sequence[TileSlide], point: OperatingPoint, resamples: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Compute `dice` over all tiles together and `dice_mean` over the slides with tumour, with intervals."""
    own = np.array([dice(slide.scores, slide.truth, point.threshold).value for slide in slides])
    mean = _mean(own, slides, resamples, seed, point.reason or "no slide with a tumour tile")
    if point.reason:
        return {"dice": Estimate(float("nan"), reason=point.reason), "dice_mean": mean}
    parts = np.array([_overlap(slide, point.threshold) for slide in slides]).reshape(-1, 2)
    if not any((slide.truth == 1).any() for slide in slides):
        return {"dice": Estimate(float("nan"), reason=NO_TUMOUR), "dice_mean": mean}
    draws = PatientBootstrap([slide.patient for slide in slides], resamples, seed).sums(parts)
    few = len({slide.patient for slide in slides if (slide.truth == 1).any()})
    shares = ratio(draws[:, 0], draws[:, 1])
    pooled = on_scale(percentile(float(ratio(*parts.sum(axis=0))), shares, few=few), shares, few, LOGIT)
    return {"dice": pooled, "dice_mean": mean}


def localisation(
    slides: Sequence[TileSlide],
    hits: Sequence[SlideHits],
    point: OperatingPoint,
    evaluation: Evaluation = STANDARD,
) -> Localisation:
    """Compute all metrics of one model on the evaluated slides.

    Args:
        slides: Their tiles.
        hits: What their detections come to (`froc.hits`), in the same order.
        point: From `choose_dice_threshold` on validation slides.
        evaluation: Resamples and seed of the bootstrap by patient; intervals are percentiles.

    Raises:
        DataError: Tiles and detections are not of the same slides.
    """
    if [slide.id for slide in slides] != [slide.id for slide in hits]:
        raise DataError(
            "tiles and detections are not of the same slides in the same order. Give one of each per slide."
        )
    resamples, seed = evaluation.resamples, evaluation.seed
    metrics = tile_auroc(slides, resamples, seed) | dice_metrics(slides, point, resamples, seed)
    lines = tuple(
        SlideMetrics(
            id=slide.id,
            tiles=int((~np.isnan(slide.truth)).sum()),
            tumour_tiles=int((slide.truth == 1).sum()),
            auroc=slide_auroc(slide),
            dice=dice(slide.scores, slide.truth, point.threshold),
            lesions=len(own.found),
            lesions_hit=int((own.found > 0).sum()),
            false_positives=len(own.false),
        )
        for slide, own in zip(slides, hits)
    )
    return Localisation(froc(hits, resamples, seed), metrics, point, lines)


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts]).astype(np.float64)


def _overlap(slide: TileSlide, threshold: float) -> tuple[float, float]:
    """Return twice the tiles in both, and the tiles in one plus those in the other."""
    predicted, tumour = (slide.scores >= threshold) & ~np.isnan(slide.truth), slide.truth == 1
    return 2 * float((predicted & tumour).sum()), float(predicted.sum() + tumour.sum())


def _mean(values: np.ndarray, slides: Sequence[TileSlide], resamples: int, seed: int, reason: str) -> Estimate:
    """Compute the mean over the slides whose value is defined, with the bootstrap by patient."""
    defined = ~np.isnan(values)
    if not defined.any():
        return Estimate(float("nan"), reason=reason)
    bootstrap = PatientBootstrap([slide.patient for slide in slides], resamples, seed)
    sums = bootstrap.sums(np.column_stack([values, defined]))
    few = len(np.unique(bootstrap.index[defined]))
    draws = ratio(sums[:, 0], sums[:, 1])
    return on_scale(percentile(float(values[defined].mean()), draws, few=few), draws, few, LOGIT)
