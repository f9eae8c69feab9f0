"""Train, validation and test by patient: no patient in two of them, each finding spread over all."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ...core.errors import DataError
from .tables import SPLITS


def assign_splits(
    table: pd.DataFrame,
    labels: Sequence[str],
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> pd.Series:
    """Deal the patients out to `train`, `val` and `test`, class by class.

    A patient's class is its rarest positive finding, counted in patients over the whole table; patients
    without a finding are a class too. Within a class the patients come in an order that only their names and
    the seed decide, and each goes to the split that is furthest behind, first in this class, then in all.
    Fractions are of patients.

    Args:
        table: One row per case; the column `patient` and the label columns (0, 1, NaN).
        labels: Columns to stratify by; may be empty.
        fractions: Shares of train, val and test, each above 0, together 1.
        seed: Another seed, another deal.

    Returns:
        `split` for each row, with the table's index. The order of the rows does not matter.

    Raises:
        DataError: The fractions are wrong, a patient is not named, or there are fewer patients than splits.
    """
    if len(fractions) != len(SPLITS) or min(fractions) <= 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise DataError(f"split fractions {tuple(fractions)}: give {', '.join(SPLITS)}, each above 0, together 1.")
    parts = _deal(table, labels, np.array(fractions), seed)
    return parts.map(dict(enumerate(SPLITS))).rename("split")


def patient_folds(table: pd.DataFrame, labels: Sequence[str], k: int, seed: int = 0) -> pd.Series:
    """Number the rows 0..k-1 for cross-validation, by patient and stratified as `assign_splits` does.

    Args:
        table: One row per case; the column `patient` and the label columns (0, 1, NaN).
        labels: Columns to stratify by; may be empty.
        k: Number of folds, at least 2.
        seed: Another seed, another deal.

    Returns:
        `fold` for each row, with the table's index.

    Raises:
        DataError: k is below 2, a patient is not named, or there are fewer patients than folds.
    """
    if k < 2:
        raise DataError(f"{k} folds: cross-validation needs at least 2.")
    return _deal(table, labels, np.full(k, 1 / k), seed).rename("fold")


def nested_patients(table: pd.DataFrame, labels: Sequence[str], seed: int = 0) -> list[str]:
    """Return all patients in an order of which every beginning has each finding in about the proportion of the whole.

    The first 10 are among the first 20, and so on. Classes are those of `assign_splits`; within a class the order looks
    random, and where it begins as well: at its first fraction of a step, so that no class is favoured.

    Args:
        table: One row per case; the column `patient` and the label columns (0, 1, NaN).
        labels: Columns to stratify by; may be empty.
        seed: Another seed, another order.
    """
    classes = _patient_classes(table, labels)
    place: dict[str, tuple[float, str]] = {}
    for name, members in classes.groupby(classes):
        start = int(_shuffled(f"class {name}", seed)[:12], 16) / 16**12
        patients = sorted(members.index, key=lambda patient: _shuffled(patient, seed))
        place |= {
            patient: ((number + start) / len(patients), _shuffled(patient, seed))
            for number, patient in enumerate(patients)
        }
    return sorted(place, key=place.__getitem__)


def _deal(table: pd.DataFrame, labels: Sequence[str], fractions: np.ndarray, seed: int) -> pd.Series:
    """Return the number of the part for each row; every part gets a patient.

    scikit-learn's StratifiedGroupKFold knows equal folds only and looks at the order of the rows.
    """
    if (table["patient"].isna() | (table["patient"] == "")).any():
        raise DataError("a case without a patient cannot be split by patient. Fill in the column `patient`.")
    classes = _patient_classes(table, labels)
    if len(classes) < len(fractions):
        raise DataError(
            f"{len(classes)} patients cannot be split into {len(fractions)} parts without one being empty. "
            "Add patients, or fill in the column `split` by hand."
        )
    part_of: dict[str, int] = {}
    held = np.zeros(len(fractions))
    # The rarest class first: where it upsets the totals, the common ones make up for it.
    for name in classes.value_counts().sort_index(kind="stable").sort_values(kind="stable").index:
        patients = sorted(classes.index[classes == name], key=lambda patient: _shuffled(patient, seed))
        held_here = np.zeros(len(fractions))
        for patient in patients:
            part = _furthest_behind(fractions, held_here, held)
            part_of[patient] = part
            held_here[part] += 1
            held[part] += 1
    _fill_empty_parts(part_of, held, seed)
    return table["patient"].map(part_of)


def _furthest_behind(fractions: np.ndarray, held_here: np.ndarray, held: np.ndarray) -> int:
    """Return the split that is furthest below its share of this class.

    Ties, within a quarter of a patient, go to the split that is furthest below its share of all patients.
    """
    lack_here = fractions * (held_here.sum() + 1) - held_here
    lack = fractions * (held.sum() + 1) - held
    near = lack_here >= lack_here.max() - 0.25
    return int(np.argmax(np.where(near, lack, -np.inf)))


def _fill_empty_parts(part_of: dict[str, int], held: np.ndarray, seed: int) -> None:
    """Give a part that got no patient one of the largest part's: with few patients a small part may have none."""
    for part in np.flatnonzero(held == 0):
        largest = int(held.argmax())
        patient = min((p for p in part_of if part_of[p] == largest), key=lambda p: _shuffled(p, seed))
        part_of[patient] = int(part)
        held[largest] -= 1
        held[part] += 1


def _patient_classes(table: pd.DataFrame, labels: Sequence[str]) -> pd.Series:
    """Return the rarest positive finding of each patient ('' = none), by patient."""
    positive = (table[list(labels)] == 1).groupby(table["patient"]).any()
    counts = positive.sum()
    by_rarity = sorted(labels, key=lambda label: (counts[label], label))
    classes = pd.Series("", index=positive.index, dtype=object)
    for label in reversed(by_rarity):
        classes[positive[label].to_numpy()] = label
    return classes


def _shuffled(patient: str, seed: int) -> str:
    """Return a sort key that looks random, and is the same on every machine and in every order of rows."""
    return hashlib.sha256(f"{seed}\0{patient}".encode()).hexdigest()
