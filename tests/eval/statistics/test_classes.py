"""Exclusive classes and decisions: against scikit-learn, by brute force, and in the report."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Context, Evaluation, evaluate
from clinvit.eval.statistics.classes import class_result, decided_classes, detailed_labels, exclusive, why_not_exclusive
from clinvit.eval.statistics.compare import compare
from clinvit.eval.statistics.intervals import PatientBootstrap
from clinvit.eval.statistics.mcnemar import mcnemar
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)
from statsmodels.stats.proportion import proportion_confint

CASCADE = ("no detachment", "macula intact", "macula detached")


def drawn(classes: int, cases: int, seed: int = 0, strength: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """True classes (N,), each of them present, and softmax scores (N, L) that lean towards them."""
    truth = np.random.default_rng(0).permutation(np.arange(cases) % classes)
    logits = np.random.default_rng(seed).normal(size=(cases, classes))
    logits[np.arange(cases), truth] += strength
    return truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def table(path, labels, classes, scores, *, failed=(), decision=None, unknown=(), per_patient=2, val=0):
    """A predictions table read back from a file; the last `val` cases are validation cases."""
    count = len(classes)
    truth = np.eye(len(labels))[classes]
    truth[list(unknown)] = np.nan
    split = np.where(np.arange(count) < count - val, "test", "val")
    cases = pd.DataFrame(
        {
            "id": [f"clip{i}" for i in range(count)],
            "patient": [f"{where}{i // per_patient}" for i, where in enumerate(split)],
            "split": split,
        }
    )
    reasons = ["video truncated" if i in failed else "" for i in range(count)]
    write_predictions(path, predictions_table(cases, labels, truth, scores, reasons, decision))
    return read_predictions(path)


def cascade(path, *, seed=0, **options):
    """Three classes decided by the thresholds of two models, which is not the largest score."""
    truth, scores = drawn(3, 120, seed)
    detached, macula = 1 - scores[:, 0] >= 0.4, scores[:, 2] >= 0.35 * (1 - scores[:, 0])
    decision = [CASCADE[0] if not d else CASCADE[2] if m else CASCADE[1] for d, m in zip(detached, macula)]
    options = {"failed": (3, 4, 70), "unknown": (7,), "val": 20} | options
    return table(path, CASCADE, truth, scores, decision=decision, **options), truth, scores, np.array(decision)


def test_metrics_agree_with_scikit_learn(tmp_path):
    labels = [f"class {i}" for i in range(7)]
    truth, scores = drawn(7, 210)
    found = class_result(table(tmp_path / "p.csv", labels, truth, scores), Evaluation(resamples=50))
    decided = scores.argmax(axis=1)
    expected = {
        "accuracy": accuracy_score(truth, decided),
        "top5_accuracy": top_k_accuracy_score(truth, scores, k=5),
        "balanced_accuracy": balanced_accuracy_score(truth, decided),
        "macro_f1": f1_score(truth, decided, average="macro"),
        "kappa": cohen_kappa_score(truth, decided),
        "mcc": matthews_corrcoef(truth, decided),
        "baseline_accuracy": np.bincount(truth).max() / len(truth),
        "accuracy_failed_as_wrong": accuracy_score(truth, decided),
    }
    assert {name: e.value for name, e in found.metrics.items()} == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(found.confusion, confusion_matrix(truth, decided))
    per_class = {
        "sensitivity": recall_score(truth, decided, average=None),
        "specificity": [recall_score(truth != i, decided != i) for i in range(7)],
        "ppv": precision_score(truth, decided, average=None),
        "f1": f1_score(truth, decided, average=None),
    }
    for name, values in per_class.items():
        np.testing.assert_allclose([e.value for e in found.per_class[name]], values, atol=1e-12)
    assert np.isnan(found.metrics["baseline_accuracy"].low), "a baseline has no interval"
    every = [e for name, e in found.metrics.items() if name != "baseline_accuracy"]
    every += itertools.chain(*found.per_class.values())
    assert all(e.low < e.value < e.high for e in every)


def test_intervals_are_the_percentiles_of_resampled_patients(tmp_path):
    """Each metric computed again with scikit-learn on every resample, case by case."""
    truth, scores = drawn(4, 600)
    predictions = table(tmp_path / "p.csv", list("abcd"), truth, scores)
    found = class_result(predictions, Evaluation(resamples=40, seed=3))
    bootstrap = PatientBootstrap(predictions.table["patient"], 40, 3)
    counts = np.concatenate(list(bootstrap.counts()), axis=1)
    decided, draws = scores.argmax(axis=1), {"accuracy": [], "kappa": [], "mcc": [], "macro_f1": []}
    for resample in counts.T:
        rows = np.repeat(np.arange(600), resample[bootstrap.index])
        draws["accuracy"].append(accuracy_score(truth[rows], decided[rows]))
        draws["kappa"].append(cohen_kappa_score(truth[rows], decided[rows]))
        draws["mcc"].append(matthews_corrcoef(truth[rows], decided[rows]))
        draws["macro_f1"].append(f1_score(truth[rows], decided[rows], average="macro"))
    share, variance = found.metrics["accuracy"].value, np.var(draws.pop("accuracy")) * 300 / 299
    size = share * (1 - share) / variance * (student.ppf(0.975, 599) / student.ppf(0.975, 299)) ** 2
    assert found.metrics["accuracy"].method == "wilson, effective sample size"
    assert (found.metrics["accuracy"].low, found.metrics["accuracy"].high) == pytest.approx(
        proportion_confint(share * size, size, method="wilson"), abs=1e-12
    )
    for name, values in draws.items():
        assert (found.metrics[name].low, found.metrics[name].high) == pytest.approx(
            tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12
        )
        assert found.metrics[name].method == "bootstrap"


@pytest.mark.parametrize(
    ("truth", "scores", "why"),
    [
        ([[1, 0], [0, 1]], [[0.3, 0.7], [0.9, 0.1]], ""),
        ([[1, 0], [np.nan, np.nan]], [[0.3, 0.7], [0.9995, 0.0]], ""),
        ([[1, 0], [1, 1]], [[0.3, 0.7], [0.9, 0.1]], "case 'c1' has 2 labels"),
        ([[1, 0], [0, 0]], [[0.3, 0.7], [0.9, 0.1]], "case 'c1' has 0 labels"),
        ([[1, 0], [0, 1]], [[0.3, 0.7], [0.9, 0.102]], "'c1' add up to 1.002, not 1"),
        ([[1], [0]], [[0.3], [0.7]], "one label only"),
    ],
)
def test_when_labels_are_exclusive(tmp_path, truth, scores, why):
    cases = pd.DataFrame({"id": ["c0", "c1"], "patient": ["a", "b"], "split": "test"})
    labels = ["x", "y"][: len(truth[0])]
    write_predictions(tmp_path / "p.csv", predictions_table(cases, labels, np.array(truth), np.array(scores), ["", ""]))
    found = why_not_exclusive(read_predictions(tmp_path / "p.csv"))
    assert (why in found) if why else found == ""


def test_nothing_scored_is_not_exclusive_and_decisions_need_exclusive_classes(tmp_path):
    truth, scores = drawn(3, 4)
    assert why_not_exclusive(table(tmp_path / "f.csv", CASCADE, truth, scores, failed=range(4))) == "no case is scored"
    both = table(tmp_path / "p.csv", CASCADE, truth, scores / 2, decision=[CASCADE[0]] * 4)
    with pytest.raises(DataError, match=r"p.csv: a column 'decision' needs exclusive classes, but the scores of"):
        exclusive(both)


@pytest.mark.parametrize(
    ("row", "cell", "report"),
    [
        (
            0,
            "macula detatched",
            r"row 2: decision 'macula detatched' is none of the labels .did you mean 'macula detached'",
        ),
        (0, "", "row 2: a scored case without decision"),
        (3, "no detachment", "row 5: a failed case carries the decision 'no detachment'"),
    ],
)
def test_wrong_decisions_are_refused(tmp_path, row, cell, report):
    cascade(tmp_path / "p.csv")
    cells = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False)
    cells.loc[row, "decision"] = cell
    cells.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(DataError, match=report):
        read_predictions(tmp_path / "p.csv")


def test_cascade_is_judged_by_its_decisions(tmp_path):
    predictions, truth, scores, decision = cascade(tmp_path / "p.csv")
    asked = predictions.rows("test")
    found = class_result(asked, Evaluation(resamples=100))
    scored = np.array([i not in (3, 4, 70) for i in range(100)])
    counted = scored & (np.arange(100) != 7)
    decided = np.array([CASCADE.index(name) for name in decision[:100]])
    right = decided == truth[:100]
    assert (found.cases, found.failed, found.unknown, found.ruled) == (96, 3, 1, True)
    assert found.differing == (decided != scores[:100].argmax(axis=1))[scored].sum() > 5
    assert found.metrics["accuracy"].value == pytest.approx(right[counted].mean())
    assert found.metrics["accuracy_failed_as_wrong"].value == pytest.approx(right[counted].sum() / 99)
    assert found.confusion.sum() == 96
    assert (decided_classes(asked)[~scored] == -1).all()
    assert "top5_accuracy" not in found.metrics


def test_undefined_metrics_have_reasons(tmp_path):
    truth = np.zeros(12, dtype=int)
    found = class_result(
        table(tmp_path / "p.csv", CASCADE, truth, np.tile([0.5, 0.3, 0.2], (12, 1))), Evaluation(resamples=20)
    )
    reasons = {name: e.reason for name, e in found.metrics.items() if np.isnan(e.value)}
    assert reasons == {
        "balanced_accuracy": "cases of one class only",
        "macro_f1": "cases of one class only",
        "kappa": "all cases or all decisions are of one class",
        "mcc": "all cases or all decisions are of one class",
    }
    assert found.metrics["accuracy"].value == 1
    assert found.metrics["accuracy"].low < 0.9  # Wilson's: resampling shows no variation
    assert found.per_class["sensitivity"][1].reason == "no case of this class"
    assert found.per_class["specificity"][0].reason == "no case of another class"
    assert found.per_class["ppv"][2].reason == "never decided for"
    nothing = class_result(table(tmp_path / "q.csv", CASCADE, truth, np.full((12, 3), 1 / 3), failed=range(12)))
    assert nothing.metrics["accuracy"].reason == "no scored case with known truth"
    assert nothing.metrics["accuracy_failed_as_wrong"].value == 0


def test_a_class_without_cases_is_left_out_of_the_means_and_said(tmp_path):
    truth, scores = drawn(2, 40)
    scores = np.column_stack([0.9 * scores, np.full(40, 0.1)])
    metric = class_result(table(tmp_path / "p.csv", CASCADE, truth, scores), Evaluation(resamples=20)).metrics[
        "balanced_accuracy"
    ]
    assert metric.value == pytest.approx(balanced_accuracy_score(truth, scores.argmax(axis=1)))
    assert metric.reason == "over 2 of 3 classes: the others have no case"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=11), st.data())
def test_mcnemar_against_all_signs_and_the_binomial_test(gaps, data):
    gap = np.array(gaps)
    b, c = (gap == 1).sum(), (gap == -1).sum()
    expected = binomtest(int(b), int(b + c)).pvalue if b + c else 1.0
    assert mcnemar(gap, np.arange(len(gap))) == pytest.approx(expected)
    patient = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(gap), max_size=len(gap))))
    balance = np.bincount(patient, weights=gap)
    totals = np.array([signs @ balance for signs in map(np.array, itertools.product([-1, 1], repeat=len(balance)))])
    assert mcnemar(gap, patient) == pytest.approx((np.abs(totals) >= abs(gap.sum())).mean())


def test_two_models_are_compared_by_their_decisions(tmp_path):
    one, truth, _, decision = cascade(tmp_path / "a.csv")
    classes, scores = drawn(3, 120, seed=1, strength=0.8)
    turned = ("macula detached", "no detachment", "macula intact")  # the same classes in another order
    two = table(
        tmp_path / "b.csv", turned, (classes + 1) % 3, np.roll(scores, 1, axis=1), failed=(5,), unknown=(7,), val=20
    )
    found = compare(one, two, Evaluation(resamples=100))
    both = np.array([i for i in range(100) if i not in (3, 4, 5, 7, 70)])
    first = np.array([CASCADE.index(name) for name in decision])[both] == truth[both]
    second = scores[both].argmax(axis=1) == truth[both]
    assert found.classes.cases == len(both)
    assert found.classes.accuracy.value == pytest.approx(first.mean() - second.mean())
    assert found.classes.accuracy.low < found.classes.accuracy.value < found.classes.accuracy.high
    assert (found.classes.only_first, found.classes.only_second) == ((first & ~second).sum(), (second & ~first).sum())
    other = table(
        tmp_path / "c.csv", (*CASCADE, "other"), truth, np.column_stack([scores, np.zeros(120)]), unknown=(7,), val=20
    )
    assert compare(one, other, Evaluation(resamples=10)).classes is None


def read_report(out):
    html = (out / "report.html").read_text(encoding="utf-8")
    return json.loads((out / "report.json").read_text(encoding="utf-8")), html, pd.read_csv(out / "metrics.csv")


def test_report_of_a_cascade_beside_one_model(tmp_path):
    one, *_ = cascade(tmp_path / "a.csv")
    truth, scores = drawn(3, 120, seed=1, strength=0.8)
    two = table(tmp_path / "b.csv", CASCADE, truth, scores, unknown=(7,), val=20)
    evaluate(
        {"cascade": one, "<b>one": two},
        tmp_path / "out",
        evaluation=Evaluation(resamples=100),
        context=Context(unit="clip"),
    )
    report, html, metrics = read_report(tmp_path / "out")
    assert report["headline"][0].startswith("cascade: accuracy 0.")
    assert "over 3 classes on 96 clips of 50 patients." in report["headline"][0]
    assert "With 3 failed clips counted as wrong: 0." in report["headline"][1]
    assert "accuracy difference" in report["headline"][2]
    found = report["models"][0]["classes"]
    words = " ".join(html.split())
    assert "decisions come from the table (rule of the cascade), not from the largest score; the two differ in" in words
    assert f"{found['decisions_not_the_largest_score']} of 97 scored cases" in words
    assert "&lt;b&gt;one: the decision is the class with the largest score." in words
    assert "<b>one" not in html
    assert sum(cell["cases"] for cell in found["confusion"]) == found["n"] == 96
    assert 0 <= report["comparisons"][0]["classes"]["mcnemar_p"] <= 1
    own = metrics[metrics["model"] == "cascade"].set_index(["metric", "label"])["value"]
    assert own["classes_accuracy"].item() == pytest.approx(found["metrics"]["accuracy"]["value"], abs=1e-5)
    assert own["class_ppv", "macula intact"] == pytest.approx(found["labels"][1]["ppv"]["value"], abs=1e-5)


def test_report_of_many_classes_stays_small_and_says_what_is_left_out(tmp_path):
    labels = [f"action {i}" for i in range(30)]
    truth, scores = drawn(30, 900)
    rare = np.flatnonzero(truth >= 18)[::2]  # the first 18 classes are the most frequent
    predictions = table(tmp_path / "p.csv", labels, truth, scores, failed=rare[rare < 600], val=300)
    assert detailed_labels(predictions, "val") != labels
    assert len(detailed_labels(predictions, "test")) == 12
    evaluate({"m": predictions, "again": predictions}, tmp_path / "out", evaluation=Evaluation(resamples=50))
    report, html, metrics = read_report(tmp_path / "out")
    shown = [row["label"] for row in report["models"][0]["labels"] if row["metrics"]["auroc"]["low"] is not None]
    assert shown == list(detailed_labels(predictions, "test"))
    words = " ".join(html.split())
    assert "Shown: the 12 most frequent of 30 classes." in words
    assert "without numbers" in words
    assert "data:image/png;base64," in html
    decisions = re.search(r'<section aria-labelledby="decisions">.*?</section>', html, re.S)[0]
    assert len(html) - len(decisions) < 500_000 and len(decisions) < 100_000
    left_out = next(row for row in report["models"][0]["labels"] if row["label"] not in shown)
    assert left_out["metrics"]["auroc"]["value"] is not None
    assert "none of the 12 most frequent" in left_out["metrics"]["auroc"]["reason"]
    assert "none of the 12 most frequent" in left_out["threshold"]["reason"]
    assert len(report["comparisons"][0]["labels"]) == 12
    for metric in ("auroc", "class_sensitivity", "class_f1"):
        assert set(metrics.loc[metrics["metric"] == metric, "label"]) == set(labels)
    assert metrics.loc[metrics["metric"] == "class_sensitivity", "low"].notna().all()


def test_rare_classes_among_many_are_in_the_mean_over_all_and_the_page_says_so(tmp_path):
    labels = [f"action {i}" for i in range(30)]
    truth, scores = drawn(30, 9 * 30)
    words = {}
    for kind, path in (("exclusive", "many.csv"), ("multi-label", "each.csv")):
        predictions = table(tmp_path / path, labels, truth, scores, per_patient=1)
        evaluate({"m": predictions}, tmp_path / kind, evaluation=Evaluation(resamples=20, kind=kind))
        report, html, _ = read_report(tmp_path / kind)
        words[kind] = " ".join(html.split())
        assert "no mean over findings" not in words[kind]
        macro = report["models"][0]["macro"]["auroc"]
        assert macro["low"] is None and macro["value"] > 0.5
        assert report["models"][0]["left_out_of_macro"] == []
    assert "of fewer than 10 patients" in words["exclusive"]
    assert "the macro mean is over all, without interval" in words["exclusive"]
    assert "30 of 30" in words["exclusive"] and "no macro mean includes the finding" not in words["exclusive"]


def test_a_report_of_labels_that_do_not_exclude_each_other_has_no_classes(tmp_path):
    truth, scores = drawn(3, 60)
    evaluate(
        {"m": table(tmp_path / "p.csv", CASCADE, truth, scores * 0.9)},
        tmp_path / "out",
        evaluation=Evaluation(resamples=20),
    )
    report, html, metrics = read_report(tmp_path / "out")
    assert report["headline"][0].startswith("Macro AUROC")
    assert "classes" not in report["models"][0]
    assert 'id="classes"' not in html
    assert not metrics["metric"].str.startswith("class").any()
