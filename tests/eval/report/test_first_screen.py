"""The page begins with the answer, marks what is not to be trusted, and says nothing many times."""

import re

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Context, Evaluation, evaluate
from clinvit.eval.localisation.image_map import ImageMap

QUICK = Evaluation(resamples=30)
FINDINGS = ("Atelectasis", "Effusion", "Mass", "Nodule", "Hernia")


def table(path, labels, *, seed=0, val=True, exclusive=False):
    """80 test and 80 val cases, each of its own patient; a label called Hernia has one positive case in each."""
    random = np.random.default_rng(seed)
    n = 160 if val else 80
    if exclusive:
        truth = np.eye(len(labels))[np.arange(n) % len(labels)]
        scores = np.exp(random.normal(size=truth.shape) + 2 * truth)
        scores /= scores.sum(axis=1, keepdims=True)
    else:
        truth = (np.random.default_rng(1).random((n, len(labels))) < 0.4).astype(float)
        if "Hernia" in labels:
            truth[:, labels.index("Hernia")] = np.isin(np.arange(n), (3, 83))
        scores = 1 / (1 + np.exp(-random.normal(size=truth.shape) - 1.5 * truth + 1))
    cases = pd.DataFrame({"id": [f"case{i}" for i in range(n)], "patient": [f"p{i}" for i in range(n)]})
    cases["split"] = ["test"] * 80 + ["val"] * (n - 80)
    write_predictions(path, predictions_table(cases, labels, truth, scores, [""] * n))
    return read_predictions(path)


def page_of(tables, out, **context):
    found = evaluate(tables, out, evaluation=QUICK, context=Context(**context)).to_dict()
    return found, (out / "report.html").read_text(encoding="utf-8")


def section(html, name):
    return re.search(rf'<section aria-labelledby="{name}".*?</section>', html, re.S)[0]


def plot(html, name):
    return next(svg for svg in re.findall(r"<svg class=\"plot\".*?</svg>", html, re.S) if f'id="{name}-' in svg)


@pytest.mark.parametrize("labels", [("Mass",), FINDINGS])
def test_the_answer_comes_before_the_cases(tmp_path, labels):
    _, html = page_of({"m": table(tmp_path / "p.csv", labels)}, tmp_path / "out")
    order = re.findall(r'<section aria-labelledby="(\w+)"', html)
    assert order[0] == "answer" and order.index("cases") < order.index("results")
    first = section(html, "answer")
    assert first.index("<svg") < first.index("Sensitivity") < first.index("</section>")
    assert all(label in first for label in labels)


def test_exclusive_classes_begin_with_their_confusion_matrix(tmp_path):
    _, html = page_of({"m": table(tmp_path / "p.csv", ("a", "b", "c"), exclusive=True)}, tmp_path / "out")
    assert "Confusion matrix of m" in section(html, "answer")
    assert html.count("Confusion matrix of m") == 1


@pytest.mark.parametrize(("panel", "x", "y"), [("p0r", "specificity", "sensitivity"), ("p0p", "sensitivity", "ppv")])
def test_the_operating_point_of_every_model_is_on_its_curve(tmp_path, panel, x, y):
    tables = {name: table(tmp_path / "p.csv", FINDINGS[:2], seed=i) for i, name in enumerate("ab")}
    found, html = page_of(tables, tmp_path / "out")
    svg = plot(html, panel)
    for i, model in enumerate(found["models"]):
        metrics = model["labels"][0]["metrics"]
        share = metrics[x]["value"], metrics[y]["value"]
        across = 1 - share[0] if x == "specificity" else share[0]
        drawn = re.search(rf'id="{panel}-operating-point-{i}".*?<use [^>]*?x="([\d.]+)" y="([\d.]+)"', svg, re.S)
        # The axes are 115 x 113 px, 29 px from the left and 6 px from the top of the panel.
        assert (float(drawn[1]) - 29) / 115 == pytest.approx(across, abs=0.002)
        assert 1 - (float(drawn[2]) - 6) / 113 == pytest.approx(share[1], abs=0.002)


def test_the_one_label_of_the_first_screen_shows_its_operating_point(tmp_path):
    _, html = page_of({"m": table(tmp_path / "p.csv", ("Mass",))}, tmp_path / "out")
    assert 'id="answer-operating-point-0"' in section(html, "answer")


def test_without_threshold_no_point_is_drawn_and_the_reason_is_said_once_a_place(tmp_path):
    found, html = page_of({"m": table(tmp_path / "p.csv", FINDINGS, val=False)}, tmp_path / "out")
    reason = found["models"][0]["labels"][0]["threshold"]["reason"]
    assert reason and "operating-point" not in html
    for name in ("answer", "thresholds", "undefined"):
        assert 1 <= section(html, name).count(reason) <= 2


def test_a_finding_of_one_patient_is_hollow_and_last(tmp_path):
    _, html = page_of({"m": table(tmp_path / "p.csv", FINDINGS)}, tmp_path / "out")
    svg = plot(html, "forest")
    own = svg.split('id="forest-hollow-row5-model0"')
    assert len(own) == 2 and "a class has cases of 1 patient only" in html
    assert svg.rindex(">Hernia<") > max(svg.rindex(f">{label}<") for label in FINDINGS[:-1])
    assert all(f'id="forest-filled-row{row}-model0"' in svg for row in (1, 2, 3, 4))


def test_the_reservation_of_the_only_label_is_said_beside_it(tmp_path):
    found, html = page_of({"m": table(tmp_path / "p.csv", ("Hernia",))}, tmp_path / "out")
    reason = found["models"][0]["labels"][0]["metrics"]["auroc"]["reason"]
    assert reason and f"AUROC: {reason}." in section(html, "answer")


def test_no_sentence_is_repeated_for_every_finding(tmp_path):
    labels = tuple(f"Finding {i}" for i in range(14))
    _, html = page_of({"m": table(tmp_path / "p.csv", labels)}, tmp_path / "out")
    seen = re.sub(r'<span class="hidden">[^<]*</span>', "", html.split("</style>")[1])  # daggers, for screen readers
    without_names = re.sub(r"Finding \d+|[\d.,]+", "", re.sub(r"<[^>]+>", "\n", seen))
    lines = [" ".join(line.split()) for line in without_names.splitlines()]
    sentences = [line for line in lines if len(line.split()) > 7]
    assert {line for line in sentences if sentences.count(line) > 2} == set()


def test_scores_stand_by_truth_under_the_calibration_curve(tmp_path):
    tables = {name: table(tmp_path / "p.csv", ("Mass",), seed=i) for i, name in enumerate("ab")}
    _, html = page_of(tables, tmp_path / "out")
    svg = plot(html, "p0c")
    drawn = {f"{kind}-{i}" for kind in ("positive", "negative") for i in (0, 1)}
    assert set(re.findall(r'id="p0c-scores-(\w+-\d)"', svg)) == drawn


@pytest.mark.parametrize("pixels", [np.full((500, 400), 30000, np.uint16), np.full((90, 80, 3), 0.5)])
def test_most_wrong_cases_stand_beside_their_map(tmp_path, pixels):
    grid = ImageMap(np.eye(4), (0, 0, 400, 500), 400, 500)
    seen = []

    def image_map(case, label):
        seen.append(label)
        if len(seen) == 1:
            raise DataError("map.h5: cut off")
        return grid if len(seen) == 2 else None

    context = {"image": lambda _: pixels, "image_map": image_map}
    _, html = page_of({"m": table(tmp_path / "p.csv", ("Mass",))}, tmp_path / "out", **context)
    wrong = section(html, "wrong")
    assert set(seen) == {"Mass"} and len(seen) > 2
    assert wrong.count("<img") == len(seen) + 1
    assert wrong.count("map not readable: map.h5: cut off") == 1


def test_without_images_the_most_wrong_cases_are_one_table(tmp_path):
    _, html = page_of({"m": table(tmp_path / "p.csv", FINDINGS)}, tmp_path / "out")
    assert section(html, "wrong").count("<table") == 1 and "<figure" not in section(html, "wrong")
