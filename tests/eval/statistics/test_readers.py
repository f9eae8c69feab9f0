"""Readers beside the model: published values, error rates in simulation, wrong tables refused."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.tables import Predictions, predictions_table
from clinvit.eval import Evaluation
from clinvit.eval.statistics.agreement import cohen_kappa, fleiss_kappa
from clinvit.eval.statistics.delong import delong, delong_test
from clinvit.eval.statistics.reader_study import Components, against_model, between_modalities, components
from clinvit.eval.statistics.readers import checked_reads, reader_results
from clinvit.eval.statistics.resampling import PatientBootstrap
from sklearn.metrics import cohen_kappa_score


def test_obuchowski_rockette_is_that_published_for_the_van_dyke_study():
    """114 cases, 5 readers, spin echo and cine MRI: F(1, 15.26) = 4.456, p = 0.0517 (as RJafroc and MRMCaov)."""
    found = Components(0.004796171, 0.0005510306, 0.0003466137, 0.0003440748, 0.0002390284, 2, 5)
    statistic, p = found.test()
    assert (round(statistic, 4), round(found.degrees, 2), round(p, 5)) == (4.4563, 15.26, 0.05167)


def ratings(random, cases, ability, spread=0.0, shared=0.6):
    """Truth, and ratings (cases, J): the cases are as hard for all readers, whose abilities scatter."""
    truth = (random.random(cases) < 0.4).astype(float)
    hard = random.normal(size=(cases, 1))
    own = ability + spread * random.normal(size=len(ability))
    return truth, truth[:, None] * own + np.sqrt(shared) * hard + np.sqrt(1 - shared) * random.normal(
        size=(cases, len(own))
    )


def test_the_mean_squares_are_those_of_the_definition():
    truth, scores = ratings(np.random.default_rng(0), 90, np.full(6, 1.5), 0.3)
    own = delong(truth, scores)
    metrics, found = own.auroc.reshape(2, 3), components(own.auroc.reshape(2, 3), own.covariance)
    assert found.treatment == pytest.approx(3 * np.var(metrics.mean(axis=1), ddof=1))
    assert found.same_reader == pytest.approx(np.mean([own.covariance[j, j + 3] for j in range(3)]))
    test = between_modalities(metrics, own.covariance)
    assert test.statistic**2 == pytest.approx(found.test()[0]) and test.p == pytest.approx(found.test()[1])


def test_one_reader_is_delongs_paired_test():
    truth, scores = ratings(np.random.default_rng(1), 120, np.array([1.2, 1.8]))
    own, paired = delong(truth, scores), delong_test(truth, scores[:, 1], scores[:, 0])
    found = against_model(own.auroc[:1], own.auroc[1], own.covariance)
    assert found.difference.value == pytest.approx(paired.difference.value) and found.p == pytest.approx(paired.p)


@pytest.mark.parametrize("readers", [3, 6])
def test_a_model_as_good_as_the_mean_reader_is_called_different_in_one_of_twenty_studies(readers):
    random, alarms, runs = np.random.default_rng(2), 0, 500
    for _ in range(runs):
        truth, scores = ratings(random, 150, np.full(readers, 1.5), 0.35)
        model = truth * 1.5 + random.normal(size=150)  # its ability is that of the readers on average
        own = delong(truth, np.column_stack([scores, model]))
        alarms += against_model(own.auroc[:-1], own.auroc[-1], own.covariance).p < 0.05
    assert 0.02 <= alarms / runs <= 0.085


def test_kappas_are_those_of_scikit_learn_and_of_the_literature():
    random = np.random.default_rng(3)
    one = random.integers(4, size=200).astype(float)
    two = np.clip(one + random.integers(-1, 2, size=200), 0, 3).astype(float)
    bootstrap = PatientBootstrap(np.arange(200).astype(str), 200)
    for weights in ("none", "linear", "quadratic"):
        found = cohen_kappa(one, two, bootstrap, weights)
        theirs = cohen_kappa_score(one, two, weights=None if weights == "none" else weights)
        assert found.value == pytest.approx(theirs, abs=1e-12)
        assert found.low < theirs < found.high
    # Fleiss' kappa of 14 raters, 10 cases and 5 categories: the worked example of Wikipedia, 0.210.
    counts = np.array(
        [
            (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
            (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
        ]
    )  # fmt: skip
    rated = np.array([np.repeat(np.arange(5), row) for row in counts]).astype(float)
    assert round(fleiss_kappa(rated, PatientBootstrap(np.arange(10).astype(str), 50)).value, 3) == 0.210
    same = cohen_kappa(np.ones(20), np.ones(20), PatientBootstrap(np.arange(20).astype(str), 50))
    assert np.isnan(same.value) and "one category" in same.reason


def study(cases=120, readers=3, modality=False):
    random = np.random.default_rng(4)
    truth, scores = ratings(random, cases, np.full(readers + 1, 1.5))
    table = pd.DataFrame(
        {"id": [f"c{i}" for i in range(cases)], "patient": [f"p{i // 2}" for i in range(cases)], "split": "test"}
    )
    model = 1 / (1 + np.exp(-scores[:, -1:]))
    predictions = Predictions(
        "p.csv", predictions_table(table, ["Mass"], truth[:, None], model, [""] * cases), ("Mass",)
    )
    rows = [
        {"id": f"c{i}", "reader": f"Dr {j}", "Mass": str(int(scores[i, j] + 0.8 * aided * truth[i] > 0.7))}
        | ({"modality": "aided" if aided else "unaided"} if modality else {})
        for aided in range(1 + modality)
        for j in range(readers)
        for i in range(cases)
    ]
    return predictions, pd.DataFrame(rows)


def compared(predictions, reads, threshold):
    own = checked_reads(reads, ("Mass",), "reads.csv")
    return reader_results(predictions, own, {"Mass": threshold}, Evaluation(resamples=50))


def test_only_cases_that_all_have_read_count_and_rates_are_compared_at_the_threshold():
    predictions, reads = study()
    reads = reads[~((reads["reader"] == "Dr 1") & (reads["id"] == "c7"))]
    (found,), crossed = reader_results(
        predictions, checked_reads(reads, ("Mass",), "reads.csv"), {"Mass": 0.6}, Evaluation(resamples=50)
    )
    assert (found.cases, found.left_out, found.readers) == (119, 1, ("Dr 0", "Dr 1", "Dr 2"))
    assert set(found.tests) == {"auroc", "sensitivity", "specificity"} == set(found.adjusted)
    assert all(found.adjusted[name] >= found.tests[name].p for name in found.tests)
    keep = predictions.table["id"] != "c7"
    truth, mine = (
        predictions.truth()[keep, 0],
        reads[(reads["reader"] == "Dr 2") & (reads["id"] != "c7")]["Mass"].astype(float).to_numpy(),
    )
    assert found.metrics["sensitivity"][2] == pytest.approx(mine[truth == 1].mean())
    assert set(found.kappas) == {("Dr 0", "Dr 1"), ("Dr 0", "Dr 2"), ("Dr 1", "Dr 2")} and 0 < found.fleiss.value < 1
    assert not crossed


def test_modalities_are_compared_by_the_readers_who_read_with_both():
    predictions, reads = study(modality=True)
    reads = reads[(reads["modality"] == "aided") | (reads["reader"] != "Dr 2")]
    found, (crossed,) = reader_results(
        predictions, checked_reads(reads, ("Mass",), "reads.csv"), {"Mass": np.nan}, Evaluation(resamples=20)
    )
    assert [(each.modality, len(each.readers)) for each in found] == [("aided", 3), ("unaided", 2)]
    assert set(found[0].tests) == {"auroc"}
    assert (crossed.first, crossed.second, crossed.readers) == ("aided", "unaided", 2)
    assert crossed.test.difference.value < 0


def test_few_patients_have_neither_interval_nor_p():
    predictions, reads = study(cases=14)
    (found,), _ = reader_results(
        predictions, checked_reads(reads, ("Mass",), "reads.csv"), {"Mass": 0.5}, Evaluation(resamples=20)
    )
    test = found.tests["auroc"]
    assert np.isnan(test.p) and np.isnan(test.difference.low) and test.difference.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda reads: reads.rename(columns={"reader": "readr"}), "no column 'reader'"),
        (lambda reads: reads.rename(columns={"Mass": "Masses"}), "no column is a label"),
        (lambda reads: pd.concat([reads, reads.head(1)]), "twice"),
        (lambda reads: reads.assign(Mass="often"), "no number"),
        (lambda reads: reads.assign(reader=" "), "is empty"),
        (lambda reads: reads.assign(id="other"), "twice"),
    ],
)
def test_tables_that_are_not_reads_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        checked_reads(change(study()[1]), ("Mass",), "reads.csv")


def test_reads_of_other_cases_are_refused():
    predictions, reads = study(readers=1)
    with pytest.raises(DataError, match="none of their"):
        reader_results(predictions, checked_reads(reads.assign(id="x" + reads["id"]), ("Mass",), "r"), {}, Evaluation())
