"""A report says which of its cases the model has seen before: trained on, chosen on, or seen by its encoder."""

import html
import json
from dataclasses import replace

import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.seen import case_hash, patient_hash, read_hashes, save_hashes, seen_cases, write_hashes
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.eval import Evaluation
from clinvit.eval.statistics.operating_points import parse_rule
from clinvit.finetune.model import load_card
from clinvit.pretrain.run import pretrain
from clinvit.stages.evaluate import evaluate_stage
from clinvit.stages.finetune import finetune_stage, store_thresholds
from clinvit.stages.predict import Request, predict_stage
from clinvit.stages.seen import seen_sentences


def test_hashes(tmp_path):
    path = tmp_path / "hashes.txt"
    assert read_hashes(path) is None
    write_hashes(path, ["a", "b"], ["p"])
    assert read_hashes(path) == {case_hash("a"), case_hash("b"), patient_hash("p")} and case_hash("p") != patient_hash(
        "p"
    )
    cases = pd.DataFrame({"id": ["a", "c", "p", "d"], "patient": ["q", "p", "r", "a"]})
    own, patients = seen_cases(cases, read_hashes(path))
    assert own.tolist() == [True, False, False, False] and patients.tolist() == [True, True, False, False]
    save_hashes(path, None)
    assert not path.exists()


@pytest.fixture
def run(cohort, small_recipes, tmp_path):
    """`run(splits of pre-training, ...)` fine-tunes and gives the run folder and the manifest."""

    def train(seen=None, broken=0, **changes):
        data = cohort(patients=30)
        for file in read_manifest(data, ()).rows("train").files()[:broken]:
            file.write_bytes(b"not an image")
        pre, fine = (replace(r, optim=replace(r.optim, epochs=1, warmup_epochs=0)) for r in small_recipes)
        encoder = None
        if seen is not None:
            pre = replace(pre, data=replace(pre.data, splits=seen))
            encoder = pretrain(pre, read_manifest(data, ()), tmp_path / "pre", tmp_path / "cache")
        finetune_stage(replace(fine, **changes), data, tmp_path / "ft", encoder=encoder, cache=tmp_path / "cache")
        return tmp_path / "ft", data

    return train


def report(table, tmp_path, split="test") -> dict:
    metrics = evaluate_stage(
        {"own": table}, tmp_path / "report", evaluation=Evaluation(split=split, resamples=20)
    ).to_dict()
    assert json.loads((tmp_path / "report/report.json").read_text())["seen"] == metrics["seen"]
    page = html.unescape(" ".join((tmp_path / "report/report.html").read_text(encoding="utf-8").split()))
    assert all(text in page for text in metrics["seen"]["warnings"])
    return metrics["seen"] | {"page": page}


@pytest.mark.parametrize(
    "splits, test, val",
    [(None, 0, 0), (("train",), 0, 0), (("train", "val", "test"), 12, 12), (("train", "test"), 12, 0)],
)
def test_what_the_encoder_has_seen(run, tmp_path, capsys, splits, test, val):
    folder, _ = run(splits)
    told = capsys.readouterr().out
    assert ("has seen 12 of the 12 test cases, without their labels" in told) == bool(test)
    seen = report(folder / "predictions.csv", tmp_path)
    own = seen["models"]["own"]["test"]
    assert (own["cases"], own["trained_on"], own["chosen_on"], own["pretrained_on"]) == (12, 0, 0, test)
    assert load_card(folder / "model").data["seen_in_pretraining"] == {
        "test": test,
        "train": 36 * bool(splits),
        "val": val,
    }
    if test:
        (warning,) = seen["warnings"]
        assert warning.startswith("own: the encoder has seen 12 of the 12 test cases in pre-training, without labels")
        assert "--data.splits '[train]'" in warning
    else:
        assert not seen["warnings"] and "none of the 12 test cases was trained on, chosen on (" in seen["page"]
        assert "or seen by the encoder in pre-training, as far as ids" in seen["page"]


def test_a_split_that_chose_or_trained(run, tmp_path, capsys):
    folder, data = run()
    assert main(["evaluate", str(folder), "--split", "val", "--out", str(tmp_path / "r"), "--resamples", "20"]) == 0
    assert (
        "warning: ft: epoch, thresholds or calibration were chosen on 12 of the 12 val cases" in capsys.readouterr().out
    )

    # The same cases under other names of splits, predicted elsewhere: the table's own facts know them.
    table = pd.read_csv(data, dtype=str, keep_default_na=False)
    turned = table.assign(split=table["split"].map({"train": "test", "val": "train", "test": "val"}))
    turned.to_csv(data.with_name("turned.csv"), index=False)
    out = tmp_path / "elsewhere/p.csv"
    predict_stage(Request(folder / "model", [str(data.with_name("turned.csv"))], out))
    (warning,) = report(out, tmp_path)["warnings"]
    assert warning.startswith("own: trained on 36 of the 36 test cases, with their labels")
    warnings = report(out, tmp_path, "train")["warnings"]
    assert "split 'train' is what a model learns from" in warnings[0] and "chosen on 12 of the 12 train" in warnings[1]
    assert not report(out, tmp_path, "val")["warnings"]


def test_nothing_was_chosen(run, tmp_path):
    folder, _ = run(select="last")
    assert len(read_hashes(folder / "model/chosen_on.txt")) == 12, "youden chose thresholds on val"
    store_thresholds(folder / "model", read_predictions(folder / "predictions.csv"), "0.5")
    assert read_hashes(folder / "model/chosen_on.txt") == frozenset()


def test_stored_thresholds_travel_with_the_table(run, tmp_path):
    """A table of test cases alone is called by the thresholds that validation chose, never by ones of its own."""
    folder, data = run()
    table = pd.read_csv(data, dtype=str, keep_default_na=False)
    table[table["split"] == "test"].to_csv(data.with_name("test.csv"), index=False)
    out = tmp_path / "elsewhere/p.csv"
    predict_stage(Request(folder / "model", [str(data.with_name("test.csv"))], out))
    metrics = evaluate_stage({"own": out}, tmp_path / "report", evaluation=Evaluation(resamples=20)).to_dict()
    stored = load_card(folder / "model").thresholds
    for label in metrics["models"][0]["labels"]:
        assert label["threshold"]["value"] == pytest.approx(stored[label["label"]]["value"])
    # Without these there are none: no rule is ever applied to the cases that are evaluated.
    out.with_name("p.model.json").unlink()
    bare = evaluate_stage({"own": out}, tmp_path / "report", evaluation=Evaluation(resamples=20)).to_dict()
    assert "no threshold: the table has no scored val row" in json.dumps(bare)
    assert not bare["models"][0]["thresholds_chosen_on_these_cases"] and bare["seen"]["models"]["own"] == {}


@pytest.mark.parametrize("rule", ["test", "youden@test", "youden:test"])
def test_no_rule_takes_a_threshold_from_elsewhere(rule):
    with pytest.raises(UserError, match="threshold rule"):
        parse_rule(rule)


def test_training_on_the_cases_that_choose(run, tmp_path, small_recipes, capsys):
    fine = small_recipes[1]
    folder, _ = run(data=replace(fine.data, splits=("train", "val")))
    assert "note: val is trained on too" in capsys.readouterr().out
    warnings = report(folder / "predictions.csv", tmp_path, "val")["warnings"]
    assert "trained on 12 of the 12 val cases" in warnings[0]
    seen = report(folder / "predictions.csv", tmp_path)
    assert "chosen on 12 cases that the model was trained on" in " ".join(seen["warnings"])


def test_where_nothing_is_known_that_is_said():
    for table in ({}, {"val": {"cases": 2, "trained_on": 0, "chosen_on": 0, "pretrained_on": 0}}):
        warnings, (fact,) = seen_sentences("test", table)
        assert not warnings and fact.startswith("it is not known whether any of the test cases was trained on, ")
    assert "split 'train'" in seen_sentences("train", {})[0][0]


def test_what_is_not_known_stands_beside_what_is():
    unknown = {"cases": 3, "trained_on": 0, "chosen_on": 0, "pretrained_on": None, "pretrained_patients": None}
    warnings, (clear, open_) = seen_sentences("test", {"test": unknown})
    assert not warnings and clear.startswith("none of the 3 test cases was trained on or chosen on (")
    assert "not known whether any of the test cases was seen by the encoder in pre-training" in open_
    both = {"cases": 3, "trained_on": None, "chosen_on": 0, "pretrained_on": 2, "pretrained_patients": 2}
    warnings, (open_,) = seen_sentences("test", {"test": both})
    assert len(warnings) == 1 and "not known whether any of the test cases was trained on:" in open_


def test_training_files_that_could_not_be_read_are_counted_in_the_report(run, tmp_path, small_recipes):
    folder, data = run(broken=1, run=replace(small_recipes[1].run, max_bad=0.1))
    lost = read_manifest(data).rows("train").table["id"].iloc[0]
    words = f"1 training file could not be read and was left out of its training ({lost})"
    out = tmp_path / "elsewhere/p.csv"
    predict_stage(Request(folder / "model", [str(data)], out))
    for table in (folder / "predictions.csv", out):
        assert words in report(table, tmp_path)["page"]
