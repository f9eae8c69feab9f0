"""Sample sizes: those of pmvalsampsize and of published examples, and the power that they promise, in simulation."""

import numpy as np
import pytest
from clinvit.cli import main
from clinvit.eval.statistics.delong import delong, delong_test
from clinvit.eval.statistics.planning import (
    auroc_error,
    beta_logits,
    cases_for_auroc,
    cases_for_auroc_width,
    cases_for_difference,
    logits_of,
    normal_logits,
    validation_cases,
    with_clusters,
)
from scipy.special import expit
from scipy.stats import norm


# pmvalsampsize 0.2.0 of PyPI; 905 and 4,252 are also printed by Riley et al. 2021 (Statistics in Medicine 40:4230). It
# steps the standard error of O/E by 0.0001 and draws a million scores for the slope, so that these differ by a few.
@pytest.mark.parametrize(
    ("auroc", "prevalence", "logits", "widths", "expected"),
    [
        (0.8, 0.018, normal_logits(-5, 2.5), (1, 0.4, 0.1), (905, 1136, 4252)),
        (0.8, 0.43, beta_logits(1.33, 1.75), (0.2, 0.2, 0.1), (510, 2136, 308)),
        (0.8, 0.1, logits_of(0.8, 0.1), (0.2, 0.2, 0.1), (3461, 4190, 836)),
    ],
)
def test_validation_as_pmvalsampsize(auroc, prevalence, logits, widths, expected):
    found = validation_cases(auroc, prevalence, logits, widths)
    assert found.auroc == expected[2]
    assert (found.observed_expected, found.slope) == pytest.approx(expected[:2], rel=0.004)
    assert found.cases == max(found.observed_expected, found.slope, found.auroc)


def test_logits_go_with_their_auroc_and_prevalence():
    p = expit(logits_of(0.83, 0.2))
    assert p.mean() == pytest.approx(0.2)
    generator = np.random.default_rng(0)
    p = generator.choice(p, 60_000)
    truth = (generator.random(60_000) < p).astype(float)
    assert delong(truth, p[:, None]).auroc[0] == pytest.approx(0.83, abs=0.01)


def binormal(generator, auroc, cases, prevalence, shared=None):
    """Truth and scores of one model, or of two with the AUROCs given and a common part."""
    truth = (np.arange(cases) < round(cases * prevalence)).astype(float)
    strength = np.sqrt(2) * norm.ppf(auroc)
    if shared is None:
        return truth, generator.normal(size=cases) + strength * truth
    common = generator.normal(size=cases) * np.sqrt(shared)
    noise = generator.normal(size=(2, cases)) * np.sqrt(1 - shared)
    return truth, *(common + own + strength[i] * truth for i, own in enumerate(noise))


def test_the_error_is_that_of_drawn_cases():
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        truth, score = binormal(generator, 0.8, 400, 0.2)
        drawn.append(delong(truth, score[:, None]).auroc[0])
    assert np.std(drawn) == pytest.approx(auroc_error(0.8, 0.2, 400), rel=0.12)


def test_a_width():
    cases = cases_for_auroc_width(0.9, 0.3, 0.08)
    assert 2 * 1.959964 * auroc_error(0.9, 0.3, cases) <= 0.08 < 2 * 1.959964 * auroc_error(0.9, 0.3, cases - 1)


def test_power_of_a_minimum():
    cases, shown, generator = cases_for_auroc(0.85, 0.78, 0.3, 0.95, 0.8), 0, np.random.default_rng(0)
    for _ in range(400):
        truth, score = binormal(generator, 0.85, cases, 0.3)
        found = delong(truth, score[:, None])
        shown += found.auroc[0] - norm.ppf(0.95) * np.sqrt(found.covariance[0, 0]) > 0.78
    assert 0.72 <= shown / 400 <= 0.9
    assert cases_for_auroc(0.8, 0.8, 0.3, 0.95, 0.8) is None


def test_power_of_a_comparison():
    generator, strengths = np.random.default_rng(0), np.array([0.85, 0.85])
    pilot = []
    for _ in range(300):
        truth, one, two = binormal(generator, strengths, 400, 0.4, 0.5)
        pilot.append(delong(truth, np.column_stack([one, two])).auroc)
    correlation = np.corrcoef(np.transpose(pilot))[0, 1]
    cases, shown = cases_for_difference(0.85, 0.85, correlation, 0.4, 0.05, 0.8), 0
    for _ in range(300):
        truth, one, two = binormal(generator, strengths, cases, 0.4, 0.5)
        shown += delong_test(truth, one, two).difference.low > -0.05
    assert 0.72 <= shown / 300 <= 0.88
    assert cases_for_difference(0.8, 0.85, 0.5, 0.4, 0.05, 0.8) is None


def test_clusters():
    assert with_clusters(100, 1, 0.5) == 100 and with_clusters(100, 3, 0.5) == 200


def said(capsys, *words):
    code = main(["plan", *words])
    text = capsys.readouterr()
    return code, text.err if code else text.out


def test_by_command(capsys):
    code, words = said(capsys, "sensitivity", "--expected", "0.95", "--minimum", "0.9", "--prevalence", "0.02")
    assert code == 0 and words.startswith("203 positive cases") and "10,150 cases in all" in words
    words = said(capsys, "specificity", "--expected", "0.9", "--width", "0.1", "--prevalence", "0.5")[1]
    assert words.startswith("141 negative cases") and "282 cases in all" in words
    words = said(capsys, "auroc", "--expected", "0.8", "--width", "0.1", "--prevalence", "0.1", "--per-patient", "2")[1]
    assert words.startswith("836 cases") and "1,254 cases, of 627 patients" in words
    options = ["--expected", "0.8", "--prevalence", "0.018", "--scores", "normal:-5,2.5", "--widths", "1,.4,.1"]
    words = said(capsys, "validation", *options)[1]
    assert words.startswith("4,252 cases") and "AUROC: 4,252 cases" in words
    words = said(capsys, "comparison", "--expected", ".85", "--other", ".85", "--margin", ".05", "--prevalence", ".2")[
        1
    ]
    assert "not worse than the other by 0.05" in words and "correlation of 0.5" in words


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["sensitivity"], "name --minimum to show one, or --width"),
        (["sensitivity", "--minimum", "0.8", "--width", "0.1"], "name --minimum to show one, or --width"),
        (["sensitivity", "--minimum", "0.95"], "no number of cases shows 0.95"),
        (["sensitivity", "--width", "0.1", "--power", "0.9"], "--power goes with --minimum"),
        (["auroc", "--minimum", "0.8", "--margin", "0.1"], "--margin is not for auroc"),
        (["auroc", "--minimum", "80"], "--minimum 80: a share"),
        (["auroc", "--minimum", "0.8999999"], "more than a billion cases"),
        (["comparison"], "name the AUROC that is expected of the other model"),
        (["comparison", "--other", "0.95"], "no number of cases shows that 0.9 is better than the other, 0.95"),
        (["comparison", "--other", "0.8", "--correlation", "1"], "--correlation 1: between"),
        (["validation", "--scores", "gamma:1,2"], "write normal:MEAN,STD or beta:A,B"),
        (["validation", "--scores", "beta:0,2"], "both values of a beta are above 0"),
        (["validation", "--widths", "0.1"], "3 numbers with commas between"),
        (["auroc", "--minimum", "0.8", "--per-patient", "0"], "at least one case of each"),
        (["auroc", "--minimum", "0.8", "--within", "0.3"], "--within needs --per-patient"),
    ],
)
def test_what_is_no_question_is_refused(words, reason, capsys):
    code, text = said(capsys, *words, "--expected", "0.9", "--prevalence", "0.1")
    assert code == 2 and reason in text and text.count("\n") == 1
