"""Conformal sets: limits as by definition, coverage in simulation, by patient, and as MAPIE makes them."""

import numpy as np
import pytest
from clinvit.eval.statistics.conformal_sets import class_sets, conformal_limit, finding_sets
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.statistics.triage import EVERY
from scipy.special import softmax


def test_the_limit_is_the_rank_that_theory_says():
    misfit = np.arange(1, 20) / 100
    assert conformal_limit(misfit, 0.9) == pytest.approx(0.18)  # the 18th of 19
    assert conformal_limit(misfit, 0.95) == pytest.approx(0.19)
    assert conformal_limit(misfit, 0.96) == EVERY
    assert conformal_limit(np.empty(0), 0.5) == EVERY


def test_the_truth_of_either_kind_of_case_is_in_its_set_as_often_as_asked():
    random, inside = np.random.default_rng(0), []
    for _ in range(300):
        truth = (random.random(320) < 0.2).astype(float)
        score = 1 / (1 + np.exp(-random.normal(size=320) - 1.5 * truth + 2))
        names = np.arange(320).astype(str)
        found = finding_sets(
            "Mass",
            (truth[:120], score[:120], names[:120]),
            (truth[120:], score[120:]),
            PatientBootstrap(names[120:], 10),
            0.8,
        )
        inside.append([found.metrics[name].value for name in ("coverage", "coverage_of_absent", "coverage_of_present")])
    mean, error = np.mean(inside, axis=0), np.std(inside, axis=0) / np.sqrt(300)
    assert (mean > 0.8 - 3 * error).all() and (mean < 0.87).all()


def test_cases_of_one_patient_count_once():
    truth, score = np.tile([0.0, 1.0], 60), np.random.default_rng(0).random(120)
    patients = [f"p{i // 6}" for i in range(120)]
    found = finding_sets("Mass", (truth, score, patients), (truth, score), PatientBootstrap(patients, 20), 0.9)
    assert found.calibrated.tolist() == [20, 20]


def classes(random, cases):
    truth = random.integers(4, size=cases)
    return truth, softmax(random.normal(size=(cases, 4)) + 1.5 * np.eye(4)[truth], axis=1)


def test_sets_of_classes_hold_the_truth_as_often_as_asked():
    random, inside = np.random.default_rng(0), []
    for _ in range(200):
        (val, chosen), (test, judged) = classes(random, 60), classes(random, 200)
        names = np.arange(200).astype(str)
        found = class_sets("abcd", (val, chosen, names[:60]), (test, judged), PatientBootstrap(names, 10), 0.9)
        inside.append(found.metrics["coverage"].value)
    assert 0.9 - 3 * np.std(inside) / np.sqrt(200) < np.mean(inside) < 0.93
    assert found.metrics["one"].value + found.metrics["several"].value + found.metrics["none"].value == pytest.approx(1)


def test_sets_are_those_of_mapie():
    classification = pytest.importorskip("mapie.classification")
    sklearn = pytest.importorskip("sklearn.base")

    class Given(sklearn.ClassifierMixin, sklearn.BaseEstimator):
        """A classifier whose probabilities are its input."""

        def fit(self, x, y):
            """Remember the classes."""
            self.classes_, self.fitted_ = np.unique(y), True
            return self

        def predict_proba(self, x):
            """Return the input."""
            return x

        def predict(self, x):
            """Return the largest."""
            return x.argmax(axis=1)

    random = np.random.default_rng(3)
    (val, chosen), (test, judged) = classes(random, 150), classes(random, 80)
    theirs = classification.SplitConformalClassifier(
        Given().fit(chosen, val), confidence_level=0.9, conformity_score="lac", prefit=True
    )
    sets = theirs.conformalize(chosen, val).predict_set(judged)[1][:, :, 0]
    names = np.arange(150).astype(str)
    found = class_sets("abcd", (val, chosen, names), (test, judged), PatientBootstrap(names[:80], 10), 0.9)
    assert np.array_equal(1 - judged <= found.limits, sets)
