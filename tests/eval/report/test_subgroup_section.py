"""Cohort and subgroups in a report: on the page, in the JSON and in the CSV; nothing from data is read as markup."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.tables import (
    predictions_table,
    read_manifest,
    read_predictions,
    write_manifest,
    write_predictions,
)
from clinvit.eval import Evaluation, evaluate
from clinvit.eval.statistics.groups import manifest_columns, usual_columns
from clinvit.eval.statistics.operating_points import choose
from clinvit.eval.statistics.subgroups import subgroups

FEWER = Evaluation(resamples=20)


def written(tmp_path, labels, exclusive=False, models=1):
    """The report of invented cases, its page and its table of metrics."""
    generator = np.random.default_rng(0)
    n, splits = 200, np.array(["val", "test"])
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(n)], "path": "x.png", "split": splits[np.arange(n) % 2]})
    cases["patient"] = [f"{split}{i // 4}" for i, split in enumerate(cases["split"])]
    cases["sex"] = generator.choice(["F", "M", ""], n)
    cases["scanner"] = generator.choice(["<b>Y & Z</b>", "@0@ $x_1$", "#000001"], n)
    truth = (generator.random((n, len(labels))) < 0.4).astype(float)
    if exclusive:
        truth = np.eye(len(labels))[np.arange(n) % len(labels)]
    tables = {}
    for model in range(models):
        scores = 1 / (1 + np.exp(-truth - generator.normal(size=truth.shape)))
        scores = scores / scores.sum(axis=1, keepdims=True) if exclusive else scores
        path = tmp_path / f"{model}.csv"
        write_predictions(path, predictions_table(cases, labels, truth, scores, [""] * n))
        tables[f"model {model}"] = read_predictions(path)
    write_manifest(tmp_path / "manifest.csv", cases.assign(**dict(zip(labels, truth.T))), labels)
    manifest = read_manifest(tmp_path / "manifest.csv", labels)
    columns = manifest_columns(manifest)
    points = {name: choose(t.rows("val").truth(), t.rows("val").scores()) for name, t in tables.items()}
    found = subgroups(tables, columns, usual_columns(columns), points, FEWER)
    evaluate(tables, tmp_path / "out", manifest, FEWER)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    metrics = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    return found, page, metrics, pd.read_csv(tmp_path / "out" / "metrics.csv", keep_default_na=False)


@pytest.mark.parametrize(
    ("labels", "exclusive", "details"), [(["mass"], False, 0), (["a <i>", "b"], False, 2), (["a", "b"], True, 0)]
)
def test_page_of_one_label_of_findings_and_of_classes(tmp_path, labels, exclusive, details):
    found, page, metrics, table = written(tmp_path, labels, exclusive)
    own = re.search(r'<section aria-labelledby="subgroups".*?</section>', page, re.S)[0]
    assert own.count("<details>") == own.count("<summary>") == details
    assert page.count("<details>") == page.count("<summary>")
    assert "<b>Y" not in page
    assert "&lt;b&gt;Y &amp; Z&lt;/b&gt;" in page
    assert "<i>" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert page.count("<caption") == page.count("<table")
    assert {"cohort", "subgroups"} <= set(re.findall(r'href="#(\w+)"', page)) & set(ids)
    groups = metrics["subgroups"]["models"][0]["groups"]
    assert [group["group"] for group in groups] == ["all cases", *(group.name for group in found["model 0"].groups)]
    assert len(groups) == 1 + 3 + 3
    assert metrics["cohort"]["splits"]["test"]["cases"] == 100
    name = "accuracy" if exclusive else "auroc"
    row = table[table["metric"] == f"subgroup_{name}[sex=F]"].iloc[0]
    told = next(group for group in found["model 0"].groups if group.name == "F")
    value = told.metrics["accuracy"] if exclusive else told.labels[0].metrics["auroc"]
    assert float(row["value"]) == pytest.approx(value.value, abs=1e-5)
    assert (table["metric"] == f"subgroup_{name}_difference[sex=F]").any()


def test_other_models_are_in_the_json_and_the_csv_only(tmp_path):
    _, page, metrics, table = written(tmp_path, ["mass"], models=2)
    assert [model["model"] for model in metrics["subgroups"]["models"]] == ["model 0", "model 1"]
    assert table[table["metric"].str.startswith("subgroup_auroc[")]["model"].value_counts().to_dict() == {
        "model 0": 6, "model 1": 6,
    }  # fmt: skip
    assert page.count('id="t-subgroups') == 1
    assert "The other models’ groups are in" in page
