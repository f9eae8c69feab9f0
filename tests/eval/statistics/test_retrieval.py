"""Neighbours by cosine are never of the same patient; precision and vote are what they say, and intervals cover."""

import numpy as np
import pytest
from clinvit.eval.statistics.neighbours import nearest
from clinvit.eval.statistics.retrieval import SHARED, retrieval
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity


def case(seed=0, queries=40, library=60, each=2, width=6, apart=1.0):
    """Queries and a library of patients with `each` images; positives lie apart."""
    rng = np.random.default_rng(seed)
    patients = np.arange(queries + library) // each
    truth = (rng.random(patients.max() + 1) < 0.4).astype(float)[patients]
    centre = rng.normal(0, 0.7, (patients.max() + 1, width))[patients]
    features = centre + rng.normal(0, 1, (len(patients), width)) + apart * truth[:, None]
    return features, truth, np.array([f"p{patient}" for patient in patients])


@pytest.mark.parametrize("k", [1, 5, 100])
def test_neighbours_are_those_of_scikit_learn_without_the_own_patient(k):
    features, _, patients = case()
    asked, library = slice(0, 30), slice(20, 100)
    near = nearest(features[asked], features[library], patients[asked], patients[library], k)
    cosine = cosine_similarity(features[asked], features[library])
    cosine[patients[asked][:, None] == patients[library][None]] = -np.inf
    for row in range(30):
        there = np.isfinite(cosine[row]).sum()
        expected = np.argsort(-cosine[row], kind="stable")[: min(k, there)]
        found = near.rows[row][near.rows[row] >= 0]
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(near.likeness[row][: len(found)], cosine[row][expected], atol=1e-12)
        assert not (patients[library][found] == patients[asked][row]).any()
    assert near.rows.shape == (30, k) and np.isnan(near.likeness[near.rows < 0]).all()


def test_precision_chance_and_vote_by_hand():
    near = np.array([[0, 1], [1, 2], [2, -1], [0, 3]])
    of_library, truth = np.array([1.0, 0.0, 1.0, np.nan]), np.array([1.0, 0.0, 0.0, np.nan])
    found = retrieval("a", near, truth, of_library, ["p", "q", "r", "s"])
    # Alike: 1 of 2, 1 of 2, 0 of 1; the last query's label is unknown.
    assert (found.queries, found.positives) == (3, 1)
    assert found.precision.value == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert found.of_positives.value == 0.5 and found.of_negatives.value == pytest.approx(0.25)
    assert found.chance == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)
    assert found.auroc.value == pytest.approx(roc_auc_score([1, 0, 0], [0.5, 0.5, 1.0]))
    assert np.isnan(found.precision.low) and "fewer than" in found.precision.reason


def test_nothing_known_is_undefined_with_a_reason():
    found = retrieval("a", np.array([[0]]), np.array([np.nan]), np.array([1.0]), ["p"])
    assert np.isnan(found.precision.value) and found.precision.reason and found.queries == 0


def test_queries_that_are_neighbours_of_each_other_get_no_interval():
    features, truth, patients = case()
    near = nearest(features, features, patients, patients, 3).rows
    found = retrieval("a", near, truth, truth, patients, shared=True)
    for each in (found.precision, found.of_positives, found.of_negatives, found.auroc):
        assert np.isnan(each.low) and each.reason == SHARED and not np.isnan(each.value)


def coverage(runs, patients, each, queries=6000):
    """Share of runs whose intervals hold what the same library gives for many more patients."""
    features, truth, names = case(seed=1, queries=queries, library=120, each=each)
    library = slice(queries, None)
    near = nearest(features[:queries], features[library], names[:queries], names[library], 5).rows
    whole = retrieval("a", near, truth[:queries], truth[library], names[:queries])
    held = {"precision": 0, "auroc": 0}
    for run in range(runs):
        chosen = np.random.default_rng(run).choice(queries // each, patients, replace=False)
        rows = (chosen[:, None] * each + np.arange(each)).ravel()
        found = retrieval("a", near[rows], truth[rows], truth[library], names[rows])
        for name in held:
            own = getattr(found, name)
            held[name] += own.low <= getattr(whole, name).value <= own.high
    return {name: count / runs for name, count in held.items()}


@pytest.mark.thorough
@pytest.mark.parametrize(("patients", "each"), [(40, 1), (40, 3), (150, 2)])
def test_intervals_cover_95_percent(patients, each):
    found = coverage(300, patients, each)
    assert 0.92 <= found["precision"] <= 0.99
    assert found["auroc"] >= 0.92  # of few patients with several images it is wider than need be


def test_intervals_cover_in_a_small_simulation():
    for name, share in coverage(20, 60, 2, queries=1200).items():
        assert share >= 0.8, name
