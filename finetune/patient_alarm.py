"""An alarm where an image that claims a patient does not look like this patient's earlier images.

A head that links a patient's images (`reidentify`), the vectors of earlier images with hashed patients, and a limit on
the likeness to the most similar of them. The limit is from patients whom the head has not learned from, one claim of
each: the k-th smallest of their n likenesses. By order statistics the share of patients like these that it flags, all
of them rightly claimed, has the distribution Beta(k, n + 1 - k), whatever that of the likenesses (Vovk 2012, JMLR W&CP
25:475); its quantiles are an exact interval. Vectors can tell who somebody is: the file is for the hospital alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors.numpy

from ..core.errors import UserError
from ..core.files import written_aside
from .model import safetensors_state

RATE = 0.05
_NAMES = ("mean", "std", "linear", "gallery", "patients", "cases", "numbers", "model", "key")
_HASH = 16  # hexadecimal digits
_SAME = 1 - 1e-6  # cosine from which two vectors are of the same pixels


@dataclass(frozen=True)
class Likeness:
    """What an image that claims a patient is like.

    Attributes:
        own: Cosine to the most similar earlier image of the patient; NaN where there is none.
        other: The same of another patient.
        rank: Patients, the claimed one left out, with an earlier image that is more like it than the patient's own.
    """

    own: float
    other: float
    rank: int


@dataclass(frozen=True)
class PatientAlarm:
    """What is stored.

    Attributes:
        mean: (D,) of the features.
        std: (D,) of the features.
        linear: (W, D), the head.
        gallery: (M, W) vectors of length 1 of earlier images.
        patients: M hashed patients.
        cases: M hashed ids.
        limit: Likeness below which a claim is flagged.
        place: k of the limit among the validation patients.
        validation: n validation patients.
        caught: Share of the wrong claims among them that the limit flags.
        model: SHA-256 of the weights that make the features.
        key: What names the key of the hashes (`core.secret.key_name`).
    """

    mean: np.ndarray
    std: np.ndarray
    linear: np.ndarray
    gallery: np.ndarray
    patients: tuple[str, ...]
    cases: tuple[str, ...]
    limit: float
    place: int
    validation: int
    caught: float
    model: str
    key: str

    @property
    def rate(self) -> float:
        """Return the share of right claims that are flagged, on average over validation sets."""
        return self.place / (self.validation + 1)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the exact interval of the share of right claims that this limit flags."""
        from scipy.stats import beta

        tail = (1 - level) / 2
        low, high = beta.ppf([tail, 1 - tail], self.place, self.validation + 1 - self.place)
        return float(low), float(high)

    def vectors(self, features: np.ndarray) -> np.ndarray:
        """Return (N, W) vectors of length 1 of (N, D) features."""
        return head_vectors(self.mean, self.std, self.linear, features)

    @cached_property
    def _hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashed ids and patients, made into arrays once for all images that are asked about."""
        return np.asarray(self.cases), np.asarray(self.patients)

    def likeness(self, vector: np.ndarray, patient: str, case: str = "") -> Likeness:
        """Return what an image of a hashed id that claims a hashed patient is like.

        The image itself does not count: not under its id, nor a copy under another id of the patient, as where a DICOM
        file of the archive is asked about again by its own name.
        """
        cases, patients = self._hashes
        cosines = self.gallery @ vector
        earlier = (cases != case) & ~((patients == patient) & (cosines > _SAME))
        cosines, names = cosines[earlier], patients[earlier]
        mine = names == patient
        own = float(cosines[mine].max()) if mine.any() else math.nan
        others = cosines[~mine]
        nearer = names[~mine][others > own]
        return Likeness(own, float(others.max()) if len(others) else math.nan, len(set(nearer.tolist())))

    def flags(self, found: Likeness) -> bool:
        """Return whether a claim is flagged; one of a patient without an earlier image never is."""
        return found.own < self.limit

    def words(self, found: Likeness) -> str:
        """Return what is said of a claim that is flagged."""
        low, high = self.interval()
        nearer = f"; {found.rank:,} other patients' images are more like it" if found.rank else ""
        return (
            f"patient alarm: unlike the earlier images of the patient it claims (likeness {found.own:.2f}, limit "
            f"{self.limit:.2f}, which {self.rate:.2g} of right claims do not reach, {low:.2g} to {high:.2g}){nearer}"
        )


def head_vectors(mean: np.ndarray, std: np.ndarray, linear: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return (N, W) vectors of length 1 of (N, D) features by a head."""
    rows = ((features - mean) / std) @ linear.T
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def claims(vectors: np.ndarray, patients: Sequence[str], draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return likenesses of one right claim of each patient with two images, and of one wrong claim.

    An image of the patient, drawn at random, claims the patient, and then the next patient in a random order.

    Args:
        vectors: (N, W) of length 1.
        patients: N names.
        draw: Of the images and the order.
    """
    names = np.asarray(patients, str)
    several = [name for name, count in zip(*np.unique(names, return_counts=True), strict=True) if count > 1]
    order = draw.permutation(several)
    right, wrong = [], []
    for name, next_name in zip(order, np.roll(order, 1), strict=True):
        rows = np.flatnonzero(names == name)
        claiming = draw.choice(rows)
        right.append((vectors[rows[rows != claiming]] @ vectors[claiming]).max())
        if len(order) > 1:
            wrong.append((vectors[names == next_name] @ vectors[claiming]).max())
    return np.array(right), np.array(wrong)


def limit_of(right: np.ndarray, rate: float) -> tuple[float, int]:
    """Return the limit that flags a share of right claims at most, and its place among the n likenesses.

    Raises:
        UserError: The rate is none, or there are too few patients for it.
    """
    if not 0 < rate < 1:
        raise UserError(f"--alarm-rate is above 0 and below 1, not {rate:g}.")
    place = math.floor(round(rate * (len(right) + 1), 9))
    if place < 1:
        raise UserError(
            f"--alarm: {len(right)} patients of the split val have two images: a false-alarm rate of {rate:g} needs "
            f"{math.ceil(1 / rate) - 1}. Take a larger --alarm-rate."
        )
    return float(np.sort(right)[place - 1]), place


def write_alarm(path: Path, alarm: PatientAlarm) -> None:
    """Write an alarm, for the owner alone."""
    state = {
        "mean": alarm.mean.astype(np.float32), "std": alarm.std.astype(np.float32),
        "linear": alarm.linear.astype(np.float32), "gallery": alarm.gallery.astype(np.float32),
        "patients": _bytes(alarm.patients), "cases": _bytes(alarm.cases),
        "numbers": np.array([alarm.limit, alarm.place, alarm.validation, alarm.caught], np.float64),
        "model": np.frombuffer(alarm.model.encode(), np.uint8), "key": np.frombuffer(alarm.key.encode(), np.uint8),
    }  # fmt: skip
    with written_aside(path, private=True) as aside:
        safetensors.numpy.save_file(state, aside)


def read_alarm(path: Path) -> PatientAlarm:
    """Read an alarm.

    Raises:
        UserError: There is none, or it is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. `clinvit audit MODEL ARCHIVE --alarm FILE` makes one.")
    found = {name: value.numpy() for name, value in safetensors_state(path).items()}
    try:
        mean, std, linear, gallery, patients, cases, numbers, model, key = (found[name] for name in _NAMES)
        alarm = PatientAlarm(
            mean, std, linear, gallery, _texts(patients), _texts(cases), float(numbers[0]), int(numbers[1]),
            int(numbers[2]), float(numbers[3]), bytes(model).decode("ascii"), bytes(key).decode("ascii"),
        )  # fmt: skip
        width, of = linear.shape
        if (gallery.shape, mean.shape, std.shape) != ((len(patients), width), (of,), (of,)) or len(cases) != len(
            patients
        ):
            raise ValueError("its parts do not fit together")
        if (
            not all(np.isfinite(each).all() for each in (mean, std, linear, gallery, alarm.limit))
            or not (std > 0).all()
        ):
            raise ValueError("it holds what is no number")
        if not 0 < alarm.place <= alarm.validation:
            raise ValueError("it does not say what its limit is from")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path}: no readable patient alarm ({error}). Make it anew by `clinvit audit`.") from None
    return alarm


def _bytes(hashes: Sequence[str]) -> np.ndarray:
    return np.frombuffer("".join(hashes).encode(), np.uint8).reshape(-1, _HASH)


def _texts(rows: np.ndarray) -> tuple[str, ...]:
    return tuple(bytes(row).decode("ascii") for row in rows)
