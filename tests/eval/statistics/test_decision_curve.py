"""Decision curves against the definition, case by case, and what their section shows."""

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Context, Evaluation, evaluate
from clinvit.eval.report.decision_curve_section import decision_section
from clinvit.eval.statistics.decision_curve import THRESHOLDS, decision_curves
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.statistics.reservations import widened
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit


def by_definition(truth, score, threshold):
    """Net benefit of one label, case by case."""
    found = alarms = known = 0
    for y, p in zip(truth, score):
        if np.isnan(y):
            continue
        known += 1
        found += y == 1 and p >= threshold
        alarms += y == 0 and p >= threshold
    return found / known - alarms / known * threshold / (1 - threshold)


def cohort(cases=400, seed=0):
    """Calibrated scores of two labels, a rare one and a frequent one; two cases a patient; some truths unknown."""
    generator = np.random.default_rng(seed)
    scores = expit(generator.normal((-3, 0), 1.5, size=(cases, 2)))
    truth = (generator.random(scores.shape) < scores).astype(float)
    truth[generator.random(truth.shape) < 0.1] = np.nan
    return truth, scores, np.arange(cases) // 2


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.float64, (20, 2), elements=st.sampled_from([0.0, 1.0, np.nan])),
    arrays(np.float64, (20, 2), elements=st.integers(0, 100).map(lambda n: n / 100)),
)
def test_net_benefit_is_as_defined_scores_on_thresholds_included(truth, scores):
    truth[:2] = [[0, 0], [1, 1]]
    for i, curve in enumerate(decision_curves(truth, scores, PatientBootstrap(range(20), 10))):
        expected = [by_definition(truth[:, i], scores[:, i], threshold) for threshold in THRESHOLDS]
        np.testing.assert_allclose([e.value for e in curve.net_benefit], expected, atol=1e-12)
        everyone = [by_definition(truth[:, i], np.ones(20), threshold) for threshold in THRESHOLDS]
        np.testing.assert_allclose(curve.treat_all, everyone, atol=1e-12)
        best = np.maximum(everyone, 0)
        np.testing.assert_allclose([e.value for e in curve.gain], expected - best, atol=1e-12)


def test_closed_forms():
    truth, _, patients = cohort()
    bootstrap = PatientBootstrap(patients, 50)
    prevalence = np.nanmean(truth, axis=0)
    odds = THRESHOLDS / (1 - THRESHOLDS)
    for i, (all_called, perfect, none) in enumerate(
        zip(*(decision_curves(truth, scores, bootstrap) for scores in (np.ones_like(truth), truth == 1, 0 * truth)))
    ):
        np.testing.assert_allclose(all_called.treat_all, prevalence[i] - (1 - prevalence[i]) * odds)
        np.testing.assert_allclose([e.value for e in all_called.net_benefit], all_called.treat_all)
        np.testing.assert_allclose([e.value for e in perfect.net_benefit], prevalence[i])
        assert perfect.useful() == [(0.01, 0.99)]
        assert {e.value for e in none.net_benefit} == {0.0} and none.useful() == []
        assert "no case reaches" in none.at(0.5).reason


def test_bands_are_those_of_cases_copied_by_patient():
    truth, scores, patients = cohort(cases=60)
    bootstrap = PatientBootstrap(patients, 40, seed=3)
    levels = widened(np.array([0.025, 0.975]), bootstrap.smaller_class(truth)[1])
    curve = decision_curves(truth, scores, bootstrap)[1]
    times = np.concatenate(list(bootstrap.counts()), axis=1)[patients]
    for threshold in (0.05, 0.3, 0.6):
        draws = [
            by_definition(np.repeat(truth[:, 1], counts), np.repeat(scores[:, 1], counts), threshold)
            for counts in times.T
        ]
        found = curve.at(threshold)
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, levels)), abs=1e-12)


def test_a_calibrated_model_is_useful_and_its_band_holds_the_truth():
    """At the threshold p calibrated scores s have the expected net benefit E[(s - (1 - s) p / (1 - p)) (s >= p)]."""
    truth, scores, patients = cohort(cases=4000)
    curve = decision_curves(truth, scores, PatientBootstrap(patients, 200))[1]
    score = cohort(cases=400_000, seed=9)[1][:, 1:]
    odds = THRESHOLDS / (1 - THRESHOLDS)
    expected = np.mean((score - (1 - score) * odds) * (score >= THRESHOLDS), axis=0)
    inside = [e.low <= value <= e.high for e, value in zip(curve.net_benefit, expected)]
    assert np.mean(inside) > 0.85
    (first, last), *_ = curve.useful()
    assert first < 0.2 and last > 0.6


def test_one_class_or_one_patient():
    truth = np.array([[0, 1, np.nan, 1], [0, 1, np.nan, 0], [0, 1, np.nan, 0]], dtype=float)
    curves = decision_curves(truth, np.full((3, 4), 0.4), PatientBootstrap(range(3), 20))
    assert [curve.reason for curve in curves] == [
        "no positive case",
        "no negative case",
        "no case with known truth",
        "",
    ]
    assert np.isnan(curves[0].at(0.2).value) and curves[0].at(0.2).reason == "no positive case"
    assert np.isnan(curves[0].treat_all).all() and curves[0].useful() == []
    assert "one patient" in curves[3].at(0.2).reason and np.isnan(curves[3].at(0.2).low)
    (empty,) = decision_curves(np.empty((0, 1)), np.empty((0, 1)), PatientBootstrap([], 20))
    assert (empty.cases, empty.reason) == (0, "no scored case")


def table(path, *, labels=("rare", "mass <b>"), seed=0, failed=()):
    truth, scores, patients = cohort(seed=0)
    scores = expit(np.log(scores / (1 - scores)) + np.random.default_rng(seed).normal(size=scores.shape))
    truth, scores = (np.concatenate([values, values[:, :1]], axis=1)[:, : len(labels)] for values in (truth, scores))
    truth[:, 2:] = 0
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(400)], "patient": patients.astype(str), "split": "test"})
    reasons = ["cut off" if i in failed else "" for i in range(400)]
    write_predictions(path, predictions_table(cases, labels, truth, scores, reasons))
    return read_predictions(path)


def test_the_section(tmp_path):
    labels = ("rare", "mass <b>", "never")
    tables = {
        "first": table(tmp_path / "a.csv", labels=labels, failed=(1, 2)),
        "second": table(tmp_path / "b.csv", labels=labels, seed=1),
    }
    section = decision_section(tables, Evaluation(resamples=50))
    assert [panel["label"] for panel in section.content["panels"]] == ["rare", "mass <b>"]
    for panel in section.content["panels"]:
        assert "Net benefit per 1,000 cases at threshold 0.2: first" in panel["svg"] and "treat all" in panel["svg"]
    first = section.plain["models"][0]["labels"][1]
    assert len(first["net_benefit"]) == len(section.plain["thresholds"]) == 99
    assert first["n"] == np.isfinite(tables["first"].scored().truth()[:, 1]).sum()
    metrics = {(f.model, f.label, f.metric): f.estimate for f in section.metrics}
    assert metrics["first", "mass <b>", "decisions_net_benefit_at_0.2"].value == first["net_benefit"][19]
    assert np.isnan(metrics["second", "never", "decisions_net_benefit_at_0.5"].value)
    row = section.content["rows"]["mass <b>"][0]
    assert row["net_benefit"][1].value == pytest.approx(1000 * first["net_benefit"][19])


def test_the_page_holds_it(tmp_path):
    tables = {"only": table(tmp_path / "a.csv")}
    context = Context(provenance={"only": {"calibration": "none"}})
    report = evaluate(tables, tmp_path, evaluation=Evaluation(resamples=50), context=context).to_dict()
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.index('id="calibration"') < html.index('id="decisions"') < html.index('id="wrong"')
    assert "Net benefit assumes calibrated scores" in html and "mass <b>" not in html
    assert "Scores are as the model gave them, not calibrated afterwards." in html
    assert report["decisions"]["models"][0]["model"] == "only"
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    assert metrics["metric"].str.startswith("decisions_net_benefit_at_").sum() == 2 * 3


@pytest.mark.slow
def test_a_test_set_of_25596_images_takes_seconds():
    import time

    generator = np.random.default_rng(0)
    scores = generator.random((25_596, 14))
    truth = (generator.random(scores.shape) < 0.05).astype(float)
    patients = generator.integers(2797, size=25_596)
    start = time.perf_counter()
    decision_curves(truth, scores, PatientBootstrap(patients, 200))
    assert time.perf_counter() - start < 20
