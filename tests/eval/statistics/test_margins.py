"""Non-inferiority and equivalence with a stated margin: verdicts from the interval, with the error they promise."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Evaluation, compare
from clinvit.eval.statistics.intervals import Estimate
from clinvit.eval.statistics.margins import margin_test
from clinvit.eval.statistics.questions import Margin
from scipy.stats import norm


def write(path, strength, seed, n=300, labels=("Mass",), shared=0.8):
    """Half of the cases positive; scores of two models of the same strength differ by their own noise."""
    truth = np.tile(np.arange(n) % 2, (len(labels), 1)).T.astype(float)
    common = np.random.default_rng(0).normal(size=truth.shape)
    own = np.random.default_rng(seed).normal(size=truth.shape)
    latent = strength * truth + np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    cases = pd.DataFrame({"id": np.arange(n), "patient": [f"p{i}" for i in range(n)], "split": "test"})
    write_predictions(path, predictions_table(cases, labels, truth, norm.cdf(latent - strength / 2), [""] * n))
    return path


def comparison(tmp_path, strengths=(1.4, 1.4), **options):
    tables = [
        read_predictions(write(tmp_path / f"{i}.csv", strength, i + 1, **options))
        for i, strength in enumerate(strengths)
    ]
    cuts = dict.fromkeys(tables[0].labels, 0.5)
    return compare(*tables, Evaluation(resamples=200), thresholds=(cuts, cuts))


def with_difference(found, value, low, high, reason=""):
    estimate = Estimate(value, low, high, reason)
    return replace(found, macro=found.macro | {"auroc": estimate})


@pytest.mark.parametrize(
    ("question", "ends", "verdict"),
    [
        ("non-inferiority", (-0.04, 0.02), "shown"),
        ("non-inferiority", (0.06, 0.12), "shown"),
        ("non-inferiority", (-0.06, 0.02), "not shown"),
        ("non-inferiority", (-0.12, -0.06), "refuted"),
        ("equivalence", (-0.04, 0.02), "shown"),
        ("equivalence", (0.06, 0.12), "refuted"),
        ("equivalence", (-0.12, -0.06), "refuted"),
        ("equivalence", (-0.02, 0.06), "not shown"),
    ],
)
def test_verdicts_are_those_of_the_interval(question, ends, verdict, tmp_path):
    own = with_difference(comparison(tmp_path, labels=("Mass", "Edema")), sum(ends) / 2, *ends)
    found = margin_test(own, Margin(question, 0.05))
    assert found.verdict == verdict and (found.p < 0.025) == (verdict == "shown")
    assert (found.needed == 0) == (verdict == "shown")


def test_no_verdict_where_the_interval_cannot_be_trusted(tmp_path):
    own = comparison(tmp_path, labels=("Mass", "Edema"))
    for ends in ((np.nan, np.nan, "no interval"), (-0.01, 0.01, "too narrow to trust")):
        found = margin_test(with_difference(own, 0.0, *ends), Margin("equivalence", 0.05))
        assert found.verdict == "" and np.isnan(found.p) and found.needed is None
    few = comparison(tmp_path, n=12)  # six patients per class
    assert margin_test(few, Margin("non-inferiority", 0.5)).verdict == ""


def test_what_is_compared(tmp_path):
    own = comparison(tmp_path, labels=("Mass", "Edema"))
    found = margin_test(own, Margin("non-inferiority", 0.05, "Edema:auroc"))
    assert found.difference == own.tests[1].difference and found.label == "Edema"
    assert margin_test(own, Margin("non-inferiority", 0.05)).difference == own.macro["auroc"]
    sensitivity = margin_test(own, Margin("non-inferiority", 0.05, "Mass:sensitivity"))
    assert sensitivity.difference == own.decisions.sensitivity[0]
    single = comparison(tmp_path)
    assert margin_test(single, Margin("non-inferiority", 0.05, "specificity")).label == "Mass"
    for metric, said in (("Mas:auroc", "no finding 'Mas'"), ("accuracy", "same exclusive classes")):
        with pytest.raises(UserError, match=said):
            margin_test(own, Margin("equivalence", 0.05, metric))


def test_so_many_cases_are_needed(tmp_path):
    """With the number that is named the standard error leaves the test its power at the difference found."""
    own = with_difference(comparison(tmp_path, labels=("Mass", "Edema")), -0.01, -0.08, 0.06)
    needed = margin_test(own, Margin("non-inferiority", 0.05)).needed
    error = 0.07 / norm.ppf(0.975) * np.sqrt(300 / (300 + needed))
    assert norm.sf(norm.ppf(0.975) - 0.04 / error) == pytest.approx(0.8, abs=0.002)
    hopeless = with_difference(own, -0.06, -0.13, 0.01)
    assert margin_test(hopeless, Margin("non-inferiority", 0.05)).needed is None


@pytest.mark.thorough
def test_an_inferior_model_is_rarely_shown_not_to_be(tmp_path):
    """At a true difference of minus the margin, non-inferiority is shown in about 2.5 % of the runs."""
    better, rounds, shown = 1.4, 200, 0
    worse = np.sqrt(2) * norm.ppf(norm.cdf(better / np.sqrt(2)) - 0.05)
    for seed in range(rounds):
        generator = np.random.default_rng(seed)
        truth = np.arange(200) % 2
        common = generator.normal(size=200)
        tables = []
        for name, strength in (("a", worse), ("b", better)):
            latent = strength * truth + np.sqrt(0.5) * (common + generator.normal(size=200))
            columns = {"id": range(200), "patient": [f"p{i}" for i in range(200)], "split": "test", "status": "ok"}
            tables.append(pd.DataFrame(columns | {"reason": "", "y_M": truth, "p_M": norm.cdf(latent - 1), "n": name}))
        own = compare(*tables, Evaluation(resamples=20), thresholds=({"M": 0.5}, {"M": 0.5}))
        shown += margin_test(own, Margin("non-inferiority", 0.05)).verdict == "shown"
    assert shown / rounds <= 0.06


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("superiority", 0.1), "question 'superiority'"),
        (("equivalence", 0.0), "margin 0"),
        (("equivalence", 1.0), "margin 1"),
        (("equivalence", 0.1, "auc"), "metric 'auc'"),
    ],
)
def test_what_is_no_question_is_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        Margin(*wrong)


def test_by_command(tmp_path, capsys):
    files = [f"{name}={write(tmp_path / f'{name}.csv', 1.4, seed)}" for seed, name in enumerate(("new", "old"))]
    command = ["compare", *files, "--out", str(tmp_path / "r"), "--resamples", "100", "--threshold", "0.5"]
    assert main([*command, "--non-inferiority", "0.2"]) == 0
    said = "Non-inferiority of new to old in AUROC for Mass with a margin of 0.2: shown (difference"
    assert said in capsys.readouterr().out
    found = json.loads((tmp_path / "r/report.json").read_text())["comparisons"][0]["margin"]
    assert (found["question"], found["margin"], found["verdict"]) == ("non-inferiority", 0.2, "shown")
    for name in ("report.html", "report.tex"):
        assert said in " ".join((tmp_path / "r" / name).read_text().split())
    assert main([*command, "--equivalence", "0.001", "--margin-of", "sensitivity"]) == 0
    words = capsys.readouterr().out
    assert "Equivalence of new and old in sensitivity for Mass with a margin of 0.001: " in words
    assert main([*command, "--equivalence", "0.1", "--non-inferiority", "0.1"]) == 2
    assert "two questions" in capsys.readouterr().err
    assert main([*command, "--margin-of", "auroc"]) == 2
    assert "needs --non-inferiority" in capsys.readouterr().err
