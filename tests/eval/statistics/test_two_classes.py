"""Two exclusive classes: a ranking and its threshold first, accuracy only beside that of a constant answer."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import predictions_table, write_predictions
from clinvit.eval import evaluate
from sklearn.metrics import roc_auc_score


def write(path, labels=("normal", "tumour"), n=600, rare=0.04, strength=0.3, failed=0):
    generator = np.random.default_rng(0)
    ill = generator.random(n) < rare
    score = 1 / (1 + np.exp(-strength * ill - 0.6 * generator.normal(size=n) + 3))
    split = np.where(np.arange(n) % 3 == 0, "val", "test")
    cases = pd.DataFrame({"id": np.arange(n), "patient": [f"p{i}" for i in range(n)], "split": split})
    place = labels.index("tumour")
    truth, scores = (np.column_stack([1 - own, own])[:, :: 1 if place else -1] for own in (ill.astype(float), score))
    lost = ill & (split == "test") & (np.cumsum(ill) <= failed)
    write_predictions(path, predictions_table(cases, labels, truth, scores, ["cut off" if bad else "" for bad in lost]))
    return ill[split == "test"], score[split == "test"]


@pytest.mark.parametrize("labels", [("normal", "tumour"), ("tumour", "normal")])
def test_a_useless_model_is_not_headed_by_its_accuracy(labels, tmp_path, capsys):
    ill, score = write(tmp_path / "p.csv", labels)
    assert main(["evaluate", str(tmp_path / "p.csv"), "--out", str(tmp_path / "r"), "--resamples", "100"]) == 0
    words = capsys.readouterr().out.splitlines()
    assert words[1].startswith(f"AUROC {roc_auc_score(ill, score):.2f} (95 % CI")
    assert "for tumour against normal on 400 cases" in words[1]
    assert "sensitivity" in words[2] and "specificity" in words[2] and "chosen on val" in words[2]
    base = 1 - ill.mean()
    assert f"always saying normal: {base:.3f}, so these cases do not show that it is better than that" in words[3]
    content = json.loads((tmp_path / "r/report.json").read_text())["models"][0]
    assert content["classes"]["metrics"]["baseline_accuracy"]["value"] == pytest.approx(base)
    assert content["labels"][0]["metrics"]["baseline_accuracy"]["value"] == pytest.approx(base)
    rows = pd.read_csv(tmp_path / "r/metrics.csv").set_index("metric")["value"]
    assert rows["classes_baseline_accuracy"] == pytest.approx(base, abs=1e-5)
    for name in ("report.html", "report.tex"):
        assert "Accuracy of always saying the most frequent class" in (tmp_path / "r" / name).read_text()


def test_the_notebook_shows_it_too(tmp_path):
    write(tmp_path / "p.csv")
    page = evaluate({"m": tmp_path / "p.csv"}, tmp_path / "r")._repr_html_()
    assert page.index("<th>accuracy</th>") < page.index("<th>baseline_accuracy</th>")


def test_failed_cases_of_one_class(tmp_path, capsys):
    write(tmp_path / "p.csv", failed=5)
    assert main(["evaluate", str(tmp_path / "p.csv"), "--out", str(tmp_path / "r"), "--resamples", "20"]) == 0
    words = capsys.readouterr().out
    assert "requested; " in words and "failed, all tumour (" in words and "With failed cases counted as wrong:" in words


def test_two_models_of_two_classes_are_compared_by_auroc(tmp_path, capsys):
    write(tmp_path / "a.csv"), write(tmp_path / "b.csv", strength=2)
    command = ["compare", f"a={tmp_path / 'a.csv'}", f"b={tmp_path / 'b.csv'}", "--out", str(tmp_path / "r")]
    assert main([*command, "--resamples", "50"]) == 0
    assert "a minus b: AUROC difference" in capsys.readouterr().out


def test_several_classes_name_the_constant_answer(tmp_path, capsys):
    n, generator = 200, np.random.default_rng(0)
    place = generator.choice(3, n, p=[0.6, 0.3, 0.1])
    scores = np.eye(3)[place] + generator.random((n, 3))
    cases = pd.DataFrame({"id": np.arange(n), "patient": [f"p{i}" for i in range(n)], "split": "test"})
    labels = ["A", "B", "C"]
    scores /= scores.sum(axis=1, keepdims=True)
    write_predictions(tmp_path / "p.csv", predictions_table(cases, labels, np.eye(3)[place], scores, [""] * n))
    assert main(["evaluate", str(tmp_path / "p.csv"), "--out", str(tmp_path / "r"), "--resamples", "20"]) == 0
    said = capsys.readouterr().out.splitlines()[1]
    assert said.startswith("Accuracy ") and f"Always saying A: {(place == 0).mean():.3f}" in said
