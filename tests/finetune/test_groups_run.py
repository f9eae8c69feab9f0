"""A group of exclusive classes beside findings in one model: learned, predicted, evaluated, compared and exported."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.core.errors import DataError, UserError
from clinvit.core.label_groups import findings_of, is_mixed, parts_of, settled
from clinvit.datasets.manifest.tables import Predictions, read_manifest, read_predictions
from clinvit.eval import Evaluation, evaluate
from clinvit.eval.units import Units, by_unit, unit_manifest
from clinvit.finetune.losses import masked_bce, masked_cross_entropy
from clinvit.finetune.model import load_card
from clinvit.finetune.objectives import Findings
from clinvit.finetune.run import finetune
from clinvit.finetune.training import accuracy, log_loss
from clinvit.stages.dicom.rows import result_case
from clinvit.stages.evaluate import evaluate_stage
from clinvit.stages.export import export_stage
from clinvit.stages.finetune import finetune_stage
from clinvit.stages.light_predict import predict_light
from clinvit.stages.predict import Request, predict_stage
from clinvit.stages.prepare import prepare_stage
from clinvit.tasks import load
from PIL import Image

LABELS = ("Corner", "stage=S0", "stage=S1", "stage=S2", "Bar")
STAGE = list(LABELS[1:4])


@pytest.fixture
def discs(tmp_path):
    """Discs of three sizes (the stage, unknown of every tenth patient), some with a bright corner or bar."""
    rng, rows = np.random.default_rng(0), []
    y, x = np.mgrid[:32, :32]
    (tmp_path / "own").mkdir()
    for patient in range(90):
        stage, corner, bar = int(rng.integers(0, 3)), rng.random() < 0.4, rng.random() < 0.4
        pixels = rng.normal(60, 12, (32, 32)) + 80 * ((y - 16) ** 2 + (x - 16) ** 2 < (2 + 5 * stage) ** 2)
        pixels[:6, :6] += 120 * corner
        pixels[28:, :] += 100 * bar
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "own" / f"i{patient}.png")
        split = ("train", "train", "train", "val", "test", "test")[patient % 6]
        known = "" if patient % 10 == 3 else f"S{stage}"
        rows.append((f"i{patient}.png", f"p{patient}", split, int(corner), known, int(bar)))
    table = pd.DataFrame(rows, columns=["path", "patient", "split", "Corner", "stage", "Bar"])
    table.to_csv(tmp_path / "own/list.csv", index=False)
    prepare_stage(
        load("images").layouts(), tmp_path / "own/list.csv", tmp_path / "own/manifest.csv",
        options={"groups": "stage"},
    )  # fmt: skip
    return tmp_path / "own/manifest.csv"


def test_a_group_beside_findings_goes_from_a_table_to_a_report(discs, small_recipes, tmp_path, capsys):
    manifest = read_manifest(discs)
    assert (
        set(manifest.labels) == set(LABELS) and np.isnan(manifest.with_labels(STAGE).targets()).all(axis=1).sum() == 9
    )
    fine = small_recipes[1]
    augment, optim = replace(fine.augment, crop_scale=(1.0, 1.0)), replace(fine.optim, epochs=12, base_lr=0.03)
    recipe = replace(fine, augment=augment, optim=optim, data=replace(fine.data, cache_px=32))
    folder = finetune_stage(recipe, discs, tmp_path / "run", cache=tmp_path / "cache", calibrate="temperature")
    assert "group stage: exactly one of stage=S0, stage=S1, stage=S2" in capsys.readouterr().out
    card = load_card(folder)
    assert not card.exclusive and set(card.thresholds) == {"Corner", "Bar"}
    assert len({card.calibration[label]["slope"] for label in STAGE}) == 1
    path = tmp_path / "run/predictions.csv"
    scores = read_predictions(path).table[[f"p_{label}" for label in STAGE]].to_numpy()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)

    table = predict_stage(Request(folder, [str(discs)], tmp_path / "new.csv"))
    assert {name for name in table if name.startswith("pred_")} == {"pred_Corner", "pred_Bar"}
    case = result_case(card, "0" * 64, table.iloc[0].to_dict(), [])
    present = {each.label: each.present for each in case.findings}
    cuts = {each.label: each.threshold for each in case.findings}
    assert sum(present[label] for label in STAGE) == 1 and {cuts[label] for label in STAGE} == {None}

    fewer = Evaluation(resamples=60)
    report = evaluate_stage({"one": path}, tmp_path / "report", data=discs, evaluation=fewer)
    own = report.metrics.set_index(["label", "metric"])["value"]
    assert own["stage", "classes_accuracy"] > 0.6
    assert ("Corner", "threshold") in own and ("stage=S0", "threshold") not in own
    assert "over 2 of 2 findings" in report.headline[0] and report.headline[-1].startswith("stage: Accuracy")
    group = report.to_dict()["groups"]["groups"][0]
    assert group["models"][0]["classes"]["unknown_truth"] > 0
    page = (tmp_path / "report/report.html").read_text()
    assert 'id="groups"' in page and "without a known class of stage" in page
    other = tmp_path / "other.csv"
    rows = pd.read_csv(path)
    rows[[f"p_{label}" for label in STAGE]] = 1 / 3
    rows.to_csv(other, index=False)
    both = evaluate({"one": path, "other": other}, tmp_path / "both", evaluation=fewer).metrics
    assert both[(both["model"] == "one - other") & (both["label"] == "stage")].size

    if importlib.util.find_spec("onnxscript") is None or importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("onnxscript and onnxruntime are not installed: clinvit[export]")
    export_stage(folder, "onnx", tmp_path / "onnx")
    predict_light(tmp_path / "onnx", [str(discs)], tmp_path / "light.csv")
    light = read_predictions(tmp_path / "light.csv")
    np.testing.assert_allclose(light.scores(), table[[f"p_{name}" for name in light.labels]], atol=1e-4)
    np.testing.assert_array_equal(light.truth(), table[[f"y_{name}" for name in light.labels]])


def test_losses_and_probabilities_are_those_of_the_parts():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 5, generator=generator)
    truth = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 0, 0, 1], [1, float("nan"), float("nan"), float("nan"), 0]] * 2)
    asked = Findings(False, LABELS)
    wanted = masked_cross_entropy(outputs[:, 1:4], truth[:, 1:4]) + masked_bce(outputs[:, [0, 4]], truth[:, [0, 4]])
    torch.testing.assert_close(asked.loss(outputs, truth), wanted)
    scores = asked.activate(outputs)
    torch.testing.assert_close(scores[:, 1:4], outputs[:, 1:4].softmax(dim=1))
    torch.testing.assert_close(scores[:, [0, 4]], outputs[:, [0, 4]].sigmoid())
    for metric in (accuracy, log_loss):
        parts = [metric(scores[:, 1:4], truth[:, 1:4], True), metric(scores[:, [0, 4]], truth[:, [0, 4]], False)]
        assert metric(scores, truth, False, LABELS) == pytest.approx(np.mean(parts))


def test_names_say_the_groups():
    assert [(part.group, part.places) for part in parts_of(LABELS)] == [("stage", [1, 2, 3]), ("", [0, 4])]
    assert findings_of(["a=1", "b", "c=2"]) == ["a=1", "b", "c=2"], "a class that is alone is a finding"
    assert is_mixed(["v=1", "v=2", "s=1", "s=2"]) and not is_mixed(["v=1", "v=2"]) and not is_mixed(["a", "b"])
    assert [part.exclusive for part in parts_of(["a", "b"], exclusive=True)] == [True]


def test_truth_of_a_group_is_one_class_or_unknown():
    nan = np.nan
    truth = np.array([[1, 1, nan, nan, 0], [0, nan, 0, 0, 1], [0, nan, nan, nan, 1.0]])
    wanted = np.array([[1, 1, 0, 0, 0], [0, nan, nan, nan, 1], [0, nan, nan, nan, 1]])
    np.testing.assert_array_equal(settled("t", LABELS, truth), wanted)
    for wrong, words in (([0, 1, 1, 0, 0], "2 of the classes of 'stage' are 1"), ([0] * 5, "0 of the classes")):
        with pytest.raises(DataError, match=f"t: row 2: {words}"):
            settled("t", LABELS, np.array([wrong], float))


def test_units_average_a_group_and_take_the_highest_of_findings():
    table = pd.DataFrame(
        {"id": ["a", "b"], "patient": "p", "split": "test", "status": "ok", "reason": ""}
        | {f"y_{name}": values for name, values in zip(LABELS, ([0, 1], [1, 1], [0, 0], [0, 0], [0, 0]))}
        | {f"p_{name}": v for name, v in zip(LABELS, ([0.2, 0.8], [0.5, 0.1], [0.3, 0.3], [0.2, 0.6], [0.4, 0.1]))}
    ).astype({f"y_{name}": float for name in LABELS})
    found = by_unit(Predictions(None, table, LABELS), Units("patient"), False)
    np.testing.assert_allclose(found.scores()[0], [0.8, 0.3, 0.3, 0.4, 0.4])
    np.testing.assert_array_equal(found.truth()[0], [1, 1, 0, 0, 0])
    table["y_stage=S0"], table["y_stage=S1"] = [1.0, 0.0], [0.0, 1.0]
    found = by_unit(Predictions(None, table, LABELS), Units("patient"), False)
    assert np.isnan(found.truth()[0, 1:4]).all() and any("the class of stage differs" in note for note in found.notes)


def test_manifests_of_units_keep_groups(discs):
    manifest = read_manifest(discs)
    whole = unit_manifest(manifest, Units("patient"), exclusive=False)
    np.testing.assert_array_equal(whole.targets(), manifest.targets())


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"loss": "ce"}, "--loss ce is for labels that all exclude each other; stage"),
        ({"mode": "knn"}, "mode knn is not made for groups of classes"),
        ({"select": "accuracy"}, "select accuracy is not made for groups of classes"),
    ],
)
def test_what_does_not_go_with_groups_is_refused(discs, small_recipes, tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        finetune(replace(small_recipes[1], **changes), read_manifest(discs), tmp_path / "run", tmp_path / "cache")


def test_columns_of_0_and_1_become_a_group_and_others_are_refused(discs, tmp_path):
    table = pd.read_csv(discs.parent / "list.csv")
    views = table.assign(AP=table["Corner"], PA=1 - table["Corner"]).drop(columns=["Corner", "stage"])
    views.to_csv(discs.parent / "views.csv", index=False)
    images = load("images").layouts()
    prepare_stage(images, discs.parent / "views.csv", discs.parent / "v.csv", options={"groups": "view:AP+PA"})
    assert set(read_manifest(discs.parent / "v.csv").labels) == {"view=AP", "view=PA", "Bar"}
    for asked, words in (("nothing", "no column 'nothing'"), ("path", "a group has 2 to 50 classes")):
        with pytest.raises(DataError, match=words):
            prepare_stage(images, discs.parent / "views.csv", discs.parent / "w.csv", options={"groups": asked})
    facts = json.loads((discs.parent / "v.json").read_text())
    assert {each["name"] for each in facts["columns"]} >= {"view=AP", "view=PA"}
