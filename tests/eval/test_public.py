"""`from clinvit.eval import evaluate, compare`: tables in memory, files and folders give the same report."""

import html
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import predictions_table, write_manifest, write_predictions
from clinvit.eval import Evaluation, compare, evaluate

FEWER = Evaluation(resamples=20)


def cases(n=120):
    splits = np.array(["val", "test"])[np.arange(n) % 2]
    patients = [f"{split}{i // 4}" for i, split in enumerate(splits)]
    return pd.DataFrame({"id": [f"case <{i}>" for i in range(n)], "patient": patients, "split": splits})


def predicted(seed, strength=1.0):
    """A table as `predict` returns it: with paths and predicted labels, and one failed case."""
    own, generator = cases(), np.random.default_rng(seed)
    truth = (np.random.default_rng(0).random((len(own), 2)) < 0.4).astype(float)
    scores = 1 / (1 + np.exp(-strength * truth - generator.normal(size=truth.shape)))
    table = predictions_table(own, ["mass", "edema"], truth, scores, ["", "", "cut off", *[""] * (len(own) - 3)])
    table.insert(1, "path", "x.png")
    return table.assign(pred_mass=(table["p_mass"] >= 0.5).astype(float))


def test_tables_files_and_run_folders_give_the_same_report(tmp_path):
    table = predicted(1)
    (tmp_path / "run").mkdir()
    table.to_csv(tmp_path / "run/predictions.csv", index=False)
    sources = {"memory": table, "file": str(tmp_path / "run/predictions.csv"), "folder": tmp_path / "run"}
    reports = [evaluate({"m": source}, tmp_path / name, evaluation=FEWER) for name, source in sources.items()]
    assert reports[0].to_dict() == reports[1].to_dict() == reports[2].to_dict()
    one = reports[0]
    assert one.path == tmp_path / "memory/report.html" and one.path.is_file()
    assert one.to_dict() == json.loads((tmp_path / "memory/report.json").read_text(encoding="utf-8"))
    written = pd.read_csv(tmp_path / "memory/metrics.csv", keep_default_na=False)
    assert one.metrics["metric"].tolist() == written["metric"].tolist()
    auroc = one.metrics.query("metric == 'auroc' and label == 'mass'").iloc[0]
    assert auroc["value"] == one.to_dict()["models"][0]["labels"][0]["metrics"]["auroc"]["value"]
    assert auroc["n"] == 60 and 0 < auroc["low"] < auroc["value"] < auroc["high"]


def test_a_report_shows_itself(tmp_path):
    report = evaluate({"<b>": predicted(1), "two": predicted(2)}, tmp_path / "r", evaluation=FEWER)
    lines = repr(report).splitlines()
    assert lines == [*report.headline, f"report: {tmp_path / 'r/report.html'}"] and len(lines) == 3
    page = report._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;" in page and html.escape(report.headline[0]) in page
    assert page.count("<tr") == 1 + 1 + 2 * 3, "a macro mean and two labels of each model below two lines of names"
    value = report.metrics.query("model == 'two' and label == 'mass' and metric == 'auroc'")["value"].item()
    assert f"{value:.3f} (" in page and len(page) < 10_000


def test_a_manifest_adds_the_cohort_and_subgroups(tmp_path):
    table = cases().assign(path="x.png", sex=np.array(["F", "M", "F"])[np.arange(120) % 3], mass=1.0)
    write_manifest(tmp_path / "manifest.csv", table, ["mass"], {"mass": "seen > 3 cm"})
    report = evaluate({"m": predicted(1)}, tmp_path / "r", tmp_path, FEWER)
    content = report.to_dict()
    assert content["cohort"]["splits"]["test"]["cases"] == 60
    assert content["subgroups"]["columns"] == ["sex"]
    assert content["labels"][0]["what_one_means"] == "seen > 3 cm"
    assert "subgroup_auroc[sex=F]" in set(report.metrics["metric"])
    with pytest.raises(UserError, match="the columns are those of the manifest"):
        evaluate({"m": predicted(1)}, tmp_path / "x", evaluation=Evaluation(subgroups=["sex"]))


def test_thresholds_of_a_table_in_memory(tmp_path):
    """Test cases alone are decided by the thresholds that the model brings, never by ones of their own."""
    table = predicted(1)
    table = table[table["split"] == "test"]
    assert np.isnan(
        evaluate({"m": table}, tmp_path / "r", evaluation=FEWER).metrics.query("metric == 'mcc'")["value"]
    ).all()
    table.attrs["thresholds"] = {"mass": 0.4}
    found = evaluate({"m": table}, tmp_path / "r", evaluation=FEWER).metrics.query("metric == 'threshold'")
    assert found["value"].iloc[0] == 0.4 and np.isnan(found["value"].iloc[1])


def test_two_models_are_compared_without_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_predictions(tmp_path / "b.csv", predicted(2, strength=0.2).drop(columns=["path", "pred_mass"]))
    found = compare(a=predicted(1, strength=2), b="b.csv", evaluation=FEWER)
    assert found.macro["auroc"].value > 0.1 and found.cases == 60
    assert repr(found).startswith("first minus second, 60 cases of 30 patients, 0 left out\n") and "macro mean" in repr(
        found
    )
    table = found.table()
    assert list(table.index) == ["mass", "edema", "macro mean"] and "<table" in found._repr_html_()
    assert table.loc["mass", "auroc"] == found.differences["auroc"][0].value
    assert [path.name for path in tmp_path.iterdir()] == ["b.csv"]


def test_a_table_in_memory_is_checked_like_a_file(tmp_path):
    with pytest.raises(DataError, match="mae: no column 'status'"):
        evaluate({"mae": predicted(1).drop(columns="status")}, tmp_path / "r")
    wrong = predicted(1).assign(p_mass=2.0)
    with pytest.raises(DataError, match=r"mae: row 2: score '2\.0' for 'mass'"):
        evaluate({"mae": wrong}, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_nothing_heavy_is_imported_for_the_names():
    code = "import sys, clinvit.eval as e; dir(e); print(*{'pandas', 'scipy', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
    code = "import clinvit.eval as e; print(all(callable(getattr(e, name)) for name in dir(e)), hasattr(e, 'x'))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "True False\n"
    )
