"""Failed cases: said by truth beside the result, counted as wrong, and bounded at worst and at best."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Evaluation
from clinvit.eval.statistics.failures import failure_metrics, flows
from clinvit.eval.statistics.operating_points import OperatingPoint
from sklearn.metrics import roc_auc_score


def write(path, failed, labels=("Pneumonia",), seed=0, n=390, unknown=()):
    """N test cases, of which `failed(truth of the first label)` are, and 100 of val."""
    own = np.random.default_rng(0)
    total = n + 100
    truth = (own.random((total, len(labels))) < 0.3).astype(float)
    latent = np.random.default_rng(seed).normal(size=truth.shape) + 1.5 * truth - 1
    scores = 1 / (1 + np.exp(-latent))
    lost = failed(truth[:, 0], scores[:, 0]) & (np.arange(total) < n)
    truth[list(unknown)] = np.nan
    split = np.where(np.arange(total) < n, "test", "val")
    cases = pd.DataFrame({"id": np.arange(total), "patient": [f"p{i // 2}" for i in range(total)], "split": split})
    reasons = ["cut off" if bad else "" for bad in lost]
    write_predictions(path, predictions_table(cases, labels, truth, scores, reasons))
    return path, truth[:n], scores[:n], lost[:n]


def hard_positives(truth, scores):
    return (truth == 1) & (scores < 0.4)


def test_bounds_are_those_of_any_scores(tmp_path):
    path, truth, scores, lost = write(tmp_path / "p.csv", lambda y, p: np.arange(len(y)) % 9 == 0, n=120)
    asked = read_predictions(path).rows("test")
    bootstrap = Evaluation(resamples=50).bootstrap(asked.table["patient"], asked.truth())
    (found,) = failure_metrics(asked, [OperatingPoint(0.4, "0.4")], bootstrap)
    y, generator = truth[:, 0], np.random.default_rng(1)
    drawn = []
    for _ in range(200):
        filled = np.where(lost, generator.random(len(y)), scores[:, 0])
        drawn.append([roc_auc_score(y, filled), (filled[y == 1] >= 0.4).mean(), (filled[y == 0] < 0.4).mean()])
    right = np.where(lost, y * 2.0 - 0.5, scores[:, 0])
    wrong = np.where(lost, 1.5 - y * 2, scores[:, 0])
    for i, name in enumerate(("auroc", "sensitivity", "specificity")):
        low, high = found[f"{name}_worst_case"], found[f"{name}_best_case"]
        assert low.value <= min(d[i] for d in drawn) and high.value >= max(d[i] for d in drawn)
        assert np.isnan(low.low) and "whatever scores" in low.reason
    assert found["auroc_worst_case"].value == pytest.approx(roc_auc_score(y, wrong), abs=1e-12)
    assert found["auroc_best_case"].value == pytest.approx(roc_auc_score(y, right), abs=1e-12)
    strict = found["sensitivity_failed_as_wrong"]
    assert strict.value == found["sensitivity_worst_case"].value == pytest.approx((wrong >= 0.4)[y == 1].mean())
    assert strict.low < strict.value < strict.high
    predicted = right >= 0.4
    assert found["ppv_best_case"].value == pytest.approx(y[predicted].mean())
    assert found["npv_worst_case"].value == pytest.approx((1 - y)[wrong < 0.4].mean())


def test_nothing_is_said_where_nothing_failed(tmp_path):
    asked = read_predictions(write(tmp_path / "p.csv", lambda y, p: y > 2)[0]).rows("test")
    bootstrap = Evaluation(resamples=20).bootstrap(asked.table["patient"], asked.truth())
    assert failure_metrics(asked, [OperatingPoint(0.4, "0.4")], bootstrap) == [{}]


def test_the_way_from_requested_to_analysed(tmp_path):
    path, *_ = write(tmp_path / "p.csv", hard_positives, unknown=range(30))
    (flow,) = flows(read_predictions(path).rows("test"))
    assert flow.requested == 390 == sum(flow[1:])
    assert flow.unknown + flow.failed_unknown == 30 and flow.failed_negative == 0 < flow.failed_positive


def test_every_form_of_the_report_says_it(tmp_path, capsys):
    path, truth, scores, lost = write(tmp_path / "p.csv", hard_positives)
    out = tmp_path / "r"
    assert main(["evaluate", str(path), "--out", str(out), "--resamples", "100", "--threshold", "0.4"]) == 0
    words = capsys.readouterr().out
    failed, share = lost.sum(), 100 * lost.sum() / truth.sum()
    line = f"{390 - failed} of 390 requested; {failed} failed, all positive ({share:.0f} % of the positive cases)."
    assert line in words.splitlines()[1], "it stands in the same line as the AUROC"
    strict = ((scores[:, 0] >= 0.4) & ~lost)[truth[:, 0] == 1].mean()
    assert f"counted as wrong: sensitivity {strict:.2f}" in words and "in place of 1.00" in words
    content, page, tex = (
        (out / name).read_text(encoding="utf-8") for name in ("report.json", "report.html", "report.tex")
    )
    assert line in " ".join(page.split()) and line.replace("%", r"\%") in tex
    own = json.loads(content)["models"][0]["labels"][0]
    assert own["flow"]["failed_positive"] == failed and own["metrics"]["sensitivity_failed_as_wrong"]["value"] == strict
    natural = own["natural_frequencies"]
    assert natural["prevalence"] == truth.mean() and natural["found"] == round(natural["with_finding"] * strict)
    assert "missed or not read" in page
    assert own["metrics"]["auroc_worst_case"]["value"] < own["metrics"]["auroc"]["value"]
    table = pd.read_csv(out / "metrics.csv").set_index("metric")["value"]
    assert table["failed_positive"] == failed and table["sensitivity_failed_as_wrong"] == pytest.approx(
        strict, abs=1e-5
    )


def test_a_comparison_names_who_failed(tmp_path, capsys):
    one, *_, first = write(tmp_path / "a.csv", hard_positives)
    two, *_, second = write(tmp_path / "b.csv", lambda y, p: np.arange(len(y)) % 50 == 0, seed=1)
    assert main(["compare", f"a={one}", f"b={two}", "--out", str(tmp_path / "r"), "--resamples", "50"]) == 0
    words, both = capsys.readouterr().out, (~first & ~second).sum()
    start = f"{both} cases of 390 requested, those that both scored ({first.sum()} failed in a; "
    assert f"{start}{second.sum()} failed in b, " in words and "positive (" in words.split("failed in b, ")[1]
    found = json.loads((tmp_path / "r/report.json").read_text())["comparisons"][0]
    assert (found["requested"], found["cases"]) == (390, both)
    assert (found["failed_first"], found["failed_second"]) == (first.sum(), second.sum())


def test_several_findings_and_their_failures(tmp_path, capsys):
    path, *_ = write(tmp_path / "p.csv", hard_positives, labels=("Mass", "Edema"))
    assert main(["evaluate", str(path), "--out", str(tmp_path / "r"), "--resamples", "20"]) == 0
    words = capsys.readouterr().out
    assert "failed, all positive for Mass, " in words and " positive for Edema." in words
    assert "the mean AUROC of 2 findings would lie between" in words


def test_a_threshold_chosen_on_the_same_cases_is_said_to_be(tmp_path, capsys):
    path, *_ = write(tmp_path / "p.csv", hard_positives)
    command = ["evaluate", str(path), "--split", "val", "--out", str(tmp_path / "r"), "--resamples", "20"]
    assert main(command) == 0
    assert "chosen on these same cases, so that it looks better than it is: sensitivity" in capsys.readouterr().out
