"""Bands around ROC and precision-recall curves."""

import numpy as np
import pytest
from clinvit.eval.statistics.curve_bands import POINTS, curve_bands
from clinvit.eval.statistics.resampling import PatientBootstrap
from scipy.stats import norm


def cases(size, seed, share=0.3):
    generator = np.random.default_rng(seed)
    truth = (generator.random(size) < share).astype(float)
    return truth, generator.normal(truth * 1.5)


def test_bands_hold_the_true_curves_in_most_samples():
    true_roc = norm.sf(norm.isf(POINTS) - 1.5)  # of two normal distributions, 1.5 apart
    threshold = norm.isf(POINTS, 1.5)
    true_precision = 0.3 * POINTS / np.maximum(1e-9, 0.3 * POINTS + 0.7 * norm.sf(threshold))
    inside_roc, inside_pr = [], []
    for seed in range(40):
        truth, scores = cases(300, seed)
        roc, pr = curve_bands(truth, scores, PatientBootstrap(np.arange(300).astype(str), 200, seed))
        inside_roc.append((roc.low <= true_roc + 1e-9) & (true_roc <= roc.high + 1e-9))
        inside_pr.append((pr.low <= true_precision) & (true_precision <= pr.high))
    assert np.mean(inside_roc, axis=0)[5:-10].mean() > 0.9
    assert np.mean(inside_pr, axis=0)[10:-2].mean() > 0.9


def test_unknown_truth_ties_and_the_size_of_the_cohort():
    truth, scores = cases(400, 0)
    bootstrap = PatientBootstrap(np.arange(400).astype(str), 200)
    roc, pr = curve_bands(truth, scores, bootstrap)
    hidden = np.concatenate([truth, np.full(50, np.nan)])
    more = PatientBootstrap([*np.arange(400).astype(str), *["0"] * 50], 200)
    for own, other in zip((roc, pr), curve_bands(hidden, np.concatenate([scores, np.full(50, 9.0)]), more)):
        np.testing.assert_array_equal(own.low, other.low)
    truth, scores = np.tile(truth, 10), np.tile(scores, 10)
    large, _ = curve_bands(truth, scores, PatientBootstrap(np.arange(4000).astype(str), 200))
    assert (large.high - large.low).mean() < 0.5 * (roc.high - roc.low).mean()
    rounded, _ = curve_bands(truth, np.round(scores), PatientBootstrap(np.arange(4000).astype(str), 200))
    assert (rounded.low <= rounded.high).all() and rounded.high.max() <= 1


@pytest.mark.parametrize("positives", [0, 1, 9])
def test_no_band_of_few_patients(positives):
    truth = np.zeros(100)
    truth[:positives] = 1
    assert curve_bands(truth, np.linspace(0, 1, 100), PatientBootstrap(np.arange(100).astype(str), 50)) is None
