"""Subgroups against scikit-learn group by group, a planted difference, and everything that cannot be computed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.tables import Predictions, predictions_table
from clinvit.eval import Evaluation
from clinvit.eval.statistics.operating_points import OperatingPoint
from clinvit.eval.statistics.subgroups import subgroups
from sklearn.metrics import roc_auc_score

FEWER = Evaluation(resamples=50)


def predictions(tmp_path, n=400, labels=("mass", "edema"), per_patient=2, seed=0, truth=None, failed=()):
    """Cases of split test; the scores of view AP are worse, those of sex are not."""
    generator = np.random.default_rng(seed)
    patient = np.arange(n) // per_patient
    columns = pd.DataFrame(
        {
            "patient": [f"p{i}" for i in patient],
            "sex": generator.choice(["F", "M"], patient.max() + 1)[patient],
            "view": generator.choice(["PA", "AP"], n),
            "age": generator.integers(1, 95, patient.max() + 1)[patient].astype(str),
        },
        index=pd.Index([f"c{i}" for i in range(n)], name="id"),
    )
    if truth is None:
        truth = (generator.random((n, len(labels))) < 0.35).astype(float)
    poor = (columns["view"] == "AP").to_numpy()[:, None]
    latent = truth * np.where(poor, 0.3, 2.5) + generator.normal(size=truth.shape) - 1
    cases = columns.reset_index().assign(split="test")
    reasons = ["unreadable" if i in failed else "" for i in range(n)]
    table = predictions_table(cases, labels, truth, 1 / (1 + np.exp(-latent)), reasons)
    return Predictions(tmp_path / "predictions.csv", table, tuple(labels)), columns


def found_in(table, columns, names, evaluation=FEWER, threshold=0.5):
    points = [OperatingPoint(threshold, "given")] * len(table.labels)
    return subgroups({"m": table}, columns, names, points={"m": points}, evaluation=evaluation)["m"]


def of(found, name):
    return next(group for group in found.groups if group.name == name)


def test_each_group_is_what_scikit_learn_says_of_its_cases(tmp_path):
    table, columns = predictions(tmp_path, failed=(3, 77))
    found = found_in(table, columns, ["sex", "view", "age"])
    scored = table.scored()
    cells = columns.loc[scored.table["id"]]
    truth, scores = scored.truth(), scored.scores()
    for group in (g for g in found.groups if g.column != "age"):
        rows = (cells[group.column] == group.name).to_numpy()
        aurocs = []
        for i, label in enumerate(group.labels):
            y, p = truth[rows, i], scores[rows, i]
            aurocs.append(roc_auc_score(y, p))
            assert label.metrics["auroc"].value == pytest.approx(aurocs[-1], abs=1e-12)
            assert label.metrics["sensitivity"].value == pytest.approx((p[y == 1] >= 0.5).mean())
            assert label.metrics["specificity"].value == pytest.approx((p[y == 0] < 0.5).mean())
            assert label.metrics["mean_score_minus_prevalence"].value == pytest.approx(p.mean() - y.mean())
            others = roc_auc_score(truth[~rows, i], scores[~rows, i])
            assert label.contrast.difference.value == pytest.approx(aurocs[-1] - others, abs=1e-12)
            assert (label.cases, label.positives) == (rows.sum(), y.sum())
            assert label.patients == cells.loc[rows, "patient"].nunique()
            assert all(e.low <= e.value <= e.high for e in label.metrics.values())
        assert group.metrics["macro_auroc"].value == pytest.approx(np.mean(aurocs), abs=1e-12)
    assert sum(group.failed for group in found.groups) == 2 * 3
    assert found.whole.labels[0].metrics["auroc"].value == pytest.approx(roc_auc_score(truth[:, 0], scores[:, 0]))
    assert [group.name for group in found.groups][-5:] == ["0–17", "18–39", "40–59", "60–79", "80+"]


def test_a_planted_difference_is_found_and_no_other(tmp_path):
    found = found_in(*predictions(tmp_path, n=600, seed=1), ["view", "sex"])
    for contrast in (of(found, "AP").contrasts["macro_auroc"], of(found, "AP").labels[0].contrast):
        assert contrast.difference.high < 0
        assert contrast.p <= contrast.adjusted < 0.001
    assert of(found, "F").contrasts["macro_auroc"].adjusted > 0.05
    # The two halves of a column are one comparison; three families of two.
    assert found.comparisons == 6
    assert of(found, "AP").labels[0].contrast.adjusted == of(found, "PA").labels[0].contrast.adjusted
    assert of(found, "AP").labels[0].contrast.difference.value == -of(found, "PA").labels[0].contrast.difference.value
    assert of(found, "AP").labels[0].contrast.adjusted == pytest.approx(2 * of(found, "AP").labels[0].contrast.p)


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_intervals_are_those_of_the_group_alone(tmp_path, interval):
    table, columns = predictions(tmp_path, n=300)
    evaluation = Evaluation(resamples=1000, interval=interval)
    own = found_in(table, columns, ["view"], evaluation)
    rows = (columns["view"] == "AP").to_numpy()
    alone = found_in(replace(table, table=table.table[rows].reset_index(drop=True)), columns, ["view"], evaluation)
    for name in ("auroc", "sensitivity", "mean_score_minus_prevalence"):
        one, two = of(own, "AP").labels[0].metrics[name], alone.whole.labels[0].metrics[name]
        assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=0.03)


def test_what_is_small_or_undefined_is_said_so(tmp_path):
    generator = np.random.default_rng(5)
    truth = (generator.random((300, 1)) < 0.4).astype(float)
    truth[:20] = 0
    truth[20:30, 0] = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    truth[30:33] = np.nan
    table, columns = predictions(tmp_path, n=300, labels=["mass"], per_patient=1, truth=truth)
    columns["site"] = ["healthy"] * 20 + ["few"] * 10 + ["unknown truth"] * 3 + ["many"] * 267
    found = found_in(table, columns, ["site"])
    healthy, few, unknown, many = (of(found, name).labels[0] for name in ("healthy", "few", "unknown truth", "many"))
    assert np.isnan(healthy.metrics["auroc"].value)
    assert healthy.metrics["auroc"].reason == healthy.metrics["sensitivity"].reason == "no positive case"
    assert healthy.contrast.difference.reason == "undefined here or in all other cases"
    assert unknown.metrics["mean_score_minus_prevalence"].reason == "no case with known truth"
    assert few.metrics["auroc"].method == "score (Newcombe)"
    assert "3 patients only" in few.contrast.difference.reason
    # In the others together there are these 3 patients with the finding too.
    assert np.isnan([few.contrast.p, many.contrast.p]).all()
    assert np.isnan([few.contrast.difference.low, many.contrast.difference.low]).all()
    assert many.smaller_class > 10
    assert found.comparisons == 0


def test_one_group_missing_cells_and_cases_that_the_manifest_lacks(tmp_path):
    table, columns = predictions(tmp_path, n=200)
    columns["scanner"] = "A"
    one = of(found_in(table, columns, ["scanner"]), "A")
    assert one.contrasts["macro_auroc"].difference.reason == "no other cases"
    columns.loc[columns.index[:50], "sex"] = ""
    found = found_in(table, columns.iloc[:-30], ["sex"])
    assert of(found, "not recorded").cases == 80
    assert found.not_in_manifest == 30
    with pytest.raises(DataError, match="none of its 200 cases is in the manifest"):
        found_in(table, columns.rename(index=lambda name: f"x{name}"), ["sex"])
    with pytest.raises(DataError, match="no case in the split"):
        subgroups({"m": table}, columns, ["sex"], points={"m": []}, evaluation=Evaluation(split="val"))


def test_no_threshold_and_nothing_scored(tmp_path):
    table, columns = predictions(tmp_path, n=60)
    points = [OperatingPoint(float("nan"), "given", reason="the model has none")] * 2
    found = subgroups({"m": table}, columns, ["sex"], points={"m": points}, evaluation=FEWER)["m"]
    assert found.groups[0].labels[0].metrics["sensitivity"].reason == "the model has none"
    assert found.groups[0].labels[0].metrics["auroc"].value > 0.5
    none, columns = predictions(tmp_path, n=60, failed=range(60))
    found = found_in(none, columns, ["sex"])
    assert (found.whole.cases, found.whole.failed) == (0, 60)
    assert np.isnan(found.whole.metrics["macro_auroc"].value)


@pytest.mark.parametrize("classes", [3, 25])
def test_exclusive_classes_get_accuracy_and_macro_auroc(tmp_path, classes):
    generator = np.random.default_rng(0)
    labels = [f"k{i}" for i in range(classes)]
    truth = np.eye(classes)[generator.integers(classes, size=400)]
    table, columns = predictions(tmp_path, labels=labels, truth=truth)
    names = [f"p_{label}" for label in labels]
    table.table[names] = table.table[names].div(table.table[names].sum(axis=1), axis=0)
    found = subgroups({"m": table}, columns, ["view", "sex"], points={}, evaluation=FEWER)["m"]
    right = table.scores().argmax(axis=1) == truth.argmax(axis=1)
    poor = (columns["view"] == "AP").to_numpy()
    group = of(found, "AP")
    assert group.metrics["accuracy"].value == pytest.approx(right[poor].mean())
    assert group.contrasts["accuracy"].difference.value == pytest.approx(right[poor].mean() - right[~poor].mean())
    assert group.contrasts["accuracy"].adjusted < 0.001
    aurocs = [roc_auc_score(truth[poor, i], table.scores()[poor, i]) for i in range(classes)]
    assert group.metrics["macro_auroc"].value == pytest.approx(np.mean(aurocs))
    assert ("macro_auroc" in group.contrasts) == (classes == 3)
    assert found.comparisons == (4 if classes == 3 else 2)
    assert group.labels == []


@pytest.mark.slow
def test_any_false_difference_in_five_percent_of_reports(tmp_path):
    """Five groups in two columns, none of which differs: Holm keeps the chance of one significant p at 5 %."""
    generator = np.random.default_rng(0)
    false = 0
    for seed in range(300):
        table, columns = predictions(tmp_path, n=400, labels=["mass"], seed=seed)
        columns["view"] = generator.choice(["a", "b", "c"], 400)
        latent = table.table["y_mass"] + generator.normal(size=400)
        table.table["p_mass"] = 1 / (1 + np.exp(-latent))
        found = found_in(table, columns, ["view", "sex"], Evaluation(resamples=10))
        false += any(group.labels[0].contrast.adjusted < 0.05 for group in found.groups)
    assert 0.015 <= false / 300 <= 0.09
