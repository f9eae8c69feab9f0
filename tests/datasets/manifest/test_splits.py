"""Splits: by patient, stratified, the same for any order of rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.inventory import complete_splits
from clinvit.datasets.manifest.splits import assign_splits, nested_patients, patient_folds
from hypothesis import given, settings
from hypothesis import strategies as st

LABELS = ["common", "rare"]


def cases(patients: int, seed: int = 0) -> pd.DataFrame:
    """One to four images of each patient; a third have the common finding, a twelfth the rare one."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    table = pd.DataFrame({"patient": [f"p{number:04d}" for number in who]})
    table["common"] = np.where(who % 3 == 0, 1.0, 0.0)
    table["rare"] = np.where(who % 12 == 1, 1.0, np.nan)
    return table


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 200), st.integers(0, 10**6))
def test_no_patient_is_in_two_splits_and_none_is_empty(patients, seed):
    table = cases(patients, seed)
    split = assign_splits(table, LABELS, seed=seed)
    assert (split.groupby(table["patient"]).nunique() == 1).all()
    assert set(split) == {"train", "val", "test"}
    assert split.index.equals(table.index)


@pytest.mark.parametrize("patients", [30, 100, 1000])
@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.2), (0.5, 0.25, 0.25), (0.9, 0.05, 0.05)])
def test_fractions_hold_over_all_and_within_each_class(patients, fractions):
    table = cases(patients)
    split = assign_splits(table, LABELS, fractions)
    by_patient = pd.DataFrame({"split": split, **table}).groupby("patient").max()
    for group in (by_patient, by_patient[by_patient["common"] == 1], by_patient[by_patient["rare"] == 1]):
        counts = group["split"].value_counts().reindex(["train", "val", "test"], fill_value=0)
        assert np.abs(counts - np.array(fractions) * len(group)).max() <= 2


def test_every_split_has_the_rare_finding():
    table = cases(120)
    split = assign_splits(table, LABELS)
    assert set(split[table["rare"] == 1]) == {"train", "val", "test"}


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    table = cases(80)
    split = assign_splits(table, LABELS)
    shuffled = table.sample(frac=1, random_state=3)
    assert assign_splits(shuffled, LABELS).sort_index().equals(split)
    assert assign_splits(table, LABELS[::-1]).equals(split)
    assert not assign_splits(table, LABELS, seed=1).equals(split)


def test_labels_may_be_missing():
    assert set(assign_splits(cases(20), [])) == {"train", "val", "test"}


def test_folds_are_equal_and_stratified():
    table = cases(120)
    fold = patient_folds(table, LABELS, 5)
    assert (fold.groupby(table["patient"]).nunique() == 1).all()
    per_fold = table.assign(fold=fold).drop_duplicates("patient").groupby("fold")
    assert sorted(per_fold.size().index) == [0, 1, 2, 3, 4]
    assert per_fold.size().max() - per_fold.size().min() <= 1
    assert per_fold["rare"].sum().min() == 2


def test_wrong_requests():
    with pytest.raises(DataError, match="2 patients cannot be split into 3 parts"):
        assign_splits(pd.DataFrame({"patient": ["a", "a", "b"]}), [])
    with pytest.raises(DataError, match="together 1"):
        assign_splits(cases(9), LABELS, (0.7, 0.1, 0.1))
    with pytest.raises(DataError, match="each above 0"):
        assign_splits(cases(9), LABELS, (0.8, 0.0, 0.2))
    with pytest.raises(DataError, match="at least 2"):
        patient_folds(cases(9), LABELS, 1)
    with pytest.raises(DataError, match="without a patient"):
        assign_splits(pd.DataFrame({"patient": ["a", "b", "", "c"]}), [])


@settings(max_examples=20, deadline=None)
@given(st.integers(24, 200), st.integers(0, 10**6))
def test_every_beginning_of_the_order_has_its_share_of_each_finding(patients, seed):
    table = cases(patients)
    order = nested_patients(table, LABELS, seed)
    assert sorted(order) == sorted(table["patient"].unique())
    assert order == nested_patients(table.sample(frac=1, random_state=0), LABELS, seed)
    for name in LABELS:
        having = set(table.loc[table[name] == 1, "patient"])
        for count in (patients // 4, patients // 2):
            found = sum(patient in having for patient in order[:count])
            assert abs(found - len(having) * count / patients) <= 2


def test_another_seed_begins_with_others():
    table = cases(120)
    assert len({nested_patients(table, LABELS, seed)[0] for seed in range(8)}) > 3


@pytest.mark.parametrize("rows", [["", ""], ["train", "test"]], ids=["without splits", "without val"])
def test_too_few_patients_for_the_splits_stay_in_train_and_it_is_said(rows):
    table = pd.DataFrame({"id": ["a", "b"], "patient": ["a", "b"], "split": rows, "rare": [0.0, 1.0]})
    table = complete_splits(Path("mine.csv"), table, ["rare"])
    assert table["split"].tolist() == (["train", "train"] if not rows[0] else rows)
    (words,) = table.attrs["warnings"]
    assert "cannot be dealt out to train" in words and "all are in train" in words


def test_a_patient_without_a_name_is_refused_also_among_few():
    table = pd.DataFrame({"id": ["a", "b"], "patient": ["a", ""], "split": ["", ""], "rare": [0.0, 1.0]})
    with pytest.raises(DataError, match=r"mine\.csv: a case without a patient"):
        complete_splits(Path("mine.csv"), table, ["rare"])
