"""Do the intervals hold the truth that `test_coverage.py` leaves out? Maps, tiles, numbers, times, readers, classes.

As there, a share of runs may miss its limit by 3.5 standard errors of so many runs; `docs/evidence/coverage-further.md`
has the shares of many runs.
"""

import numpy as np
import pytest
from clinvit.eval.localisation.boxes import GAIN_PATIENTS, paired_gains
from clinvit.eval.localisation.froc import RATE_PATIENTS, SlideHits, froc
from clinvit.eval.statistics.decision_curve import decision_curves
from clinvit.eval.statistics.intervals import Estimate, percentile
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.statistics.scaled_intervals import LOGIT, on_scale
from clinvit.eval.targets.regression_intervals import error_intervals
from scipy.stats import chi2

from .further_simulations import STUDIES, Study
from .simulations import Tally

HELD = 0.935
FEW = 15  # intervals from which a share is looked at


def check(tally: Tally) -> None:
    wrong = {
        name: (held, given)
        for name, runs, given, held in tally.rows()
        if given >= max(FEW, runs / 2) and held < HELD - 3.5 * np.sqrt(HELD * (1 - HELD) / given)
    }
    assert not wrong


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.title)
def test_intervals_hold_the_truth(study: Study):
    check(study.tally(study.sizes[1], 25, 120))


@pytest.mark.thorough
@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.title)
def test_intervals_hold_the_truth_in_many_samples(study: Study):
    for patients in study.sizes:
        check(study.tally(patients, 600, 400))


def test_without_clusters_errors_have_the_exact_interval_of_chi_squared():
    """With normal errors of mean 0 the interval of the mean square is that of chi squared, and no narrower."""
    errors = np.random.default_rng(0).normal(size=4000)
    found = error_intervals(errors, np.arange(4000), 1.959964)["rmse"]
    exact = np.sqrt((errors**2).sum() / chi2.ppf([0.975, 0.025], 4000))
    assert (found.low, found.high) == pytest.approx(tuple(exact), rel=2e-3)
    assert found.high - found.low >= 0.999 * (exact[1] - exact[0])


@pytest.mark.parametrize("errors", [np.full(40, 2.0), np.tile([2.0, -2.0], 20)])
def test_errors_of_one_size_have_no_interval_of_it(errors):
    found = error_intervals(errors, np.arange(40), 1.96)["mae"]
    assert found.value == 2 and np.isnan(found.low) and "nothing varies" in found.reason


def test_a_scale_keeps_what_has_no_interval_and_what_lies_at_its_end():
    draws = np.random.default_rng(0).random(200)
    none, ended = Estimate(0.5, reason="why"), percentile(1.0, 0.9 + draws / 10)
    assert on_scale(none, draws, 30, LOGIT) is none
    assert on_scale(ended, 0.9 + draws / 10, 30, LOGIT) is ended
    inside = on_scale(percentile(0.97, 0.94 + draws * 0.06), 0.94 + draws * 0.06, 30, LOGIT)
    assert 0 < inside.low < 0.97 < inside.high < 1 and inside.method == "bootstrap, t"


def test_few_patients_have_no_interval_of_gains_and_of_single_rates():
    names = [f"p{i}" for i in range(GAIN_PATIENTS - 1)]
    bootstrap, among = PatientBootstrap(names, 50), np.ones((len(names), 1), bool)
    gains = paired_gains(np.random.default_rng(0).normal(size=(len(names), 3)), among, bootstrap)
    assert all(np.isnan(own[0].low) and "fewer than 20" in own[0].reason for own in gains.values())
    rng = np.random.default_rng(0)
    slides = [SlideHits(str(i), str(i), rng.random(3), rng.random(2)) for i in range(RATE_PATIENTS - 1)]
    found = froc(slides, 50)
    assert not np.isnan(found.score.low)
    assert all(np.isnan(each.low) and "fewer than 20" in each.reason for each in found.sensitivities)


def test_the_gain_is_the_smaller_one_over_both_strategies():
    """All cases are called below 0.4, none above: nothing is gained over the strategy that is the same."""
    truth = (np.arange(200) % 3 == 0).astype(float)[:, None]
    curve = decision_curves(truth, np.full((200, 1), 0.4), PatientBootstrap(range(200), 100))[0]
    for threshold in (0.2, 0.6):
        gain = curve.gain[round(100 * threshold) - 1]
        assert gain.value <= 1e-12 and gain.high <= 1e-12
    assert curve.gain[19].low == pytest.approx(0) and curve.useful() == []
