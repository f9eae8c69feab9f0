"""Readers of the same cases as the model: a table of their ratings, and what it shows.

reads.csv: `id, reader`, then one column per label with a rating (0 or 1, a score, or a grade; the higher, the more
likely). A column `modality` says how they read, such as `unaided` and `aided`.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.errors import DataError
from ...datasets.manifest.tables import Predictions, nearest
from ..evaluation import Evaluation
from .agreement import cohen_kappa, fleiss_kappa
from .delong import delong
from .holm import holm
from .intervals import Estimate
from .metrics import predicted_labels
from .reader_study import Tested, against_model, between_modalities
from .resampling import PatientBootstrap
from .reservations import FEW, too_few

KEYS = ("id", "reader", "modality")
_GRADES = 10  # different ratings up to which agreement is of grades
_MOST = 10  # readers of whom each pair is compared


@dataclass(frozen=True)
class LabelReaders:
    """One label's readers beside the model.

    Attributes:
        label: The finding.
        modality: How they read; empty without such a column.
        readers: J names.
        cases, patients, positives: Read by all of them and scored, with known truth.
        left_out: Evaluated cases that are not: not read by all, failed, or of unknown truth.
        metrics: By name (`auroc`, `sensitivity`, `specificity`): J values of the readers, then the model's.
        tests: The model minus the mean of the readers, by the same.
        adjusted: p of these by Holm over labels, modalities and metrics.
        kappas: Pairs of readers, and what their agreement is, by `kappa` and, of grades, `weighted_kappa` (quadratic).
        fleiss: Of all readers together; NaN for one.
    """

    label: str
    modality: str
    readers: tuple[str, ...]
    cases: int
    patients: int
    positives: int
    left_out: int
    metrics: dict[str, np.ndarray]
    tests: dict[str, Tested]
    adjusted: dict[str, float]
    kappas: dict[tuple[str, str], dict[str, Estimate]]
    fleiss: Estimate


class ModalityTest(NamedTuple):
    """Two modalities that the same readers read with: second minus first of the mean AUROC."""

    label: str
    first: str
    second: str
    readers: int
    cases: int
    test: Tested


def checked_reads(table: pd.DataFrame, labels: tuple[str, ...], name: str) -> pd.DataFrame:
    """Return reads with numbers for ratings.

    Args:
        table: Cells as text.
        labels: Of the model.
        name: Of the file, for messages.

    Raises:
        DataError: A column is missing, a rating is no number, or a case was read twice by one reader.
    """
    for key in KEYS[:2]:
        if key not in table.columns:
            raise DataError(
                f"{name}: no column {key!r}{nearest(key, table.columns)}. It holds id, reader and a column per label."
            )
    own = [label for label in labels if label in table.columns]
    if not own:
        raise DataError(f"{name}: no column is a label of the model ({', '.join(labels)}).")
    found = table[["id", "reader"]].apply(lambda cells: cells.astype(str).str.strip())
    found["modality"] = table["modality"].astype(str).str.strip() if "modality" in table.columns else ""
    for key in KEYS[:2]:
        if (found[key] == "").any():
            row = int(np.flatnonzero(found[key] == "")[0]) + 2
            raise DataError(f"{name}: row {row}: the cell {key!r} is empty. Fill it in.")
    again = found.duplicated()
    if again.any():
        row = int(np.flatnonzero(again)[0])
        raise DataError(
            f"{name}: row {row + 2}: reader {found['reader'].iloc[row]!r} has read {found['id'].iloc[row]!r} twice "
            f"({int(again.sum())} such rows). Keep one, or tell them apart in a column `modality`."
        )
    for label in own:
        cells = table[label].astype(str).str.strip()
        found[label] = pd.to_numeric(cells.where(cells != ""), errors="coerce")
        wrong = np.flatnonzero((cells != "") & ~np.isfinite(found[label]))
        if len(wrong):
            raise DataError(
                f"{name}: row {wrong[0] + 2}: the rating {cells.iloc[wrong[0]]!r} for {label!r} is no number."
            )
    return found


def reader_results(
    table: Predictions, reads: pd.DataFrame, thresholds: dict[str, float], evaluation: Evaluation
) -> tuple[list[LabelReaders], list[ModalityTest]]:
    """Compare the model with the readers, for each label that they rated and each modality.

    Args:
        table: The model's predictions.
        reads: Of `checked_reads`.
        thresholds: Of the model, by label; NaN for none.
        evaluation: The split, and how intervals of agreement are made.

    Raises:
        DataError: No case of the split was read.
    """
    asked = table.rows(evaluation.split)
    if not reads["id"].isin(asked.table["id"]).any():
        raise DataError(
            f"readers: none of their {reads['id'].nunique():,} cases is in the split {evaluation.split!r} of "
            f"{table.path} (the first is {reads['id'].iloc[0]!r})."
        )
    labels = [label for label in table.labels if label in reads.columns]
    found = []
    for label in labels:
        for modality, own in reads.groupby("modality", sort=True):
            wide = own.pivot(index="id", columns="reader", values=label)
            wide = wide.dropna(axis="columns", how="all")
            if wide.shape[1]:
                found.append(_label(asked, label, str(modality), wide, thresholds.get(label, np.nan), evaluation))
    kept = _adjusted([each for each in found if each is not None])
    crossed = [test for label in labels for test in _modalities(asked, label, reads)]
    return kept, crossed


def _common(
    asked: Predictions, label: str, wide: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return truths, the model's scores, ratings (N, J) and patients of the cases that all have rated."""
    place = asked.labels.index(label)
    ratings = wide.reindex(asked.table["id"]).to_numpy(np.float64)
    truth, score = asked.truth()[:, place], asked.scores()[:, place]
    rows = ~np.isnan(truth) & ~np.isnan(score) & ~np.isnan(ratings).any(axis=1)
    return truth[rows], score[rows], ratings[rows], asked.table["patient"].to_numpy()[rows]


def _label(
    asked: Predictions, label: str, modality: str, wide: pd.DataFrame, threshold: float, evaluation: Evaluation
) -> LabelReaders | None:
    truth, score, ratings, patients = _common(asked, label, wide)
    if not len(truth):
        return None
    bootstrap = evaluation.bootstrap(list(patients), truth[:, None])
    few = bootstrap.smaller_class(truth[:, None])[0]
    scores = np.column_stack([ratings, score])
    own = delong(truth, scores, bootstrap.index)
    metrics = {"auroc": (own.auroc, own.covariance, few)}
    if set(np.unique(ratings)) <= {0.0, 1.0} and not np.isnan(threshold):
        called = np.column_stack([ratings, predicted_labels(score, np.array(threshold))])
        for name, kind in (("sensitivity", 1), ("specificity", 0)):
            rows = truth == kind
            metrics[name] = (*_rates(called[rows] == kind, bootstrap.index[rows]), bootstrap.having(rows))
    names = tuple(map(str, wide.columns))
    return LabelReaders(
        label=label,
        modality=modality,
        readers=names,
        cases=len(truth),
        patients=bootstrap.size,
        positives=int(truth.sum()),
        left_out=len(asked) - len(truth),
        metrics={name: values for name, (values, _, _) in metrics.items()},
        tests={name: _believed(values, covariance, int(n)) for name, (values, covariance, n) in metrics.items()},
        adjusted={},
        kappas=_kappas(ratings, names, bootstrap),
        fleiss=fleiss_kappa(ratings, bootstrap)
        if len(names) > 1 and len(np.unique(ratings)) <= _GRADES
        else Estimate(float("nan"), reason="one reader, or ratings that are no grades"),
    )


def _believed(values: np.ndarray, covariance: np.ndarray, few: int) -> Tested:
    """Test the model against the readers, where enough patients say so."""
    nan = float("nan")
    value = float(values[-1] - values[:-1].mean())
    if np.isnan(value):
        return Tested(Estimate(nan, reason="one class only"), nan, nan, nan)
    if few < FEW:
        return Tested(Estimate(value, reason=too_few(few)), nan, nan, nan)
    return against_model(values[:-1], float(values[-1]), covariance)


def _rates(right: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (K,) shares of (N, K) right decisions, and their covariance by patient."""
    if not len(right):
        return np.full(right.shape[1], np.nan), np.full((right.shape[1],) * 2, np.nan)
    shares = right.mean(axis=0)
    sums = np.column_stack([np.bincount(index, weights=column) for column in (right - shares).T])
    patients = max(2, int(np.count_nonzero(np.bincount(index))))
    return shares, sums.T @ sums / len(right) ** 2 * patients / (patients - 1)


def _kappas(
    ratings: np.ndarray, names: tuple[str, ...], bootstrap: PatientBootstrap
) -> dict[tuple[str, str], dict[str, Estimate]]:
    grades = len(np.unique(ratings))
    if grades > _GRADES:
        return {}
    found = {}
    for i, j in combinations(range(min(len(names), _MOST)), 2):
        own = {"kappa": cohen_kappa(ratings[:, i], ratings[:, j], bootstrap)}
        if grades > 2:
            own["weighted_kappa"] = cohen_kappa(ratings[:, i], ratings[:, j], bootstrap, "quadratic")
        found[names[i], names[j]] = own
    return found


def _adjusted(found: list[LabelReaders]) -> list[LabelReaders]:
    p = holm(np.array([test.p for each in found for test in each.tests.values()]))
    places = iter(p.tolist())
    for each in found:
        each.adjusted.update({name: next(places) for name in each.tests})
    return found


def _modalities(asked: Predictions, label: str, reads: pd.DataFrame) -> list[ModalityTest]:
    """Compare each two modalities by the readers who read with both."""
    found = []
    for first, second in combinations(sorted(reads["modality"].unique()), 2):
        own = reads[reads["modality"].isin([first, second])].dropna(subset=[label])
        wide = own.pivot(index="id", columns=["modality", "reader"], values=label)
        both = [name for name in wide[first].columns if name in wide[second].columns]
        if len(both) < 2:
            continue
        wide = wide[[(modality, reader) for modality in (first, second) for reader in both]]
        truth, _, ratings, patients = _common(asked, label, wide)
        few = int(PatientBootstrap(list(patients), 10).smaller_class(truth[:, None])[0]) if len(truth) else 0
        if few < FEW:
            continue
        one = delong(truth, ratings, list(patients))
        test = between_modalities(one.auroc.reshape(2, -1), one.covariance)
        found.append(ModalityTest(label, first, second, len(both), len(truth), test))
    return found
