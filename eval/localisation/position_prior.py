"""Where the boxes of the other patients lie: a map that knows of findings, but nothing of the image at hand.

Findings have their usual places: pneumonia in a lung, never in the middle of the image. A map that always shows the
usual place is right often without looking, so a map of a model has to be better than this one.

The prior is made of the same patients as it is judged by, the own left out, so that it varies from cohort to cohort
more than its hits do. Intervals of differences to it therefore make it anew in every resample of patients: those of
the hits alone cover 65 to 83 % where they should 95 %.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from scipy import ndimage

from ..statistics.reservations import FEW
from .image_map import ImageMap, box_cover

GRID = 32  # cells along each side, whatever the grids of the models' maps: one prior for all of them
REGION_SHARE = 0.5  # of a map's maximum, from which on a pixel belongs to the region; fixed, chosen on no box
_ROUNDING = 1e-6
_MOST, _LEAST, _WORK = 100, 50, 30_000  # resamples, and findings of all resamples, in which the prior is made anew


class Boxed(Protocol):
    """A finding with its boxes; see `boxes.BoxedFinding`."""

    @property
    def patient(self) -> str:
        """Return whose it is."""

    @property
    def label(self) -> str:
        """Return what it is."""

    @property
    def map(self) -> ImageMap:
        """Return a map, for the size of the image."""

    @property
    def boxes(self) -> np.ndarray:
        """Return (K, 4) left, top, right and bottom in px of the image."""


class PositionPrior(NamedTuple):
    """The prior for one finding, (GRID, GRID) over the whole image.

    Attributes:
        cover: Share of the other patients whose boxes cover each cell.
        peak: The same, where cells tie that differ by less than one patient from the highest. Without this a place
            that was the usual one is not any more as soon as its own patient is left out, and the prior looks worse
            than it is: of findings that lie half left, half right it would always point at the wrong side.
    """

    cover: np.ndarray
    peak: np.ndarray


class PositionPriors:
    """The priors of findings, each made of the boxes of all patients but its own.

    Positions count in shares of the image's sides, and every patient counts once. Boxes of the same label are taken
    where ten other patients or more have one, else those of all labels; without any other patient the map is uniform.
    """

    def __init__(self, findings: Sequence[Boxed]):
        """Lay the boxes of N findings on the grid."""
        self.boxes = [each.boxes / np.tile([each.map.width_px, each.map.height_px], 2) * GRID for each in findings]
        self.covers = np.array([np.maximum.reduce([box_cover((GRID, GRID), b) for b in own]) for own in self.boxes])
        self.middles = np.array([_middles_in(own) for own in self.boxes])
        names, self.patient = np.unique([each.patient for each in findings], return_inverse=True)
        self.patients = len(names)
        self.groups = self._groups(np.array([each.label for each in findings]))

    def _groups(self, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return pairs of the findings (rows) and those whose boxes their priors are made of."""
        everything, alone, together = np.arange(len(labels)), [], []
        for label in dict.fromkeys(labels):
            rows = np.flatnonzero(labels == label)
            own = len(np.unique(self.patient[rows])) > FEW
            alone += [(rows, rows)] if own else []
            together += [] if own else [rows]
        return alone + ([(np.sort(np.concatenate(together)), everything)] if together else [])

    def maps(self, weights: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, PositionPrior]]:
        """Yield rows of findings with their prior, patient by patient.

        Args:
            weights: (P,) how often each patient counts; once without. Patients with 0 get no prior.
        """
        weights = np.ones(self.patients) if weights is None else weights
        for rows, made_of in self.groups:
            by_patient, counts = np.zeros((self.patients, GRID, GRID)), np.zeros(self.patients)
            np.add.at(by_patient, self.patient[made_of], self.covers[made_of])
            np.add.at(counts, self.patient[made_of], 1)
            weight = np.where(counts > 0, weights, 0)
            by_patient *= (weight / np.maximum(counts, 1))[:, None, None]
            total, count = by_patient.sum(axis=0), weight.sum()
            for patient in np.unique(self.patient[rows]):
                if weight[patient] > 0:
                    others = count - weight[patient]
                    own = _prior(total - by_patient[patient], others, weight[patient])
                    yield rows[self.patient[rows] == patient], own

    def measures(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Return (N, 3) pointing game, energy and IoU of the priors on their own grid (`boxes.measures`).

        Args:
            weights: As of `maps`. Findings of patients with 0 get NaN.
        """
        found = np.full((len(self.covers), 3), np.nan)
        for rows, prior in self.maps(weights):
            highest, whole = prior.peak == prior.peak.max(), max(prior.cover.sum(), _ROUNDING)
            edges = region(prior.cover)
            for row in rows:
                energy = (prior.cover * self.covers[row]).sum() / whole
                overlap = max(box_iou(edges, box) for box in self.boxes[row])
                found[row] = self.middles[row][highest].mean(), energy, overlap
        return found

    def resampled(self, resamples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, of resamples of patients, the (N,) weights of the findings and `measures` of the priors made anew.

        A standard error needs fewer resamples than the ends of an interval: there are 100 at most.
        """
        rng, share = np.random.default_rng(seed), np.full(self.patients, 1 / self.patients)
        for _ in range(min(resamples, int(np.clip(_WORK // len(self.covers), _LEAST, _MOST)))):
            weights = rng.multinomial(self.patients, share).astype(np.float64)
            yield weights[self.patient], self.measures(weights)


def _middles_in(boxes: np.ndarray) -> np.ndarray:
    """Return (GRID, GRID) whether the middle of each cell lies in a box."""
    middles = np.arange(GRID) + 0.5
    across = (boxes[:, None, 0] <= middles) & (middles <= boxes[:, None, 2])
    down = (boxes[:, None, 1] <= middles) & (middles <= boxes[:, None, 3])
    return np.asarray((down[:, :, None] & across[:, None, :]).any(axis=0))


def _prior(total: np.ndarray, others: float, left_out: float) -> PositionPrior:
    """Return the prior of a sum of covers over so many patients, after so many were left out."""
    if not others > 0:
        return PositionPrior(np.ones((GRID, GRID)), np.ones((GRID, GRID)))
    # Rounded, so that what was added and taken away again ties.
    cover = np.round(np.clip(total / others, 0, 1), 9)
    top = cover.max() - left_out / others
    return PositionPrior(cover, np.minimum(cover, top) if top > _ROUNDING else np.ones_like(cover))


def region(raster: np.ndarray) -> np.ndarray:
    """Return left, top, right and bottom of the 4-connected region of the maximum, down to half its height."""
    labels, _ = ndimage.label(raster >= REGION_SHARE * raster.max())
    rows, columns = np.nonzero(labels == labels.flat[raster.argmax()])
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)


def box_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two boxes (left, top, right and bottom)."""
    shared = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
    areas = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    return float(shared / (areas - shared))
