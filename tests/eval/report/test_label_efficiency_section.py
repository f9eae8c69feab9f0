"""The section on label efficiency: its curve, its words, and where else its numbers go."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.tables import predictions_table, write_predictions
from clinvit.eval import Evaluation
from clinvit.stages.evaluate import evaluate_stage

SIZES = (100, 25, 50)


def scores(truth, signal, seed):
    noise = np.random.default_rng(seed).normal(size=truth.shape)
    return 1 / (1 + np.exp(-(noise + signal * truth)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three sizes; the first model is far ahead at 50 and 100, and the same as the second at 25."""
    folder, n = tmp_path_factory.mktemp("efficiency"), 300
    truth = (np.random.default_rng(0).random((n, 2)) < 0.4).astype(float)
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(n)], "patient": [f"p{i}" for i in range(n)], "split": "test"})
    tables = {}
    for size in SIZES:
        ahead = 0.3 + 1.5 * (size > 25)
        for seed, (name, signal) in enumerate({"mae": ahead, "scratch": 0.3}.items()):
            path = folder / f"{name}-{size}.csv"
            own = scores(truth, signal, seed if size > 25 else 0)
            write_predictions(path, predictions_table(cases, ["Mass", "<i>Edema"], truth, own, [""] * n))
            tables.setdefault(size, {})[name] = path
    report = evaluate_stage(tables[100], folder / "out", evaluation=Evaluation(resamples=100), efficiency=tables)
    return folder / "out", report.to_dict()


def test_the_page_has_the_curve_and_says_where_it_is_ahead(written):
    out, found = written
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html.count('<section aria-labelledby="efficiency"') == 1
    words = found["efficiency"]["verdict"]
    assert "With 50, 100 labelled cases mae is ahead of scratch: the interval excludes 0." in words
    assert "With 25 labelled cases neither is shown to be better." in words
    assert "mae with 50 labelled cases reaches" in words and words in html


def test_its_numbers_are_those_of_the_report_at_the_same_size(written):
    out, found = written
    steps = found["efficiency"]["steps"]
    assert [step["cases"] for step in steps] == [25, 50, 100]
    assert steps[2]["first"]["value"] == found["models"][0]["macro"]["auroc"]["value"]
    rows = pd.read_csv(out / "metrics.csv").set_index(["model", "metric"])
    gain = rows.loc[("mae - scratch", "efficiency_macro_auroc[100]")]
    assert gain["value"] == pytest.approx(steps[2]["first"]["value"] - steps[2]["second"]["value"], abs=1e-5)
    assert gain["low"] > 0
    assert steps[0]["gain"]["value"] == 0


def test_a_report_without_sizes_has_no_such_section(written, tmp_path):
    out, _ = written
    tables = {name: out.parent / f"{name}-100.csv" for name in ("mae", "scratch")}
    plain = evaluate_stage(tables, tmp_path, evaluation=Evaluation(resamples=20)).to_dict()
    assert "efficiency" not in plain
    assert 'id="efficiency"' not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads((out / "report.json").read_text())["efficiency"]["models"] == ["mae", "scratch"]
