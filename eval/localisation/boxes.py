"""Whether a model of images looked at the finding: its maps against boxes that readers drew.

Only findings with a box count: one box or several of one label in one image. Each metric stands beside what maps get
that know nothing about the image: a uniform one, one that points at the image's middle, and one of where the boxes of
the other patients lie (`position_prior`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from ..evaluation import Evaluation
from ..statistics.intervals import Estimate, estimates, proportions
from ..statistics.metrics import ratio
from ..statistics.resampling import PatientBootstrap, Reweighted
from ..statistics.reservations import FEW
from ..statistics.small_samples import exact
from .image_map import ImageMap, box_cover
from .position_prior import PositionPriors, box_iou, region

FRAME_PX = 224  # shorter side of the raster on which maps are measured
OVERLAPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # T(IoU) of Wang et al. 2017, section 4.2
MEASURES = ("pointing_game", "energy", "iou")
BASELINES = ("uniform", "centre", "prior")
# Fewest patients for an interval against the usual place: with 12 it covered 88 % of the time, with 38 97 %.
PRIOR_PATIENTS = 30
GAIN_PATIENTS = 20  # fewest for the interval of a gain: with 10 it covered 88 % of the time
_SAME = 1e-12  # by which gains may differ that are equal


@dataclass(frozen=True, eq=False)
class BoxedFinding:
    """One finding in one image.

    Attributes:
        id, patient: Of the case.
        label: Of the finding.
        map: Where the model looked for it.
        boxes: (K, 4) left, top, right and bottom in px of the image.
    """

    id: str
    patient: str
    label: str
    map: ImageMap
    boxes: np.ndarray


@dataclass(frozen=True, eq=False)
class BoxMetrics:
    """What the report shows of one model. Lists run over `labels` and, last, all findings together.

    Attributes:
        labels: Those with a box, in the order given.
        findings, patients: How many.
        metrics: By name: those of `MEASURES`, and `iou_at_0.1` ... `iou_at_0.7`, the share of findings whose IoU is so
            large or larger.
        baseline: Baseline to name to the same metric of a map that knows nothing, (L + 1,).
        gain: Baseline to measure to the model's metric minus the baseline's, paired by finding.
        each: (N, 3) the measures of every finding, in the order of `MEASURES`.
        method: How the maps were made.
        without_map: Findings with a box that have no map; they are left out.
        empty: Findings whose map is 0 everywhere; they count as missed.
    """

    labels: tuple[str, ...]
    findings: list[int]
    patients: list[int]
    metrics: dict[str, list[Estimate]]
    baseline: dict[str, dict[str, np.ndarray]]
    gain: dict[str, dict[str, list[Estimate]]]
    each: np.ndarray
    method: str
    without_map: int
    empty: int


def measures(found: ImageMap, boxes: np.ndarray, tolerance_px: float = 0) -> tuple[float, float, float]:
    """Compute pointing game, energy and IoU of one map against the boxes of its finding.

    Args:
        found: The map. One that is 0 everywhere points nowhere: all three are 0.
        boxes: (K, 4) left, top, right and bottom in px of the image.
        tolerance_px: How far from a box the maximum may lie, in px of an image whose shorter side is 224 px; Zhang et
            al. allow 15.

    Returns:
        pointing game (Zhang et al. 2018, section 4.2): 1 if the map's maximum lies in a box; of maxima that tie, the
        share that does.
        energy (Wang et al. 2020, Score-CAM, section 4.3): share of the map's sum that lies in the boxes.
        IoU: of the box around the region of the maximum, which is connected and at least half as high, with the
        box of the finding that it overlaps most.
    """
    if not len(found.peaks()):
        return 0.0, 0.0, 0.0
    scale = FRAME_PX / min(found.width_px, found.height_px)
    pointing = _pointing(found, boxes, tolerance_px / scale)
    raster = found.sampled(round(found.width_px * scale), round(found.height_px * scale))
    raster, boxes = np.nan_to_num(raster), boxes * scale
    inside = np.maximum.reduce([box_cover(raster.shape, box) for box in boxes])
    total = raster.sum()
    energy = float((raster * inside).sum() / total) if total > 0 else 0.0
    edges = region(raster)
    return pointing, energy, float(max(box_iou(edges, box) for box in boxes))


def _pointing(found: ImageMap, boxes: np.ndarray, tolerance_px: float = 0) -> float:
    """Return the share of a map's maxima that lie in a box or at most so many px of the image away from one."""
    peaks = found.peaks()
    away = np.maximum(0, np.maximum(boxes[:, None, :2] - peaks, peaks - boxes[:, None, 2:]))
    return float((np.hypot(away[..., 0], away[..., 1]) <= tolerance_px).any(axis=0).mean())


def box_metrics(
    findings: Sequence[BoxedFinding],
    labels: Sequence[str],
    evaluation: Evaluation,
    *,
    method: str = "",
    without_map: int = 0,
) -> BoxMetrics:
    """Compute all metrics of one model, with intervals by patient.

    Args:
        findings: At least one.
        labels: All labels, in their order; those without a finding are left out.
        evaluation: How intervals are made.
        method: How the maps were made, to be passed on.
        without_map: Findings with a box that have no map, to be passed on.
    """
    labels = tuple(label for label in labels if any(each.label == label for each in findings))
    own = np.array([[each.label == label for label in labels] for each in findings])
    patients = [each.patient for each in findings]
    bootstrap = evaluation.bootstrap(patients, own.astype(np.float64))
    among = np.column_stack([own, np.ones(len(findings), dtype=bool)])
    model = np.array([measures(each.map, each.boxes) for each in findings])
    priors = PositionPriors(findings)
    ignorant = {
        "uniform": np.array([measures(each.map.uniform(), each.boxes) for each in findings]),
        "centre": np.array([measures(each.map.central(), each.boxes) for each in findings]),
        "prior": priors.measures(),
    }
    return BoxMetrics(
        labels=labels,
        findings=among.sum(axis=0).tolist(),
        patients=[bootstrap.having(column) for column in among.T],
        metrics=_estimates(model, among, bootstrap) | _shares_hit(model, among, bootstrap),
        baseline={name: _means(values, among) for name, values in ignorant.items()},
        gain={name: paired_gains(model - ignorant[name], among, bootstrap) for name in ("uniform", "centre")}
        | {"prior": _prior_gains(model, priors, among, bootstrap, evaluation)},
        each=model,
        method=method,
        without_map=without_map,
        empty=sum(not len(each.map.peaks()) for each in findings),
    )


def _estimates(values: np.ndarray, among: np.ndarray, bootstrap: PatientBootstrap) -> dict[str, list[Estimate]]:
    """Compute the means of (N, 3) values over the findings of each column of (N, L + 1) `among`, by measure."""
    few = [bootstrap.having(column) for column in among.T]
    weighted = {name: np.where(among, values[:, [place]], 0.0) for place, name in enumerate(MEASURES)}
    drawn = bootstrap.drawn(lambda weights: {name: _shares(weights, own, among) for name, own in weighted.items()})
    return {
        name: estimates(ratio(own.sum(axis=0), among.sum(axis=0)), drawn[name], [""] * among.shape[1], few)
        for name, own in weighted.items()
    }


def paired_gains(values: np.ndarray, among: np.ndarray, bootstrap: PatientBootstrap) -> dict[str, list[Estimate]]:
    """Compute `_estimates` of paired differences; those that are the same in every finding get an interval too.

    Others have none with fewer than `GAIN_PATIENTS`.
    """
    found = _estimates(values, among, bootstrap)
    for column, counted in enumerate(among.T):
        patients = bootstrap.having(counted)
        for place, name in enumerate(MEASURES):
            if patients >= FEW and np.ptp(values[counted, place]) < _SAME:
                found[name][column] = _unvaried(float(values[counted, place].mean()), patients)
            elif FEW <= patients < GAIN_PATIENTS:
                few = f"no interval: findings of {patients} patients, fewer than {GAIN_PATIENTS}, vary too much"
                found[name][column] = Estimate(found[name][column].value, reason=few)
    return found


def _prior_gains(
    values: np.ndarray, priors: PositionPriors, among: np.ndarray, bootstrap: PatientBootstrap, evaluation: Evaluation
) -> dict[str, list[Estimate]]:
    """Compute the paired differences of (N, 3) values to the priors, with intervals that hold for other boxes too.

    The priors of a resample are made of fewer different patients and are worse on average, so resamples give the
    standard error only; the interval is that of a t distribution around the difference.
    """
    known, draws = paired_gains(values - priors.measures(), among, bootstrap), []
    for weights, own in priors.resampled(evaluation.resamples, evaluation.seed):
        weighted = among * weights[:, None]
        differences = np.nan_to_num(values - own)  # NaN has a weight of 0
        draws.append(ratio(weighted.T @ differences, weighted.sum(axis=0)[:, None]))
    errors = np.nanstd(draws, axis=0, ddof=1)
    for column, counted in enumerate(among.T):
        patients = bootstrap.having(counted)
        for place, name in enumerate(MEASURES):
            error = errors[column, place]
            value = known[name][column].value
            if FEW <= patients < PRIOR_PATIENTS:
                few = f"no interval: boxes of {patients} patients, fewer than {PRIOR_PATIENTS}, vary too much"
                known[name][column] = Estimate(value, reason=few)
            elif patients >= FEW and error > _SAME:
                half = float(student.ppf(0.975, patients - 1) * error * np.sqrt(patients / (patients - 1)))
                ends = max(-1.0, value - half), min(1.0, value + half)
                known[name][column] = Estimate(value, *ends, method="bootstrap, t")
    return known


def _unvaried(value: float, patients: int) -> Estimate:
    """Return the interval of a difference in -1..1 that no patient varies, so that no resample does.

    Of further patients a share may differ from these, at most what the exact interval of all of `patients` leaves, and
    theirs may be as low as -1 or as high as 1.
    """
    alike = exact(patients, patients)[0]
    low, high = alike * value - (1 - alike), alike * value + (1 - alike)
    return Estimate(value, low, high, method="exact, patients for cases")


def _shares(weights: Reweighted, values: np.ndarray, among: np.ndarray) -> np.ndarray:
    return ratio(weights.sums(values), weights.sums(among.astype(np.float64)))


def _shares_hit(values: np.ndarray, among: np.ndarray, bootstrap: PatientBootstrap) -> dict[str, list[Estimate]]:
    """Return the metrics that are shares of findings, whose intervals are wide enough where all or none are hit."""
    reasons = [""] * among.shape[1]
    hits = {"pointing_game": values[:, 0]} | {f"iou_at_{least:g}": values[:, 2] >= least for least in OVERLAPS}
    return {
        name: proportions(np.where(among, column[:, None], np.nan), bootstrap, reasons) for name, column in hits.items()
    }


def _means(values: np.ndarray, among: np.ndarray) -> dict[str, np.ndarray]:
    hits = {f"iou_at_{least:g}": values[:, 2] >= least for least in OVERLAPS}
    columns = {name: values[:, place] for place, name in enumerate(MEASURES)} | hits
    return {name: ratio((among * column[:, None]).sum(axis=0), among.sum(axis=0)) for name, column in columns.items()}
