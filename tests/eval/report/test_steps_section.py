"""The section on the steps of a cascade: which of them is no better than chance is said."""

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.tables import predictions_table, write_predictions
from clinvit.eval import Evaluation
from clinvit.stages.evaluate import evaluate_stage

N = 200


def table(path, label, signal):
    random = np.random.default_rng(1)
    truth = (random.random((N, 1)) < 0.5).astype(float)
    score = 1 / (1 + np.exp(-random.normal(size=(N, 1)) - signal * truth))
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(N)], "patient": [f"p{i}" for i in range(N)], "split": "test"})
    write_predictions(path, predictions_table(cases, [label], truth, score, [""] * N))
    return path


def report(folder, signal):
    steps = {
        "detachment": table(folder / "one.csv", "detached", 2.0),
        "<b>macula": table(folder / "two.csv", "intact", signal),
    }
    whole = {"cascade": table(folder / "whole.csv", "detached", 1.0)}
    return evaluate_stage(whole, folder / "out", evaluation=Evaluation(resamples=100), steps=steps).to_dict()


@pytest.mark.parametrize(("signal", "guesses"), [(0.0, True), (2.0, False)])
def test_a_step_that_only_guesses_is_named_as_the_reason(tmp_path, signal, guesses):
    found = report(tmp_path, signal)["steps"]
    assert [step["name"] for step in found["steps"]] == ["detachment", "<b>macula"]
    assert ("Not shown to be better than chance: <b>macula." in found["verdict"]) is guesses
    assert ("Each step is better than chance" in found["verdict"]) is not guesses
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert html.count('<section aria-labelledby="steps"') == 1 and "<b>macula" not in html
    metrics = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert list(metrics.loc[metrics["metric"] == "step_auroc", "label"]) == ["detached", "intact"]
