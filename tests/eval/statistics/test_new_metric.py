"""Adding a metric is one function and one entry: it reaches page, JSON and CSV with its interval."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.eval.statistics import further_metrics
from clinvit.eval.statistics.further_metrics import LabelMetrics
from clinvit.eval.statistics.intervals import estimates


def separation(truth, scores, bootstrap):
    """The mean score of those who have it minus that of all others (Yates' slope)."""

    def slopes(weights):
        parts = [truth == 1, truth == 0, scores * (truth == 1), scores * (truth == 0)]
        have, others, of_these, of_others = np.split(weights.sums(np.concatenate(parts, axis=1)), 4, axis=1)
        return {"slope": of_these / have - of_others / others}

    own = np.array([p[y == 1].mean() - p[y == 0].mean() for y, p in zip(truth.T, scores.T)])
    found = estimates(own, bootstrap.drawn(slopes)["slope"], [""] * len(own), bootstrap.smaller_class(truth))
    return [{"separation": each} for each in found]


def test_a_new_metric_is_one_function_and_one_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(
        further_metrics, "LABEL_METRICS",
        [*further_metrics.LABEL_METRICS, LabelMetrics({"separation": "Slope of Yates"}, separation)],
    )  # fmt: skip
    random = np.random.default_rng(0)
    truth = (random.random(120) < 0.4).astype(int)
    score = np.round(np.clip(0.3 + 0.3 * truth + 0.1 * random.normal(size=120), 0.01, 0.99), 3)
    names = [f"c{i}" for i in range(120)]
    table = {
        "id": names,
        "patient": names,
        "split": "test",
        "status": "ok",
        "reason": "",
        "y_Mass": truth,
        "p_Mass": score,
    }
    pd.DataFrame(table).to_csv(tmp_path / "p.csv", index=False)
    assert main(["evaluate", str(tmp_path / "p.csv"), "--out", str(tmp_path / "out"), "--resamples", "200"]) == 0
    rows = pd.read_csv(tmp_path / "out/metrics.csv").set_index("metric")
    own = rows.loc["separation"]
    assert own["value"] == pytest.approx(score[truth == 1].mean() - score[truth == 0].mean())
    assert own["low"] < own["value"] < own["high"]
    assert "separation" in json.dumps(json.loads((tmp_path / "out/report.json").read_text())["further"])
    assert "Slope of Yates" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
