"""Sections that stand in a report only where the data have them: readers and sites, folded, in page, JSON and CSV."""

import json

import numpy as np
import pandas as pd
from clinvit.cli import main
from clinvit.datasets.manifest.tables import predictions_table, write_manifest, write_predictions


def written(folder, n=240):
    random = np.random.default_rng(0)
    truth = (random.random(n) < 0.45).astype(int)
    score = 1 / (1 + np.exp(-random.normal(size=n) - 2 * truth + 1))
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(n)], "patient": [f"p{i}" for i in range(n)], "split": "test"})
    write_predictions(folder / "p.csv", predictions_table(cases, ["Mass"], truth[:, None], score[:, None], [""] * n))
    manifest = cases.assign(path=cases["id"], site=np.array(["Nord", "Süd", "<i>Ost"])[np.arange(n) % 3], Mass=truth)
    write_manifest(folder / "manifest.csv", manifest[["id", "path", "patient", "split", "site", "Mass"]], ["Mass"])
    reads = [
        {"id": f"c{i}", "reader": f"<b>{j}", "Mass": int(truth[i] + random.normal() > 0.5)}
        for j in range(3)
        for i in range(n)
    ]
    pd.DataFrame(reads).to_csv(folder / "reads.csv", index=False)
    return ["evaluate", str(folder / "p.csv"), "--out", str(folder / "out"), "--resamples", "20", "--threshold", "0.5"]


def test_readers_and_sites_reach_page_json_and_csv(tmp_path):
    arguments = written(tmp_path)
    more = ["--readers", str(tmp_path / "reads.csv"), "--data", str(tmp_path / "manifest.csv"), "--subgroups", "none"]
    assert main([*arguments, *more]) == 0
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for name in ("readers", "sites"):
        assert html.count(f'<section aria-labelledby="{name}"') == 1
        assert html.index('aria-labelledby="answer"') < html.index(f'<section aria-labelledby="{name}"')
    assert "<b>0" not in html and "<i>Ost" not in html and "&lt;i&gt;Ost" in html
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["sites"]["models"][0]["metrics"][0]["pooled"]["sites"] == 3
    assert len(found["readers"]["findings"][0]["metrics"]["auroc"]["readers"]) == 3
    metrics = set(pd.read_csv(tmp_path / "out" / "metrics.csv")["metric"])
    assert {"site_auroc[Nord]", "sites_auroc_pooled", "reader_auroc", "auroc_difference", "fleiss_kappa"} <= metrics


def test_without_them_neither_stands_there(tmp_path, capsys):
    arguments = written(tmp_path)
    assert main(arguments) == 0
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not any(f'id="{name}"' in html for name in ("readers", "sites", "fairness", "abstention"))
    assert main([*arguments, "--sites", "site"]) == 2
    assert "--sites needs --data" in capsys.readouterr().err


def test_weights_and_further_metrics_reach_page_json_and_csv(tmp_path):
    arguments = written(tmp_path)
    manifest = pd.read_csv(tmp_path / "manifest.csv")
    manifest.assign(source=np.where(manifest["Mass"] == 1, 1, 9)).to_csv(tmp_path / "manifest.csv", index=False)
    assert main([*arguments, "--weights", "source", "--data", str(tmp_path / "manifest.csv")]) == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    weighted = {row["metric"]: row["value"] for row in found["weighted"]["metrics"]}
    assert weighted["weighted_prevalence"] < 0.2 < found["models"][0]["labels"][0]["positives"] / 240
    metrics = set(pd.read_csv(tmp_path / "out" / "metrics.csv")["metric"])
    assert {"weighted_ppv", "partial_auroc", "scaled_brier", "log_loss"} <= metrics
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'id="weighted"' in html and 'id="further"' in html


def test_two_models_differ_in_net_benefit_with_an_interval(tmp_path):
    written(tmp_path)
    other = pd.read_csv(tmp_path / "p.csv")
    other["p_Mass"] = np.random.default_rng(1).permutation(other["p_Mass"])
    other.to_csv(tmp_path / "q.csv", index=False)
    named = [f"good={tmp_path / 'p.csv'}", f"bad={tmp_path / 'q.csv'}"]
    assert main(["compare", *named, "--out", str(tmp_path / "out"), "--resamples", "100"]) == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())["decisions"]["differences"]
    gap = next(each for each in found if each["metric"].endswith("_0.2"))
    assert gap["models"] == "good - bad" and 0 < gap["low"] < gap["value"] < gap["high"]
