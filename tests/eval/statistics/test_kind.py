"""Whether labels are exclusive classes is decided in one place, and the report says why."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Evaluation, compare
from clinvit.eval.statistics.classes import kind, positive_class


def softmax(path, classes=7, digits=None, n=200, change=None, decision=None):
    generator = np.random.default_rng(0)
    place = generator.integers(classes, size=n)
    logits = generator.normal(size=(n, classes)) + 2 * np.eye(classes)[place]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = scores if digits is None else scores.round(digits)
    truth = np.eye(classes)[place]
    if change:
        change(truth, scores)
    cases = pd.DataFrame({"id": np.arange(n), "patient": [f"p{i}" for i in range(n)], "split": "test"})
    labels = [f"C{i}" for i in range(classes)]
    write_predictions(path, predictions_table(cases, labels, truth, scores, [""] * n, decision))
    return read_predictions(path)


@pytest.mark.parametrize("digits", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("classes", [2, 7, 14, 40])
def test_rounded_scores_are_still_exclusive(digits, classes, tmp_path):
    found = kind(softmax(tmp_path / "p.csv", classes, digits))
    assert found.exclusive
    if found.doubtful:
        assert f"within the rounding of {digits} digit" in found.reason


def test_a_whole_softmax_is_not_doubtful(tmp_path):
    found = kind(softmax(tmp_path / "p.csv"))
    assert found.exclusive and not found.doubtful and "add up to 1" in found.reason


def test_scores_beyond_the_rounding_are_each_on_their_own(tmp_path):
    def change(truth, scores):
        scores[3, 0] += 0.06

    found = kind(softmax(tmp_path / "p.csv", digits=2, change=change))
    assert not found.exclusive and found.doubtful
    assert "the scores of case '3' add up to" in found.reason and "although every known truth" in found.reason


def test_two_labels_of_a_case_are_never_exclusive(tmp_path):
    def change(truth, scores):
        truth[5] = 1

    table = softmax(tmp_path / "p.csv", change=change)
    assert kind(table) == (False, "case '5' has 7 labels that are 1", False)
    with pytest.raises(DataError, match="said to be exclusive classes, but case '5' has 7 labels that are 1"):
        kind(Evaluation(kind="exclusive").said(table))


def test_what_is_said_wins(tmp_path):
    def change(truth, scores):
        scores *= 0.8

    table = softmax(tmp_path / "p.csv", change=change)
    said = kind(Evaluation(kind="exclusive").said(table))
    assert said.exclusive and said.reason.startswith(
        "that was asked for, although the scores of case '0' add up to 0.8"
    )
    assert kind(Evaluation(kind="multi-label").said(softmax(tmp_path / "q.csv"))) == (
        False,
        "that was asked for",
        False,
    )
    assert compare(table, table, Evaluation(resamples=10, kind="exclusive")).classes is not None
    assert compare(table, table, Evaluation(resamples=10)).classes is None
    with pytest.raises(UserError, match="kind 'both': one of exclusive, multi-label"):
        Evaluation(kind="both")


def test_a_decision_needs_exclusive_classes(tmp_path):
    table = softmax(tmp_path / "p.csv", 3, n=9, decision=["C0"] * 9)
    with pytest.raises(DataError, match="needs exclusive classes, but that was asked for"):
        kind(Evaluation(kind="multi-label").said(table))


def test_the_report_says_which_and_why(tmp_path, capsys):
    softmax(tmp_path / "p.csv", digits=2)
    command = ["evaluate", str(tmp_path / "p.csv"), "--out", str(tmp_path / "r"), "--resamples", "20"]
    assert main(command) == 0
    words = capsys.readouterr().out
    assert "Accuracy 0." in words and "warning: The labels are analysed as exclusive classes, because" in words
    assert "within the rounding of 2 digits" in words and "--multi-label says otherwise" in words
    content = json.loads((tmp_path / "r/report.json").read_text())
    assert content["models"][0]["kind"]["exclusive"] and content["settings"]["kind_asked"] is None
    assert "within the rounding of 2 digits" in (tmp_path / "r/report.html").read_text()
    assert main([*command, "--multi-label"]) == 0
    words = capsys.readouterr().out
    assert "Macro AUROC" in words and "warning" not in words
    assert "each on its own (multi-label), because that was asked for" in (tmp_path / "r/report.html").read_text()


@pytest.mark.parametrize(
    ("labels", "place"),
    [
        (("normal", "tumour"), 1),
        (("tumour", "normal"), 0),
        (("No finding", "Nodule"), 1),
        (("Nodule", "no_finding"), 0),
        (("malignant", "benign"), 0),
        (("0", "1"), 1),
        (("1", "0"), 0),
        (("left", "right"), 1),
        (("Pneumonia", "NORMAL"), 0),
        (("non-responder", "responder"), 1),
    ],
)
def test_the_class_that_is_looked_for(labels, place):
    assert positive_class(labels) == place
