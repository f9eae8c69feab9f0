"""Likelihood ratios against Simel's worked formula, counts at the threshold, and counts among 100 patients."""

import re

import numpy as np
import pandas as pd
import pytest
from clinvit.eval import Evaluation, evaluate
from clinvit.eval.statistics.likelihood_ratios import likelihood_ratios
from clinvit.eval.statistics.metrics import confusion_cells
from clinvit.eval.statistics.operating_points import OperatingPoint

POINT = OperatingPoint(0.5, "0.5")


def of(tp, fp, fn, tn, copies=1):
    truth = np.repeat([1.0, 0.0, 1.0, 0.0], [tp, fp, fn, tn])
    predicted = np.repeat([1.0, 1.0, 0.0, 0.0], [tp, fp, fn, tn])
    patient = np.tile(np.arange(len(truth)), copies)
    truth, predicted = (np.tile(column, copies)[:, None] for column in (truth, predicted))
    return likelihood_ratios(confusion_cells(truth, predicted), [POINT], patient)[0]


def test_simel():
    found = of(90, 20, 10, 180)
    for name, a, b in (("lr_positive", 90, 20), ("lr_negative", 10, 180)):
        value, half = (a / 100) / (b / 200), 1.959964 * np.sqrt(1 / a - 1 / 100 + 1 / b - 1 / 200)
        e = found[name]
        assert (e.value, e.low, e.high) == pytest.approx((value, value * np.exp(-half), value * np.exp(half)), rel=1e-6)


def test_copies_of_a_patient_narrow_nothing():
    once, thrice = of(90, 20, 10, 180), of(90, 20, 10, 180, copies=3)
    assert thrice["lr_positive"].low == pytest.approx(once["lr_positive"].low)


def test_where_there_is_none():
    perfect = of(10, 0, 0, 20)
    assert np.isnan(perfect["lr_positive"].value) and "no false alarm" in perfect["lr_positive"].reason
    assert perfect["lr_negative"].value == 0 and "no interval" in perfect["lr_negative"].reason
    assert np.isnan(of(10, 0, 5, 0)["lr_negative"].value)


def test_coverage_by_patient():
    generator, inside = np.random.default_rng(0), 0
    for _ in range(400):
        patient = np.repeat(np.arange(100), 2)
        truth = np.repeat(generator.random(100) < 0.4, 2).astype(float)[:, None]
        chance = np.where(truth == 1, 0.8, 0.3)[:, 0]
        own = generator.random(100)[patient]  # both cases of a patient get the same label
        cells = confusion_cells(truth, (own < chance)[:, None].astype(float))
        found = likelihood_ratios(cells, [POINT], patient)[0]["lr_positive"]
        inside += found.low <= 0.8 / 0.3 <= found.high
    assert 0.93 <= inside / 400 <= 0.98


def report(tmp_path, prevalence=None):
    truth, score = np.repeat([1, 1, 0, 0], [30, 10, 12, 108]), np.repeat([0.9, 0.1, 0.8, 0.2], [30, 10, 12, 108])
    n = len(truth)
    columns = {"id": range(n), "patient": [f"p{i}" for i in range(n)], "split": "test", "status": "ok", "reason": ""}
    table = pd.DataFrame(columns | {"y_Mass": truth, "p_Mass": score})
    return evaluate({"m": table}, tmp_path, evaluation=Evaluation(resamples=20, rule=0.5, prevalence=prevalence))


def test_counts_stand_wherever_a_threshold_acts(tmp_path):
    found = report(tmp_path)
    own = found.to_dict()["models"][0]["labels"][0]
    assert own["counts"] == {"tp": 30, "fp": 12, "fn": 10, "tn": 108}
    rows = found.metrics.set_index("metric")["value"]
    assert rows[["tp", "fp", "fn", "tn"]].tolist() == [30, 12, 10, 108] and rows["lr_positive"] == pytest.approx(7.5)
    page, tex = ((tmp_path / name).read_text() for name in ("report.html", "report.tex"))
    cells = "".join(f'<td class="n">{count}</td>' for count in (30, 12, 10, 108))
    assert cells in re.sub(r">\s+<", "><", page)
    assert "Mass & 30 & 12 & 10 & 108" in tex


def test_of_100_patients_like_these(tmp_path):
    own = report(tmp_path / "a").to_dict()["models"][0]["labels"][0]["natural_frequencies"]
    assert (own["of"], own["found"], own["missed"], own["cleared"], own["false_alarms"]) == (100, 19, 6, 68, 7)
    page = (tmp_path / "a/report.html").read_text()
    assert "Of 100 patients like these, 25 have Mass: 19 are found and 6 missed." in page
    rare = report(tmp_path / "b", 0.004).to_dict()["models"][0]["labels"][0]["natural_frequencies"]
    assert (rare["of"], rare["with_finding"], rare["found"]) == (1000, 4, 3)
    assert rare["words"].startswith("Of 1,000 patients where 0.4 % have it, 4 have Mass: 3 are found")


def test_none_without_a_threshold(tmp_path):
    truth = np.array([0, 1] * 20)
    columns = {"id": range(40), "patient": [f"p{i}" for i in range(40)], "split": "test", "status": "ok", "reason": ""}
    table = pd.DataFrame(columns | {"y_Mass": truth, "p_Mass": 0.4})
    own = evaluate({"m": table}, tmp_path, evaluation=Evaluation(resamples=20)).to_dict()["models"][0]["labels"][0]
    assert own["counts"] is None and own["natural_frequencies"] is None
