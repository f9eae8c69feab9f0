"""Fairness in a report: named groups, a folded table per finding, JSON and CSV; nothing where there are no groups."""

import json

import numpy as np
import pandas as pd
from clinvit.datasets.manifest.tables import (
    predictions_table,
    read_manifest,
    read_predictions,
    write_manifest,
    write_predictions,
)
from clinvit.eval import Evaluation, evaluate

SETTINGS = Evaluation(resamples=20, rule=0.5, subgroups=("sex", "age"))


def test_the_group_that_is_missed_most_often_is_named(tmp_path):
    random, n = np.random.default_rng(0), 800
    sex, truth = random.choice(["F<b>", "M"], n), (random.random(n) < 0.5).astype(float)
    score = np.where(random.random(n) < np.where(sex == "M", 0.9, 0.4), 0.9, 0.1) * truth + 0.05
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(n)], "patient": [f"p{i}" for i in range(n)], "split": "test"})
    write_predictions(tmp_path / "p.csv", predictions_table(cases, ["Mass"], truth[:, None], score[:, None], [""] * n))
    manifest = cases.assign(path=cases["id"], sex=sex, age=random.integers(20, 90, n), Mass=truth)
    write_manifest(
        tmp_path / "manifest.csv", manifest[["id", "path", "patient", "split", "sex", "age", "Mass"]], ["Mass"]
    )
    tables = {"m": read_predictions(tmp_path / "p.csv")}
    evaluate(tables, tmp_path / "out", read_manifest(tmp_path / "manifest.csv"), SETTINGS)
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Mass is missed most often in F&lt;b&gt; (sex)" in html and "F<b>" not in html
    found = json.loads((tmp_path / "out" / "report.json").read_text())["fairness"]["models"][0]["gaps"]
    gap = next(each for each in found if each["metric"] == "sensitivity" and each["group"] == "M")
    assert gap["difference"]["low"] > 0 and gap["p_holm"] < 0.001
    assert {each["column"] for each in found} == {"sex", "age", "sex, age"}
    assert pd.read_csv(tmp_path / "out" / "metrics.csv")["metric"].str.startswith("fairness_").sum() == len(found)
    evaluate(tables, tmp_path / "plain", None, Evaluation(resamples=20, rule=0.5))
    assert 'id="fairness"' not in (tmp_path / "plain" / "report.html").read_text(encoding="utf-8")
