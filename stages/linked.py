"""Whether images of a patient are found again: by features as they are, by a trained head, by a trained encoder."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..datasets.manifest.cells import for_spreadsheets
from ..datasets.manifest.columns import fact
from ..datasets.manifest.exam_times import WORDS, exam_times
from ..eval.statistics.identification import (
    Identification,
    alike_patients,
    identification,
    identification_by_time,
)
from ..finetune.reidentify import FOLDS, LEAST_PATIENTS, Fit, enough_patients, linked_features

SAME = ("site", "scanner")  # what negatives share, where columns say it
MOST_PAIRS = 50
PAIR_COLUMNS = ("id", "patient", "split", "other_id", "other_patient", "other_split", "likeness")


@dataclass
class Linked:
    """How well images of a patient are linked.

    Attributes:
        frozen: By the features as they are.
        trained: By what was trained on other patients; None where too few have two images.
        groups: What columns the images of other patients share with a query, in words; empty without.
        by_time: By what a column says (`the column follow_up: numbers of exams`), of each bin of the time between two
            images: by what was trained, or as they are where nothing was.
        notes: What was done and what was not.
    """

    frozen: Identification
    trained: Identification | None = None
    groups: str = ""
    by_time: dict[str, dict[str, Identification]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def linked(features: np.ndarray, table: pd.DataFrame, fit: Fit, what: str, seed: int) -> Linked:
    """Measure how well images of a patient are linked.

    Args:
        features: (N, D) as they are.
        table: Of N cases.
        fit: Trains what links them.
        what: What that trains, in words.
        seed: Of folds and training.
    """
    patients = table["patient"].astype(str).tolist()
    groups, columns = same_groups(table)
    found = Linked(identification(features, patients, groups), groups=" and ".join(columns))
    folds = linked_features(fit, patients, seed)
    rows, vectors, inside = np.arange(len(table)), features, groups
    if folds:
        rows = np.concatenate([rows for rows, _ in folds])
        vectors = np.concatenate([vectors for _, vectors in folds])
        place = np.repeat(np.arange(len(folds)), [len(rows) for rows, _ in folds]).astype(str)
        inside = [f"{fold}\0{'' if groups is None else groups[row]}" for fold, row in zip(place, rows, strict=True)]
        found.trained = identification(vectors, [patients[row] for row in rows], inside)
        found.notes.append(
            f"{what[0].upper()}{what[1:]} learned from other patients, {FOLDS} times; each image was looked for among "
            "those of its fold."
        )
    else:
        found.notes.append(
            f"Nothing was trained: fewer than {LEAST_PATIENTS} patients have two images. Features as they are "
            "understate what a stranger with data of his own can do."
        )
    missing = [name for name in SAME if name not in map(fact, columns)]
    if missing:
        found.notes.append(
            f"The archive names no {' and no '.join(missing)}: features may tell patients apart by "
            f"{'them' if len(missing) > 1 else 'it'}."
        )
    times, notes = exam_times(table)
    for time in times:
        bins = list(time.bins.values())
        each = identification_by_time(vectors, [patients[row] for row in rows], inside, time.values[rows], bins)
        found.by_time[f"{time.column} ({WORDS[time.kind]})"] = dict(zip(time.bins, each, strict=True))
    if not times:
        notes.append(
            "Not shown by the time between two images: the archive has no column of dates (date), days, years, ages or "
            "numbers of exams (follow_up) that could be read."
        )
    found.notes += notes
    return found


def same_groups(table: pd.DataFrame) -> tuple[list[str] | None, list[str]]:
    """Return N names of site and scanner, None where no column says either; and those columns."""
    columns = [column for name in SAME for column in table if fact(column) == name][: len(SAME)]
    if not columns:
        return None, []
    cells = table[columns].fillna("").astype(str)
    return cells.agg("\0".join, axis=1).tolist(), columns


def candidates(features: np.ndarray, table: pd.DataFrame, fit: Fit, seed: int) -> pd.DataFrame:
    """Return pairs of images of two patients that are most alike: a person judges whether they are one."""
    patients = table["patient"].astype(str).tolist()
    every = np.arange(len(table))
    vectors = fit(every, every, seed) if enough_patients(patients) else features
    rows = [
        (*_case(table, row), *_case(table, other), round(value, 4))
        for row, other, value in alike_patients(vectors, patients, MOST_PAIRS)
    ]
    return for_spreadsheets(pd.DataFrame(rows, columns=list(PAIR_COLUMNS)))


def _case(table: pd.DataFrame, row: int) -> tuple[str, str, str]:
    return table["id"][row], table["patient"][row], table["split"][row]
