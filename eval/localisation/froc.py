"""Lesion-level FROC as Camelyon16 defines it: sensitivity for lesions over false positives per slide.

Ehteshami Bejnordi et al. 2017 (JAMA 318:2199) and the challenge's own evaluation script. The order of things matters
and is kept: lesions grow by 37.5 µm before they are separated, isolated tumour cells are left out, a lesion that
nothing hit stays in the list with probability 0, the smallest probability is no threshold, and the curve ends in
(0, 0) and is read by linear interpolation.

A slide is reduced to its `SlideHits` at once, so that the masks of 129 slides need not lie in memory together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array

from ...core.errors import DataError
from ...core.files import written_aside
from ...datasets.manifest.tables import as_numbers, read_csv
from ..statistics.intervals import Estimate, PatientBootstrap, percentile
from ..statistics.scaled_intervals import LOGIT, on_scale

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false positives per slide at which the score averages
RATE_PATIENTS = 20  # with lesions, for an interval at one rate: with 10 it covered 91 % of the time
GROWTH_UM = 75.0 / 2  # the script divides its 75 µm by 2: the distance that a lesion grows by on each side
ISOLATED_UM = 275.0  # 200 µm and the 75 µm that the mask has grown by
NO_LESION = "no lesion in the reference"
_HEADERS = ({"probability", "x", "y"}, {"p", "x", "y"})  # the challenge's files have none; later ones do
_BLANK = 16  # bytes of a file that holds nothing but line ends
_BLOCK = 8_000_000  # numbers held at once per array while resampling


@dataclass(frozen=True)
class Lesions:
    """The reference of one slide.

    Attributes:
        labels: (h, w) int32, 0 outside, 1 to n inside the regions.
        isolated: (n,) bool, whether region i + 1 is isolated tumour cells (neither lesion nor false positive).
        downsample: Level-0 pixels per pixel of `labels`.
    """

    labels: np.ndarray
    isolated: np.ndarray
    downsample: float


@dataclass(frozen=True)
class SlideHits:
    """What the detections of one slide come to.

    Attributes:
        id, patient: Of the slide.
        false: (F,) probabilities of the detections outside of every region.
        found: (n,) highest probability that hit each lesion, 0 where none did; isolated tumour cells are not among
            them.
        isolated: Regions that are isolated tumour cells.
    """

    id: str
    patient: str
    false: np.ndarray
    found: np.ndarray
    isolated: int = 0


@dataclass(frozen=True)
class Froc:
    """The curve and its score.

    Attributes:
        fps_per_slide, sensitivity: (K,) points of the curve, from (0, 0) on; both rise.
        thresholds: (K,) falling; a detection counts at or above it. Infinite at (0, 0).
        score: Mean of the six sensitivities, with its interval by patient.
        sensitivities: At 1/4, 1/2, 1, 2, 4 and 8 false positives per slide.
        slides, lesions, isolated: How many there are.
    """

    fps_per_slide: np.ndarray
    sensitivity: np.ndarray
    thresholds: np.ndarray
    score: Estimate
    sensitivities: tuple[Estimate, ...] = field(repr=False)
    slides: int
    lesions: int
    isolated: int


def lesions(mask: np.ndarray, mpp_at_mask: float, downsample: float) -> Lesions:
    """Separate the lesions of a slide.

    Args:
        mask: (h, w) bool, the annotated tumour. Camelyon16 uses pyramid level 5.
        mpp_at_mask: Microns per pixel of the mask (Camelyon16: 0.243 x 32).
        downsample: Level-0 pixels per pixel of the mask (Camelyon16: 32).

    Returns:
        8-connected regions of the mask grown by less than 37.5 µm with their holes filled.
    """
    assert mask.ndim == 2 and mpp_at_mask > 0 and downsample > 0
    labels = np.zeros(mask.shape, dtype=np.int32)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return Lesions(labels, np.zeros(0, dtype=bool), downsample)
    # Only the part around the tumour: a distance for every pixel of a whole slide takes seconds.
    margin = int(GROWTH_UM / mpp_at_mask) + 2
    part = tuple(slice(max(0, at[0] - margin), at[-1] + margin + 1) for at in (rows, columns))
    grown = ndimage.distance_transform_edt(~mask[part].astype(bool)) < GROWTH_UM / mpp_at_mask
    filled = ndimage.binary_fill_holes(grown)
    labels[part], _ = ndimage.label(filled, structure=np.ones((3, 3)))
    return Lesions(labels, major_axes(labels[part]) * mpp_at_mask < ISOLATED_UM, downsample)


def major_axes(labels: np.ndarray) -> np.ndarray:
    """Return the (n,) lengths (px) of the major axes of regions 1 to n.

    That is, of the ellipse with the same second moments: 4 times the root of the larger eigenvalue of the covariance of
    the pixels' positions (scikit-image's `axis_major_length`).
    """
    y, x = np.nonzero(labels)
    region = labels[y, x] - 1
    sizes = np.bincount(region)
    mean = [np.bincount(region, at) / sizes for at in (y, x)]
    dy, dx = y - mean[0][region], x - mean[1][region]
    yy, xx, xy = (np.bincount(region, product) / sizes for product in (dy * dy, dx * dx, dx * dy))
    return 4 * np.sqrt((yy + xx) / 2 + np.sqrt(((yy - xx) / 2) ** 2 + xy**2))


def hits(
    detections: np.ndarray, reference: Lesions | None, size_px: tuple[int, int], slide: str, patient: str = ""
) -> SlideHits:
    """Hold the detections of one slide against its lesions.

    Args:
        detections: (M, 3) probability, x, y in level-0 px.
        reference: The slide's lesions; None on a slide without tumour, where every detection is false.
        size_px: Width and height of the slide at level 0.
        slide: Name of the slide.
        patient: Name of its patient; a slide without one is its own patient.

    Raises:
        DataError: A detection lies outside of the slide, or its probability is not in 0..1.
    """
    probability, x, y = np.asarray(detections, dtype=np.float64).reshape(-1, 3).T
    outside = ~((x >= 0) & (y >= 0) & (x < size_px[0]) & (y < size_px[1]))
    if outside.any():
        at = int(outside.argmax())
        raise DataError(
            f"{slide}: detection {at + 1} at ({x[at]:g}, {y[at]:g}) is outside of the slide of {size_px[0]} x "
            f"{size_px[1]} px. Give level-0 pixels, x before y."
        )
    wrong = ~((probability >= 0) & (probability <= 1))
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(f"{slide}: detection {at + 1} has probability {probability[at]:g}. Give one in 0..1.")
    if reference is None:
        return SlideHits(slide, patient or slide, probability, np.zeros(0))
    height, width = reference.labels.shape
    # A pyramid level is rounded down, so the last level-0 pixels may have none of their own there.
    row = np.minimum((y / reference.downsample).astype(int), height - 1)
    column = np.minimum((x / reference.downsample).astype(int), width - 1)
    label = reference.labels[row, column]
    best = np.zeros(len(reference.isolated) + 1)
    np.maximum.at(best, label, probability)
    kept = ~reference.isolated
    return SlideHits(slide, patient or slide, probability[label == 0], best[1:][kept], int((~kept).sum()))


def froc(slides: Sequence[SlideHits], resamples: int = 2000, seed: int = 0) -> Froc:
    """Compute the FROC curve over all slides, and its score with a bootstrap interval by patient.

    Args:
        slides: All slides that were evaluated, those without tumour and without detections too.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: A slide comes twice.
    """
    names = [slide.id for slide in slides]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"slide {min(twice)!r} comes twice among the detections. Keep one.")
    bootstrap = PatientBootstrap([slide.patient for slide in slides], resamples, seed)
    sweep, once = _Sweep(slides, bootstrap), np.ones((bootstrap.size, 1), dtype=np.int32)
    false, true = (curve[:, 0] for curve in sweep.curves(once))
    kept = sweep.kept(once)[0]
    count = sum(len(slide.found) for slide in slides)
    with_lesion = len({slide.patient for slide in slides if len(slide.found)})
    values, draws = np.full(len(RATES), np.nan), np.full((resamples, len(RATES)), np.nan)
    if count:
        values, draws = sweep.sensitivities(once)[0], sweep.draws()

    def estimate(value: float, sample: np.ndarray) -> Estimate:
        return on_scale(percentile(float(value), sample, NO_LESION, with_lesion), sample, with_lesion, LOGIT)

    def at_rate(value: float, sample: np.ndarray) -> Estimate:
        found = estimate(value, sample)
        few = f"no interval: lesions of {with_lesion} patients, fewer than {RATE_PATIENTS}, vary too much"
        return found if with_lesion >= RATE_PATIENTS or np.isnan(found.low) else Estimate(found.value, reason=few)

    return Froc(
        fps_per_slide=np.append(0, false[:kept]) / max(len(slides), 1),
        sensitivity=np.append(0, true[:kept]) / count if count else np.full(kept + 1, np.nan),
        thresholds=np.append(np.inf, sweep.thresholds[:kept]),
        score=estimate(values.mean(), draws.mean(axis=1)),
        sensitivities=tuple(at_rate(value, draws[:, i]) for i, value in enumerate(values)),
        slides=len(slides),
        lesions=count,
        isolated=sum(slide.isolated for slide in slides),
    )


def corners(curve: Froc) -> Froc:
    """Return the curve without the points inside its straight stretches, of which it may have a hundred thousand."""
    points = np.column_stack([curve.fps_per_slide * curve.slides, curve.sensitivity * curve.lesions])
    kept = np.ones(len(points), dtype=bool)
    if curve.lesions and len(points) > 2:
        steps = np.rint(np.diff(points, axis=0))  # counts, so that "straight" is exact
        kept[1:-1] = steps[:-1, 0] * steps[1:, 1] != steps[:-1, 1] * steps[1:, 0]
    return replace(
        curve,
        fps_per_slide=curve.fps_per_slide[kept],
        sensitivity=curve.sensitivity[kept],
        thresholds=curve.thresholds[kept],
    )


class _Sweep:
    """All slides' probabilities by falling threshold, as sparse counts (thresholds, patients).

    A resample is one matrix product with how often each patient is drawn.
    """

    def __init__(self, slides: Sequence[SlideHits], bootstrap: PatientBootstrap):
        self.bootstrap = bootstrap
        false, found, isolated = (
            [slide.false for slide in slides],
            [slide.found for slide in slides],
            [np.zeros(slide.isolated) for slide in slides],  # they stand in the script's list, as 0
        )
        parts = [np.concatenate([*part, np.zeros(0)]) for part in (false, found, isolated)]
        rising, place = np.unique(np.concatenate(parts), return_inverse=True)
        self.thresholds = rising[::-1]
        row = np.split(len(rising) - 1 - place, np.cumsum([len(part) for part in parts])[:-1])
        patient = [np.repeat(bootstrap.index, [len(own) for own in part]) for part in (false, found, isolated)]
        shape = (len(rising), bootstrap.size)
        self.false, self.found, isolated = (
            csr_array((np.ones(len(r), dtype=np.int32), (r, p)), shape=shape) for r, p in zip(row, patient)
        )
        self.any = self.false + self.found + isolated
        self.slides = np.bincount(bootstrap.index, minlength=bootstrap.size)
        self.lesions = np.bincount(bootstrap.index, [len(own) for own in found], bootstrap.size)

    def curves(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count false positives and found lesions at or above each threshold: (K, r) each for (P, r) patient counts."""
        return np.cumsum(self.false @ counts, axis=0), np.cumsum(self.found @ counts, axis=0)

    def kept(self, counts: np.ndarray) -> np.ndarray:
        """Return (r,) thresholds that are points of the curve: all above the smallest probability drawn."""
        if not len(self.thresholds):
            return np.zeros(counts.shape[1], dtype=int)
        drawn = (self.any @ counts) > 0
        return np.where(drawn.any(axis=0), len(drawn) - 1 - drawn[::-1].argmax(axis=0), 0)

    def sensitivities(self, counts: np.ndarray) -> np.ndarray:
        """Return the (r, 6) sensitivities at the rates; NaN where no lesion is drawn."""
        false, true = self.curves(counts)
        slides, lesion_counts = self.slides @ counts, self.lesions @ counts
        out = np.full((counts.shape[1], len(RATES)), np.nan)
        for i, kept in enumerate(self.kept(counts)):
            if lesion_counts[i]:
                x, y = np.append(0, false[:kept, i]), np.append(0, true[:kept, i])
                out[i] = np.interp(RATES, x / slides[i], y / lesion_counts[i])
        return out

    def draws(self) -> np.ndarray:
        """Return the (R, 6) sensitivities in each resample."""
        width = max(1, _BLOCK // max(len(self.thresholds), 1))
        blocks = (block[:, i : i + width] for block in self.bootstrap.counts() for i in range(0, block.shape[1], width))
        return np.concatenate([self.sensitivities(block) for block in blocks])


def write_detections(path: Path, detections: np.ndarray) -> None:
    """Write (M, 3) detections as the challenge wants them: rows `probability,x,y` in level-0 px, no header."""
    with written_aside(path) as aside:
        np.savetxt(aside, np.asarray(detections).reshape(-1, 3), fmt=["%.6g", "%d", "%d"], delimiter=",")


def read_detections(path: Path) -> np.ndarray:
    """Read the detections (M, 3) probability, x, y of one slide; a header that names the columns is accepted.

    Raises:
        DataError: Not three numbers in every row.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size <= _BLANK and not path.read_bytes().strip():
        return np.zeros((0, 3))
    table = read_csv(path, header=None)
    first = [str(cell).strip().lower() for cell in table.iloc[0]]
    if set(first) in _HEADERS:
        table = table.iloc[1:].set_axis(first, axis=1)
        table = table[["probability" if "probability" in first else "p", "x", "y"]]
    numbers = table.apply(as_numbers).to_numpy(dtype=np.float64)
    bad = np.isnan(numbers).any(axis=1)
    if numbers.shape[1] != 3 or bad.any():
        line = table.index[int(bad.argmax())] + 1 if len(bad) else 1
        raise DataError(f"{path}: line {line} is not three numbers. Write rows probability,x,y in level-0 pixels.")
    return numbers
