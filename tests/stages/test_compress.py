"""`compress`: tried from the smallest on, judged by finding, kept and loaded again; bad requests refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.cli import main
from clinvit.compress.variants import AS_IT_IS, METHODS, Variant, check_compressible, untrained, variants_of
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.eval import Evaluation
from clinvit.eval.statistics.compare import compare
from clinvit.finetune.model import load_card, load_model
from clinvit.finetune.out_of_distribution import read_limit
from clinvit.finetune.run import finetune
from clinvit.stages.compress.judge import NOT_JUDGED, OPEN, PASSED, WORSE, judge
from clinvit.stages.compress.run import Request, compress_stage
from clinvit.stages.exported import read_exported
from clinvit.stages.finetune import after_training


@pytest.fixture
def run(cohort, small_recipes, tmp_path):
    """`run(patients, **fields)` trains a model of Square and Bar; returns its run folder and its manifest."""

    def train(patients=150, **fields):
        data = cohort(patients=patients)
        recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=3), **fields)
        model = finetune(recipe, read_manifest(data), tmp_path / "ft", tmp_path / "pixel-cache")
        after_training(model, tmp_path / "ft", "youden", None)
        return tmp_path / "ft", data

    return train


def table(path, scores, truth, patients=None, split="val"):
    """A predictions table of the labels A, B, ..."""
    count = len(next(iter(scores.values())))
    head = {"id": [f"c{i}" for i in range(count)], "patient": patients or [f"p{i}" for i in range(count)]}
    columns = head | {"split": split, "status": "ok", "reason": ""}
    columns |= {f"y_{label}": values for label, values in truth.items()}
    columns |= {f"p_{label}": values for label, values in scores.items()}
    pd.DataFrame(columns).to_csv(path, index=False)
    return read_predictions(path)


def test_every_finding_is_judged_by_the_upper_bound_of_its_paired_loss(tmp_path):
    rng = np.random.default_rng(0)
    n = 600
    truth = {label: rng.integers(0, 2, n) for label in "ABC"} | {"D": np.r_[np.ones(4, int), np.zeros(n - 4, int)]}
    noise = rng.normal(size=(4, n))
    full = {label: 1 / (1 + np.exp(-(truth[label] * 2 + noise[i]))) for i, label in enumerate("ABCD")}
    small = {
        "A": np.clip(full["A"] + rng.normal(0, 1e-3, n), 0, 1),  # hardly changed
        "B": np.clip(full["B"] + rng.normal(0, 1.0, n), 0, 1),  # much worse
        "C": np.clip(full["C"] + rng.normal(0, 0.1, n), 0, 1),  # a little
        "D": full["D"],
    }
    tables = table(tmp_path / "small.csv", small, truth), table(tmp_path / "full.csv", full, truth)
    found = {each.label: each for each in judge(*tables, 0.01, "val").findings}
    assert [found[label].verdict for label in "ABD"] == [PASSED, WORSE, NOT_JUDGED]
    assert found["C"].verdict in (OPEN, WORSE) and "4 patients" in found["D"].why
    tests = compare(*tables, Evaluation(split="val")).tests
    for place, label in enumerate("ABC"):
        difference = tests[place].difference
        loss = found[label].loss
        np.testing.assert_allclose(
            (loss.value, loss.low, loss.high), (-difference.value, -difference.high, -difference.low)
        )
        assert (found[label].verdict == PASSED) == (loss.high < 0.01)
    assert not judge(*tables, 0.01, "val").passed


def test_a_model_of_the_same_order_of_all_cases_is_not_worse_and_a_rare_finding_alone_never_passes(tmp_path):
    truth = np.r_[np.ones(20, int), np.zeros(20, int)]
    scores = np.linspace(0.9, 0.1, 40)
    scores[[3, 30]] = scores[[30, 3]]
    few = np.r_[np.ones(3, int), np.zeros(37, int)]
    both = {"A": scores, "B": scores}
    full = table(tmp_path / "full.csv", both, {"A": truth, "B": few})
    small = table(tmp_path / "small.csv", {label: own**2 for label, own in both.items()}, {"A": truth, "B": few})
    found = judge(small, full, 0.001, "val")
    assert found.passed and [each.verdict for each in found.findings] == [PASSED, NOT_JUDGED]
    full = table(tmp_path / "full.csv", {"B": scores}, {"B": few})
    small = table(tmp_path / "small.csv", {"B": scores**2}, {"B": few})
    assert not judge(small, full, 0.5, "val").passed


def test_cases_that_the_smaller_model_alone_fails_on_do_not_pass(tmp_path):
    truth, scores = np.tile([0, 1], 30), np.linspace(0.1, 0.9, 60)
    full = table(tmp_path / "full.csv", {"A": scores}, {"A": truth})
    small = pd.read_csv(tmp_path / "full.csv", dtype=str)
    small.loc[5, ["status", "reason", "p_A"]] = ["failed", "the graph gave no number", ""]
    small.to_csv(tmp_path / "small.csv", index=False)
    found = judge(read_predictions(tmp_path / "small.csv"), full, 0.5, "val")
    assert found.failed == 1 and not found.passed


def test_what_a_model_may_become_depends_on_the_methods_and_on_its_network(run, tmp_path):
    folder, _ = run(20)
    card = load_card(folder / "model")
    names = {one.name for one in variants_of(card, METHODS)}
    assert {"idle-50", "idle-75", "idle-75-heads-25", "prune-25", "prune-50", "as-it-is"} <= names
    assert [one.name for one in variants_of(card, ("int8",))] == ["as-it-is"]
    assert {one.name for one in variants_of(card, ("idle",))} == {"idle-50", "idle-75", "as-it-is"}
    gated = replace(card, arch=replace(card.arch, gated_mlp=True))
    assert not any(one.idle for one in variants_of(gated, ("idle", "prune")))
    small = replace(card, arch=replace(card.arch, width=384, depth=12, heads=6))
    assert {"tiny", "tiny-idle-75"} <= {one.name for one in variants_of(small, METHODS)}
    network, _ = load_model(folder / "model")
    for variant in variants_of(card, METHODS):
        made, own = untrained(variant, network.cpu(), card)
        assert made(torch.zeros(2, 1, 32, 32)).shape == (2, 2)
        assert variant == AS_IT_IS or own.arch.weights < card.arch.weights
    for fields, words in (
        ({"network": "resnet18"}, "network 'resnet18': only ViTs"),
        ({"mode": "linear"}, "has not learned the task"),
        ({"scales": (1, 2)}, "only models of one scale"),
    ):
        with pytest.raises(UserError, match=words):
            check_compressible(replace(card, **fields))


def test_the_command_keeps_the_smallest_graph_that_is_not_worse(run, tmp_path, capsys):
    folder, data = run()
    out = tmp_path / "small"
    command = [
        "compress",
        str(folder),
        "--data",
        str(data),
        "--out",
        str(out),
        "--margin",
        "0.5",
        "--epochs",
        "1",
        "--debug",
    ]
    assert main([*command, "--methods", "idle,int8"]) == 0
    said = capsys.readouterr().out
    facts = json.loads((out / "compress.json").read_text())
    first = facts["tries"][0]
    assert first["name"] == facts["chosen"] and "times as small" in said
    assert first["times_as_small"] > 1
    assert all(each["verdict"].startswith("not tried") for each in facts["tries"][1:-1])
    assert facts["tries"][-1]["name"] == "as-it-is fp32"
    network, card = load_model(out / "model")
    assert card.compression["margin"] == 0.5 and card.compression["steps"] == first["steps"]
    assert card.compression["from"]["parameters"] > card.compression["parameters"]
    graphs = list((out / "onnx").glob("*.onnx"))
    said = json.loads((out / "onnx/clinvit.json").read_text())
    assert len(graphs) == 1 and said["labels"] == ["Square", "Bar"]
    # Its own features have a limit on what is unlike the training cases, and the graph one of its own.
    limit, own = read_limit(out / "model", card, network.cpu()), read_exported(graphs[0]).limit
    assert limit is not None and own is not None and own.limit != limit.limit
    assert limit.facts() == card.data["out_of_distribution"] and own.patients == limit.patients
    rows = pd.read_csv(out / "compress.csv")
    assert set(rows["finding"].dropna()) == {"Square", "Bar"} and rows["chosen"].eq("yes").sum() == 2
    page = (out / "compress.html").read_text()
    assert "<svg" in page and first["name"] in page and "Each finding on test" in page
    assert "How it was made smaller" in (out / "README.md").read_text()
    assert main(["predict", "thorax", str(data), "--model", str(out / "model"), "--out", str(tmp_path / "p.csv")]) == 0
    assert network.encoder.arch.mlp_shortcut
    measured = (out / "tries/measured.json").read_bytes()
    assert main([*command, "--methods", "idle,int8"]) == 0
    assert (out / "tries/measured.json").read_bytes() == measured


def test_for_pytorch_a_strict_margin_keeps_the_model_itself_and_says_so(run, tmp_path, capsys):
    folder, data = run()
    found = compress_stage(
        Request(folder, tmp_path / "same", 1e-6, data, "torch", ("prune",), 1, tmp_path / "pixel-cache")
    )
    assert found.chosen.whole and "the model stays as it is" in found.sentences()[0]
    assert [each.judged is not None for each in found.tries] == [True] * len(found.tries)
    one, two = (load_model(path)[0].state_dict() for path in (folder / "model", tmp_path / "same/model"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    loose = Request(folder, tmp_path / "loose", 0.6, data, "torch", ("prune",), 1, tmp_path / "pixel-cache")
    found = compress_stage(loose)
    assert found.chosen.variant == Variant("prune-50", heads=0.25, hidden=0.5)
    assert load_card(tmp_path / "loose/model").arch.block_hidden
    start, trained = (read_predictions(path / "predictions.csv") for path in (folder, tmp_path / "loose"))
    assert trained.table["id"].tolist() == start.table["id"].tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--margin", "-0.01"], "margin -0.01: a difference between 0 and 1"),
        (["--margin", "0"], "margin 0: a difference between 0 and 1"),
        (["--margin", "nan"], "margin nan"),
        (["--margin", "0.1", "--epochs", "0"], "--epochs 0: a whole number from 1 on"),
        (["--margin", "0.1", "--methods", "magic"], "--methods 'magic': of idle, prune, distil, int8"),
        (["--margin", "0.1", "--methods", "int8", "--target", "torch"], "int8 is for --target onnx"),
        ([], "--margin"),
    ],
)
def test_requests_that_make_no_sense_are_refused(tmp_path, capsys, arguments, words):
    assert main(["compress", str(tmp_path), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_that_cannot_be_judged_are_refused(run, tmp_path):
    folder, data = run(20)
    ask = Request(folder, tmp_path / "out", 0.05, data)
    with pytest.raises(DataError, match=r"no finding can be judged on validation: .* fewer than 10 patients"):
        compress_stage(ask)
    with pytest.raises(UserError, match=r"no recipe\.yaml in it: give the run folder"):
        compress_stage(replace(ask, run=data.parent))
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("  splits:\n  - train\n", "  splits:\n  - train\n  - val\n"))
    with pytest.raises(UserError, match="trained on val too"):
        compress_stage(ask)
    (folder / "recipe.yaml").write_text(text)
    predictions = folder / "predictions.csv"
    rows = pd.read_csv(predictions)
    rows[rows["split"] == "test"].to_csv(predictions, index=False)
    with pytest.raises(DataError, match="no scored case in the split val"):
        compress_stage(ask)
    predictions.unlink()
    with pytest.raises(DataError, match=r"predictions\.csv: missing"):
        compress_stage(ask)
    assert not (tmp_path / "out").exists()


def test_the_manifest_is_that_of_the_run(run, tmp_path):
    folder, data = run()
    with pytest.raises(UserError, match="--data is missing"):
        compress_stage(Request(folder, tmp_path / "out", 0.05))
    table = pd.read_csv(data)
    table.loc[0, "Square"] = 1 - table.loc[0, "Square"]
    table.to_csv(tmp_path / "data" / "other.csv", index=False)
    with pytest.raises(UserError, match="not the cases that the model was trained on"):
        compress_stage(Request(folder, tmp_path / "out", 0.05, tmp_path / "data" / "other.csv"))
    with pytest.raises(UserError, match="the folder of the model itself"):
        compress_stage(Request(folder, folder, 0.05, data))
