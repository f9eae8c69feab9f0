"""Discs whose size decides a number, a grade and a time: learned, predicted, evaluated and exported end to end."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.api import load
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.images.image_maps import read_maps
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.eval import Evaluation, evaluate
from clinvit.finetune.model import load_card
from clinvit.finetune.run import finetune
from clinvit.stages.evaluate import evaluate_stage
from clinvit.stages.export import export_stage
from clinvit.stages.finetune import finetune_stage
from clinvit.stages.folds import finetune_folds
from clinvit.stages.predict import Request, predict_stage
from PIL import Image

KINDS = {
    "size": {"kind": "regression", "unit": "px"},
    "grade": {"kind": "ordinal"},
    "death": {"kind": "survival", "time": "days", "event": "died", "unit": "days"},
}


def truth_of(rng, radius):
    time, censored = rng.exponential(100 * np.exp((6 - radius) / 1.5)), rng.uniform(20, 400)
    return {
        "size": round(2 * radius, 3), "grade": int((radius - 2) // 3), "days": round(min(time, censored), 3),
        "died": int(time <= censored), "Large": int(radius > 7),
    }  # fmt: skip


@pytest.fixture
def discs(tmp_path):
    """Images of bright discs of a radius of 2 to 13 px, and their manifest."""
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "data").mkdir()
    y, x = np.mgrid[:32, :32]
    for patient in range(120):
        radius = rng.uniform(2, 13)
        split, truth = ("train", "train", "train", "val", "test", "test")[patient % 6], truth_of(rng, radius)
        for image in range(2):
            pixels = rng.normal(80, 15, (32, 32)) + 100 * ((y - 16) ** 2 + (x - 16) ** 2 < radius**2)
            name = f"p{patient}_{image}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "data" / name)
            rows.append({"id": name[:-4], "path": name, "patient": f"p{patient}", "split": split} | truth)
    table = pd.DataFrame(rows)
    table["size"] = table["size"].astype(object).mask(table.index % 19 == 5, "")
    table.to_csv(tmp_path / "data/manifest.csv", index=False)
    (tmp_path / "data/manifest.json").write_text(json.dumps({"targets": KINDS}))
    return tmp_path / "data/manifest.csv"


@pytest.fixture
def recipe(small_recipes):
    """A recipe that learns what a disc says in seconds."""
    fine = small_recipes[1]
    augment = replace(fine.augment, crop_scale=(1.0, 1.0))
    optim = replace(fine.optim, epochs=14, base_lr=0.03)
    return replace(fine, augment=augment, optim=optim, data=replace(fine.data, cache_px=32))


def test_all_kinds_are_recovered_and_reported(discs, recipe, tmp_path, capsys):
    recipe = replace(recipe, data=replace(recipe.data, labels=("size", "grade", "death")))
    file = discs.parent / "p4_0.png"
    file.write_text("no image")
    folder = finetune_stage(recipe, discs, tmp_path / "run", cache=tmp_path / "cache")
    said = capsys.readouterr().out
    assert "target size: a number, learned by mse, standardised by training (mean" in said
    assert "target grade: a grade from 0 to 3, learned by corn" in said
    assert "target death: the time until an event, learned by hazards; event-free probability at" in said

    card = load_card(folder)
    table = read_predictions(tmp_path / "run/predictions.csv", targets=True)
    assert [each.name for each in table.targets] == ["size", "grade", "death"] and not card.thresholds
    assert table.targets[2].times == card.kinds[2].times
    failed = table.failed().table
    assert failed["id"].tolist() == ["p4_0"] and failed[list(card.columns)].isna().all(axis=None)
    assert failed["y_size"].notna().all(), "the truth of a failed case stays"

    report = evaluate_stage({"model": tmp_path / "run/predictions.csv"}, tmp_path / "report", data=discs)
    own = report.metrics.set_index(["label", "metric"])["value"]
    assert own["size", "concordance"] > 0.7 and own["grade", "kappa_quadratic"] > 0.6
    assert own["death", "c_harrell"] > 0.6
    first, *_, lost = report.headline
    assert first.startswith("size (in px): mean absolute error ") and "images of 40 patients" in first
    assert lost == "1 of 80 requested images failed and are in no metric."
    content = report.to_dict()
    size, _, death = content["models"][0]["targets"]
    assert size["n"] + size["unknown_truth"] == 79 and size["failed_with_known_truth"] == 1
    assert [group["group"] for group in death["risk_groups"]] == ["low risk", "middle risk", "high risk"]
    page = (tmp_path / "report/report.html").read_text()
    for words in ("Bland-Altman", "Confusion of grades", "By risk", "Calibration at", "p4_0"):
        assert words in page
    assert r"Harrell" in (tmp_path / "report/report.tex").read_text()

    model = load(folder)
    rows = model.predict(discs, split="test")
    pd.testing.assert_series_equal(
        rows["value_size"], table.rows("test").table["value_size"], check_names=False, rtol=1e-4
    )
    (found,) = model.explain(discs.parent / "p5_0.png", labels=["size", "death"])
    assert found.maps.shape == (2, 4, 4) and found.maps.max() > 0 and not np.allclose(*found.maps)
    said = export_stage(folder, "onnx", tmp_path / "onnx")
    assert "pixels -> scores" in said[0]
    kept = json.loads((tmp_path / "onnx/clinvit.json").read_text())
    assert kept["targets"][0]["mean"] == card.targets[0]["mean"]
    export_stage(folder, "card", tmp_path / "card")
    assert "| size | a number, learned by mse" in (tmp_path / "card/README.md").read_text()


def test_cox_beside_hazards_are_compared_and_both_give_probabilities(discs, recipe, tmp_path):
    recipe = replace(recipe, data=replace(recipe.data, labels=("death",)), optim=replace(recipe.optim, epochs=8))
    folder = finetune(replace(recipe, loss="cox"), read_manifest(discs), tmp_path / "cox", tmp_path / "cache")
    (target,) = load_card(folder).kinds
    assert len(target.baseline) == len(target.times) and (np.diff(target.baseline) >= 0).all()
    finetune(recipe, read_manifest(discs), tmp_path / "hazards", tmp_path / "cache")
    for run in ("cox", "hazards"):
        table = read_predictions(tmp_path / run / "predictions.csv", targets=True)
        free = table.table[list(table.targets[0].columns[1:])].to_numpy()
        assert (np.diff(free, axis=1) <= 1e-6).all() and free.min() < 0.9 and (free <= 1).all()
    runs = {"cox": tmp_path / "cox", "hazards": tmp_path / "hazards"}
    report = evaluate(runs, tmp_path / "both", evaluation=Evaluation(resamples=200))
    rows = report.metrics[report.metrics["model"] == "cox - hazards"].set_index("metric")
    assert abs(rows.loc["c_harrell_difference", "value"]) < 0.3 and 0 <= rows.loc["c_harrell_p", "value"] <= 1
    assert any(sentence.startswith("cox minus hazards, death: Harrell’s C ") for sentence in report.headline)
    with pytest.raises(UserError, match="--threshold: for findings"):
        evaluate(runs, tmp_path / "x", evaluation=Evaluation(rule=0.5))

    out = tmp_path / "new.jsonl"
    (discs.parent / "bad.png").write_text("no image")
    predict_stage(Request(folder, [str(discs.parent / "p0_0.png"), str(discs.parent / "bad.png")], out))
    good, bad = (json.loads(line) for line in out.read_text().splitlines())
    assert 0 <= good["scores"][target.columns[1]] <= 1 and good["truth"]["time_death"] is None
    assert bad["status"] == "failed" and set(bad["scores"].values()) == {None}
    predict_stage(Request(folder, [str(discs.parent / "p0_0.png")], out, explain=tmp_path / "maps"))
    assert read_maps(tmp_path / "maps/maps/p0_0.h5").labels == ("death",)
    assert (tmp_path / "maps/images/death/p0_0.png").is_file()
    again = predict_stage(Request(folder, [str(discs.parent / "p0_0.png")], out, resume=True))
    assert again[target.columns[1]].iloc[0] == pytest.approx(good["scores"][target.columns[1]])


@pytest.mark.parametrize(
    "labels, changes, said",
    [
        (None, {}, r"findings \(Large\) and targets \(size, grade, death\) are learned by models of their own"),
        (("death",), {"loss": "ce"}, "--loss ce is not for death: one of hazards, cox"),
        (("death",), {"loss": "l1"}, "--loss l1 is not for death"),
        (("Large",), {"loss": "mse"}, "--loss mse is not for findings"),
        (("size",), {"mixup": 0.5}, "mixup is for findings, not for size"),
        (("size",), {"select": "accuracy"}, "--select accuracy is for findings"),
        (("size",), {"mode": "knn"}, "mode knn is for findings"),
    ],
)
def test_what_does_not_go_together_is_refused(discs, recipe, tmp_path, labels, changes, said):
    recipe = replace(recipe, data=replace(recipe.data, labels=labels), **changes)
    with pytest.raises((UserError, DataError), match=said):
        finetune(recipe, read_manifest(discs), tmp_path / "run", tmp_path / "cache")
    assert not (tmp_path / "run").exists()


def test_calibration_is_refused_and_so_are_verbs_of_findings(discs, recipe, tmp_path):
    recipe = replace(recipe, data=replace(recipe.data, labels=("size",)))
    with pytest.raises(UserError, match="--calibrate is for findings, not for size"):
        finetune_stage(recipe, discs, tmp_path / "run", cache=tmp_path / "cache", calibrate="platt")


def test_folds_of_times_are_refused(discs, recipe, tmp_path):
    recipe = replace(recipe, data=replace(recipe.data, labels=("death",)))
    with pytest.raises(UserError, match="--folds: the times at which death is predicted would differ"):
        finetune_folds(recipe, discs, tmp_path / "folds", 3)
