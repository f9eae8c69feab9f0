"""The report: a page that parses, needs no network, escapes everything and hides nothing."""

import json
import math
import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Context, Evaluation, evaluate
from clinvit.eval.report.images import jpeg_uri

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Parses strictly: every tag closed in order; keeps tags, ids, and text."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.ids, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def predictions(path, *, n=60, labels=("mass", "edema"), split="test", failed=(), seed=0, ids=None, truth=None):
    """A table of n cases in `split` and 40 in val, two cases a patient."""
    generator = np.random.default_rng(0)
    splits = [split] * n + (["val"] * 40 if split != "val" else [])
    total = len(splits)
    ids = list(ids or []) + [f"case{i}" for i in range(len(ids or []), total)]
    patients = [f"{where}{i // 2}" for i, where in enumerate(splits)]
    truth_all = (generator.random((total, len(labels))) < 0.4).astype(float)
    if truth is not None:
        truth_all[:n] = truth
    latent = np.random.default_rng(seed).normal(size=truth_all.shape) + 1.5 * np.nan_to_num(truth_all) - 1
    reasons = ["file truncated <b>" if i in failed else "" for i in range(total)]
    cases = pd.DataFrame({"id": ids, "patient": patients, "split": splits})
    scores = 1 / (1 + np.exp(-latent))
    write_predictions(path, predictions_table(cases, labels, truth_all, scores, reasons))
    return read_predictions(path)


def report(tables, out, **options):
    """Evaluate with few resamples; the JSON read back, the parsed page and its source."""
    title, settings = options.pop("title", "Evaluation"), {"resamples": 100}
    settings |= {name: options.pop(name) for name in ("resamples", "split", "rule") if name in options}
    context = Context(**{"unit": "image"} | options)
    metrics = evaluate(tables, out, evaluation=Evaluation(**settings), title=title, context=context).to_dict()
    html = (out / "report.html").read_text(encoding="utf-8")
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(metrics))
    return metrics, Page(html), html


def test_two_models_whole_report(tmp_path):
    tables = {
        "pretrained": predictions(tmp_path / "a.csv", failed=(3, 4, 70)),
        "scratch": predictions(tmp_path / "b.csv", seed=1, failed=(5,)),
    }
    before = dict(matplotlib.rcParams)
    metrics, page, html = report(
        tables,
        tmp_path / "out",
        title="Two models",
        image=lambda case: np.full((300, 200), 0.5),
        provenance={"pretrained": {"recipe": {"epochs": 3, "lr": math.nan}, "path": tmp_path, "n": np.int64(2)}},
        meaning={"mass": "opacity > 3 cm"},
    )
    assert dict(matplotlib.rcParams) == before
    assert re.match(
        r"pretrained: macro AUROC 0\.\d\d \(95 % CI .*\) over 2 of 2 findings on 58 images of", metrics["headline"][0]
    )
    assert "58 of 60 requested; 2 failed, " in metrics["headline"][0]
    assert "pretrained minus scratch" in metrics["headline"][-1]
    assert "of 60 requested, those that both scored (2 failed in pretrained; 1 failed in scratch, " in page.text
    assert "zero" in metrics["headline"][-1]
    assert metrics["headline"][0] in page.text
    assert "2 of 60 requested cases failed; they are not in the metrics and not counted as negative." in page.text
    assert "chosen on these cases" not in page.text
    assert "Not for clinical use" in page.text
    assert "opacity > 3 cm" in page.text
    assert "recipe.epochs" in page.text
    assert metrics["models"][0]["provenance"]["recipe"] == {"epochs": 3, "lr": None}
    assert metrics["comparisons"][0]["left_out"] == 3
    assert len(page.ids) == len(set(page.ids))
    assert all(image["alt"] and image["src"].startswith("data:image/jpeg;base64,") for image in page.named("img"))
    assert page.named("img")
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.named("svg"))
    assert len(page.named("caption")) == len(page.named("table"))
    assert all("scope" in cell for cell in page.named("th"))
    targets = [link["href"][1:] for link in page.named("a")]
    assert set(targets) <= set(page.ids)
    outside_images = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", html)
    refused = re.findall(r"(?:https?:)?//[\w.]|<script|<link|@import|url\((?!#)", outside_images)
    assert refused == []
    assert not re.search(r"#0000\d\d|@\d+@", html)  # stand-ins of the drawings


@pytest.mark.parametrize("classes", [3, 25])
def test_page_of_exclusive_classes_parses(tmp_path, classes):
    labels = [f"class <{i}>" for i in range(classes)]
    tables = {}
    for name, failed in {"one <b>": (3,), "two": ()}.items():
        table = predictions(tmp_path / "p.csv", n=90, labels=labels, seed=len(failed), failed=failed)
        cells = table.table
        cells[[f"y_{label}" for label in labels]] = np.eye(classes)[np.arange(len(cells)) % (classes - 1)]
        scores = table.scores()
        cells[[f"p_{label}" for label in labels]] = scores / scores.sum(axis=1, keepdims=True)
        tables[name] = table
    metrics, page, html = report(tables, tmp_path / "out", resamples=20)
    assert "over 2 of 3 classes" in page.text or classes > 3
    assert ("1 of 25 classes" in page.text) == (
        classes > 3
    )  # of many classes, those with undefined metrics are counted
    assert len(page.ids) == len(set(page.ids))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.named("svg"))
    assert len(page.named("caption")) == len(page.named("table"))
    assert all("scope" in cell for cell in page.named("th"))
    assert {link["href"][1:] for link in page.named("a")} <= set(page.ids)
    assert not re.search(r"#0000\d\d|@\d+@", html)
    assert metrics["models"][0]["classes"]["failed_with_known_truth"] == 1


def test_metrics_csv_agrees_with_json(tmp_path):
    metrics, _, _ = report({"m": predictions(tmp_path / "a.csv")}, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "metrics.csv", keep_default_na=False)
    assert ",".join(table.columns) == "model,label,metric,value,low,high,n,positives,reason"
    row = table[(table["label"] == "edema") & (table["metric"] == "auroc")].iloc[0]
    told = metrics["models"][0]["labels"][1]
    assert float(row["value"]) == pytest.approx(told["metrics"]["auroc"]["value"], abs=1e-5)
    assert (int(row["n"]), int(row["positives"])) == (told["n"], told["positives"])
    assert table["metric"].isin(["macro_auroc", "threshold", "sensitivity", "ppv", "brier"]).any()


def test_same_input_same_bytes(tmp_path):
    table = predictions(tmp_path / "a.csv")
    _, _, one = report({"m": table}, tmp_path / "one")
    _, _, two = report({"m": table}, tmp_path / "two")
    assert one == two


def test_everything_from_data_is_escaped(tmp_path):
    bad = "<script>alert('x')</script>"
    dollar = '$\\frac{"a&b'
    table = predictions(
        tmp_path / "a.csv", labels=(bad, dollar, "@0@ ünï 肺炎 🫁"), ids=[f"{bad}{i}" for i in range(9)]
    )

    def image(case):
        raise DataError(f"{case}: {bad}")

    metrics, page, html = report(
        {bad: table, f"{bad}2": table},
        tmp_path / "out",
        title=bad,
        unit=bad,
        provenance={bad: {bad: bad}},
        image=image,
        meaning={bad: bad},
    )
    assert "<script" not in html
    assert bad in page.text
    assert "肺炎" in html
    assert metrics["title"] == bad


def test_undefined_metrics_have_reasons(tmp_path):
    truth = np.column_stack([np.zeros(60), np.ones(60), np.full(60, np.nan), np.tile([0, 1], 30)])
    table = predictions(tmp_path / "a.csv", labels=("none", "every", "unknown", "both"), truth=truth)
    metrics, page, _ = report({"m": table}, tmp_path / "out")
    auroc = {row["label"]: row["metrics"]["auroc"] for row in metrics["models"][0]["labels"]}
    assert (auroc["none"]["value"], auroc["none"]["reason"]) == (None, "no positive case")
    assert (auroc["every"]["value"], auroc["every"]["reason"]) == (None, "no negative case")
    assert (auroc["unknown"]["value"], auroc["unknown"]["reason"]) == (None, "no case with known truth")
    assert auroc["both"]["value"] is not None
    assert "over 1 of 4 findings" in metrics["headline"][0]
    assert "no case with known truth" in page.text
    walk = [metrics]
    while walk:  # no metric is missing without a reason
        item = walk.pop()
        if isinstance(item, dict):
            assert item.get("value", 0) is not None or item["reason"]
            walk += item.values()
        elif isinstance(item, list):
            walk += item


def test_all_failed(tmp_path):
    metrics, page, _ = report({"m": predictions(tmp_path / "a.csv", n=5, failed=range(5))}, tmp_path / "out")
    (said,) = metrics["headline"]
    assert said.startswith("The AUROC of m is undefined on 0 images of 0 patients: no scored case. 0 of 5 requested; ")
    assert "5 of 5 requested cases failed" in page.text
    assert page.text.count("file truncated <b>") == 5


def test_one_case(tmp_path):
    metrics, page, _ = report({"m": predictions(tmp_path / "a.csv", n=1)}, tmp_path / "out")
    assert "1 image of 1 patient" in metrics["headline"][0]
    assert "no positive case" in page.text or "no negative case" in page.text


@pytest.mark.thorough
def test_two_hundred_labels(tmp_path):
    labels = [f"finding {i}" for i in range(200)]
    metrics, page, html = report({"m": predictions(tmp_path / "a.csv", labels=labels)}, tmp_path / "out")
    assert len(metrics["models"][0]["labels"]) == 200
    assert "finding 199" in page.text
    assert "30 of 200 findings" in page.text
    assert len(html) < 4e6


def test_thresholds_on_the_evaluated_cases_are_called_optimistic(tmp_path):
    table = predictions(tmp_path / "a.csv", split="val")
    metrics, page, _ = report({"m": table}, tmp_path / "out", split="val")
    assert metrics["models"][0]["thresholds_chosen_on_these_cases"]
    assert "chosen on these cases: optimistic" in page.text


def test_stored_thresholds(tmp_path):
    table = predictions(tmp_path / "a.csv")
    metrics, page, _ = report({"m": table}, tmp_path / "out", thresholds={"m": {"mass": 0.25}})
    mass, edema = (row["threshold"] for row in metrics["models"][0]["labels"])
    assert (mass["value"], mass["rule"]) == (0.25, "given")
    assert edema["value"] is None
    assert "no threshold" in edema["reason"]
    assert "stored with the model" in page.text
    with pytest.raises(UserError, match="'other'"):
        evaluate({"m": table}, tmp_path / "x", context=Context(thresholds={"other": {}}))


def test_no_validation_rows_no_threshold(tmp_path):
    table = predictions(tmp_path / "a.csv").rows("test")
    metrics, _, _ = report({"m": table}, tmp_path / "out")
    assert "no scored val row" in metrics["models"][0]["labels"][0]["threshold"]["reason"]
    metrics, _, _ = report({"m": table}, tmp_path / "out", rule="0.5")
    assert metrics["models"][0]["labels"][0]["threshold"]["value"] == 0.5


def test_missing_split_names_those_there_are(tmp_path):
    table = predictions(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"no case in split 'train'; it has 'val', 'test'"):
        evaluate({"m": table}, tmp_path / "out", evaluation=Evaluation(split="train"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="Nothing to evaluate"):
        evaluate({}, tmp_path / "out")


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((500, 300), np.uint8),
        np.full((9, 9), 65535, np.uint16),
        np.full((4, 4, 3), np.nan, np.float32),
        np.ones((5, 5, 1)),
    ],
)
def test_images_of_any_kind_become_small_jpegs(pixels):
    uri = jpeg_uri(pixels)
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 5000
