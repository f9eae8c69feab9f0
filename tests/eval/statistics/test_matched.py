"""Two models at the same sensitivity or specificity: as scikit-learn's ROC curve has it, also in resamples."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Evaluation
from clinvit.eval.statistics.matched import matched_rates
from clinvit.eval.statistics.reservations import widened
from sklearn.metrics import roc_curve

LABELS = ("Mass", "Edema")


def write(path, strength, seed, n=200, digits=7, failed=()):
    truth = (np.random.default_rng(0).random((n, 2)) < 0.3).astype(float)
    truth[:7, 1] = np.nan
    latent = np.random.default_rng(seed).normal(size=truth.shape) + strength * np.nan_to_num(truth)
    scores = (1 / (1 + np.exp(-latent))).round(digits)
    cases = pd.DataFrame({"id": np.arange(n), "patient": [f"p{i // 2}" for i in range(n)], "split": "test"})
    reasons = ["cut off" if i in failed else "" for i in range(n)]
    write_predictions(path, predictions_table(cases, LABELS, truth, scores, reasons))
    return read_predictions(path)


def on_curve(truth, score, kind, level):
    known = ~np.isnan(truth)
    false, true, _ = roc_curve(truth[known], score[known], drop_intermediate=False)
    if kind == "sensitivity":
        return (1 - false)[true >= level - 1e-12].max()
    return true[1 - false >= level - 1e-12].max()


@pytest.mark.parametrize("digits", [7, 1])  # with ties
@pytest.mark.parametrize("rule", ["sensitivity=0.9", "specificity=0.8", "sensitivity=1.0", "specificity=0.5"])
def test_rates_are_those_of_the_roc_curve(rule, digits, tmp_path):
    a, b = write(tmp_path / "a.csv", 2, 1, digits=digits), write(tmp_path / "b.csv", 1, 2, digits=digits)
    kind, level = rule.split("=")
    found = matched_rates(a, b, LABELS, rule, Evaluation(resamples=50))
    for i, row in enumerate(found):
        expected = [on_curve(t.truth()[:, i], t.scores()[:, i], kind, float(level)) for t in (a, b)]
        assert (row.first, row.second) == pytest.approx(expected, abs=1e-12)
        assert row.difference.value == pytest.approx(expected[0] - expected[1], abs=1e-12)
        assert row.difference.low < row.difference.high


@pytest.mark.parametrize("kind", ["sensitivity", "specificity"])
def test_resamples_are_those_of_drawn_patients(kind, tmp_path):
    a, b = write(tmp_path / "a.csv", 2, 1), write(tmp_path / "b.csv", 1, 2)
    evaluation = Evaluation(resamples=40, seed=3)
    row = matched_rates(a, b, LABELS, f"{kind}=0.9", evaluation)[0]
    bootstrap = evaluation.bootstrap(a.table["patient"], a.truth())
    drawn = []
    for counts in np.concatenate(list(bootstrap.counts()), axis=1).T:
        cases = np.repeat(np.arange(200), counts[bootstrap.index])
        rates = [on_curve(t.truth()[cases, 0], t.scores()[cases, 0], kind, 0.9) for t in (a, b)]
        drawn.append(rates[0] - rates[1])
    patients = bootstrap.smaller_class(a.truth())[0]
    low, high = np.quantile(drawn, widened(np.array([0.025, 0.975]), patients))
    assert (row.difference.low, row.difference.high) == pytest.approx((low, high), abs=1e-12)


def test_the_interval_covers(tmp_path):
    """Two equal models: the interval of the difference holds 0."""
    inside = 0
    for seed in range(60):
        a, b = (write(tmp_path / f"{own}.csv", 1.5, 1000 + 2 * seed + own, n=400) for own in (0, 1))
        row = matched_rates(a, b, LABELS, "sensitivity=0.8", Evaluation(resamples=200, seed=seed))[0]
        inside += row.difference.low <= 0 <= row.difference.high
    assert inside / 60 >= 0.9


@pytest.mark.parametrize("rule", ["youden", "0.5", "cost=2:1", "sensitivity"])
def test_only_a_rate_can_be_matched(rule):
    with pytest.raises(UserError, match=r"matched|threshold rule"):
        Evaluation(matched=rule)


def test_by_command(tmp_path, capsys):
    write(tmp_path / "a.csv", 2, 1, failed=(3,)), write(tmp_path / "b.csv", 1, 2)
    command = ["compare", f"a={tmp_path / 'a.csv'}", f"b={tmp_path / 'b.csv'}", "--out", str(tmp_path / "r")]
    assert main([*command, "--resamples", "50", "--threshold", "0.5", "--matched", "sensitivity=0.9"]) == 0
    found = json.loads((tmp_path / "r/report.json").read_text())["comparisons"][0]["matched"]
    assert found["at"] == "sensitivity=0.9" and [row["label"] for row in found["labels"]] == list(LABELS)
    rows = pd.read_csv(tmp_path / "r/metrics.csv").query("metric == 'specificity_at_sensitivity=0.9_difference'")
    assert rows["value"].tolist() == pytest.approx([row["difference"]["value"] for row in found["labels"]], abs=1e-5)
    page, tex = ((tmp_path / "r" / name).read_text() for name in ("report.html", "report.tex"))
    assert "Specificity of both models at sensitivity 0.9, each at the threshold" in page
    assert "Specificity of both models at sensitivity 0.9 on these cases." in tex
    for name in "ab":
        table = pd.read_csv(tmp_path / f"{name}.csv", dtype=str, keep_default_na=False)
        table.drop(columns=["y_Edema", "p_Edema"]).to_csv(tmp_path / f"{name}.csv", index=False)
    assert main([*command, "--resamples", "50", "--threshold", "0.5", "--matched", "specificity=0.8"]) == 0
    assert "Both at a specificity of 0.8 on these cases: sensitivity 0." in capsys.readouterr().out
