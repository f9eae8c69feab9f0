"""The stages of every task: calibration is fitted once, on validation, and then applied wherever the model is."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.cards import Card
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.engine.recipe import Optim, Run
from clinvit.eval import Evaluation
from clinvit.eval.statistics.operating_points import choose
from clinvit.finetune.pipeline import calibrated
from clinvit.mil.cards import load_any_card
from clinvit.mil.recipe import Mil
from clinvit.stages.evaluate import evaluate_stage
from clinvit.stages.finetune import finetune_stage
from clinvit.stages.predict import Request, predict_stage
from clinvit.stages.slides.predict import Request as SlideRequest
from clinvit.stages.slides.predict import predict_slides
from scipy.special import logit


def with_wrong_labels(data):
    """Every sixth validation label turned around, so that no score separates the classes; gives the path."""
    table = pd.read_csv(data, dtype=str, keep_default_na=False)
    wrong = table.index[table["split"] == "val"][::6]
    for label in ("Square", "Bar"):
        table.loc[wrong, label] = table.loc[wrong, label].replace({"0": "1", "1": "0"})
    table.to_csv(data, index=False)
    return data


@pytest.fixture
def trained(cohort, small_recipes, tmp_path):
    """`trained(calibrate)` fine-tunes in one run folder, which a second call continues; gives it and the manifest."""
    data = with_wrong_labels(cohort(patients=60))
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=10))

    def run(calibrate=None):
        finetune_stage(recipe, data, tmp_path / "run", cache=tmp_path / "cache", calibrate=calibrate)
        return tmp_path / "run", data

    return run


def files(run):
    return [(run / name).read_bytes() for name in ("predictions.csv", "model/model.json")]


def test_calibrated_on_validation_and_everywhere_after(trained, tmp_path):
    run, data = trained()
    raw, plain = read_predictions(run / "predictions.csv"), files(run)
    assert load_any_card(run / "model").calibration == {}
    trained("platt")
    table, card = read_predictions(run / "predictions.csv"), load_any_card(run / "model")
    own = card.calibration["Square"]
    assert (own["method"], own["split"], own["cases"]) == ("platt", "val", len(raw.rows("val")))
    expected = own["slope"] * logit(raw.scores()[:, 0]) + own["intercept"]
    np.testing.assert_allclose(logit(table.scores()[:, 0]), expected, atol=1e-4)
    val = table.rows("val")
    thresholds = [card.thresholds[label]["value"] for label in card.labels]
    assert thresholds == pytest.approx([point.threshold for point in choose(val.truth(), val.scores())])

    predict_stage(Request(run / "model", [str(data)], tmp_path / "again.csv"))
    again = read_predictions(tmp_path / "again.csv").rows("val", "test")
    assert list(again.table["id"]) == list(table.table["id"])
    np.testing.assert_allclose(again.scores(), table.scores(), atol=2e-5)

    once = files(run)
    trained("platt")
    assert files(run) == once, "calibrated twice"
    trained()
    assert files(run) == plain

    path = run / "model/model.json"
    before = {name: value for name, value in json.loads(path.read_text()).items() if name != "calibration"}
    path.write_text(json.dumps(before))
    predict_stage(Request(run / "model", [str(data)], tmp_path / "old.csv"))
    old = read_predictions(tmp_path / "old.csv").rows("val", "test")
    np.testing.assert_allclose(old.scores(), raw.scores(), atol=2e-5)


def test_a_run_interrupted_while_calibrating_gives_the_same(trained, monkeypatch):
    run, _ = trained("temperature")
    whole = files(run)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Card, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            trained("temperature")
    assert files(run)[0] == whole[0]
    trained("temperature")
    assert files(run) == whole


def test_the_report_says_how(trained, tmp_path):
    run, data = trained("platt")
    evaluate_stage(
        {"own": run / "predictions.csv"}, tmp_path / "report", data=data, evaluation=Evaluation(resamples=20)
    )
    page = " ".join((tmp_path / "report/report.html").read_text(encoding="utf-8").split())
    assert "Scores were calibrated by Platt scaling, fitted on the val cases." in page
    assert "The same cases chose the epoch and the thresholds." in page
    assert "calibrated on these cases: optimistic" not in page
    evaluate_stage(
        {"own": run / "predictions.csv"},
        tmp_path / "report",
        data=data,
        evaluation=Evaluation(resamples=20, split="val"),
    )
    assert "own: calibrated on these cases: optimistic" in (tmp_path / "report/report.html").read_text(encoding="utf-8")


def test_a_label_that_cannot_be_calibrated_is_named(cohort, small_recipes, tmp_path, capsys):
    data = cohort()
    table = pd.read_csv(data, dtype=str, keep_default_na=False)
    table.loc[table["split"] == "val", "Bar"] = "0"
    table.to_csv(data, index=False)
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2))
    model = finetune_stage(recipe, data, tmp_path / "run", cache=tmp_path / "cache", calibrate="platt")
    assert "scores stay as they are for Bar (one class only)" in capsys.readouterr().out
    card = load_any_card(model)
    assert card.calibration["Bar"]["method"] == "none"
    scores = np.full((1, 2), 0.3)
    assert calibrated(card, scores)[0, 1] == 0.3
    evaluate_stage({"own": tmp_path / "run/predictions.csv"}, tmp_path / "report", evaluation=Evaluation(resamples=20))
    assert "Bar (one class only)" in (tmp_path / "report/report.html").read_text(encoding="utf-8")


def test_what_could_not_be_calibrated_is_refused_before_the_training(cohort, small_recipes, tmp_path):
    data = cohort()
    classes = replace(small_recipes[1], loss="ce")
    with pytest.raises(UserError, match="calibrate by temperature"):
        finetune_stage(classes, data, tmp_path / "run", calibrate="platt")
    table = pd.read_csv(data, dtype=str, keep_default_na=False)
    table["split"] = table["split"].replace("val", "test")
    table.to_csv(data, index=False)
    with pytest.raises(UserError, match="no case in the split val to calibrate on"):
        finetune_stage(replace(small_recipes[1], select="last"), data, tmp_path / "run", calibrate="temperature")
    assert not (tmp_path / "run").exists()


def test_exclusive_classes_share_a_temperature(cohort, small_recipes, tmp_path):
    data = with_wrong_labels(cohort(patients=60))
    table = pd.read_csv(data, dtype=str, keep_default_na=False)
    table["None"] = (table["Square"] == "0").astype(int)
    table.drop(columns="Bar").to_csv(data, index=False)
    recipe = replace(small_recipes[1], loss="ce")
    model = finetune_stage(recipe, data, tmp_path / "run", cache=tmp_path / "cache", calibrate="temperature")
    card, found = load_any_card(model), read_predictions(tmp_path / "run/predictions.csv")
    first, second = card.calibration.values()
    assert first == second and first["method"] == "temperature" and first["slope"] != 1
    np.testing.assert_allclose(found.scores().sum(axis=1), 1, atol=1e-5)
    predict_stage(Request(model, [str(data)], tmp_path / "again.csv"))
    again = read_predictions(tmp_path / "again.csv").rows("val", "test")
    np.testing.assert_allclose(again.scores(), found.scores(), atol=2e-5)


def test_bags_are_calibrated_as_images_are(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "features").mkdir()
    for case in range(60):
        tumor = case // 3 % 2
        features = rng.normal(0, 1, (int(rng.integers(5, 20)), 8)).astype(np.float32)
        features[:3, 0] += 4 * (tumor != (case % 18 == 1))  # every sixth validation slide is wrong
        with h5py.File(tmp_path / f"features/s{case}.h5", "w") as file:
            file.create_dataset("features", data=features).attrs["encoder"] = "vit"
            file.create_dataset("coords", data=np.zeros((len(features), 2), np.int64))
        rows.append((f"s{case}", f"s{case}.tif", f"p{case}", ("train", "val", "test")[case % 3], tumor))
    data = tmp_path / "manifest.csv"
    pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumor"]).to_csv(data, index=False)
    optim = Optim(epochs=12, warmup_epochs=0, batch_size=2, base_lr=2.56, betas=(0.9, 0.999), optimizer="adam")
    recipe = Mil(aggregator="max", optim=optim, run=Run(precision="32-true", checkpoint_minutes=0))
    model = finetune_stage(recipe, data, tmp_path / "run", features=tmp_path / "features", calibrate="platt")
    (own,) = load_any_card(model).calibration.values()
    assert own["method"] == "platt" and own["slope"] != 1
    request = SlideRequest(model, [str(data)], tmp_path / "again.csv", tmp_path / "features", splits=["val", "test"])
    again = predict_slides(request)
    np.testing.assert_allclose(
        again["p_tumor"], read_predictions(tmp_path / "run/predictions.csv").scores()[:, 0], atol=2e-5
    )


def test_the_command_refuses_another_method(capsys):
    assert main(["finetune", "thorax", "--calibrate", "isotonic"]) == 2
    assert "--calibrate" in capsys.readouterr().err
