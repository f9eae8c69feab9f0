"""A copy of a model calibrated on another site: new scores, the same predicted labels, and a card that says so."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import write_manifest
from clinvit.finetune.model import ModelCard
from clinvit.stages.predict import Request, predict_stage
from clinvit.stages.recalibrate import recalibrate_stage
from scipy.special import expit, logit, softmax

CASES = 60
CUTS = {label: {"value": 0.5, "how": "youden", "split": "val", "reason": ""} for label in ("Square", "Bar")}
OLD = {
    label: {"method": "platt", "slope": 3.0, "intercept": -0.5, "split": "val", "cases": 9, "reason": ""}
    for label in CUTS
}


@pytest.fixture
def site(small_images, random_model, tmp_path):
    """A manifest of 60 images of as many patients of another hospital.

    Every third has Square, mostly those that the model scores highest; four have Bar.
    """
    folder = small_images(CASES, ())
    ids = [path.name for path in sorted(folder.iterdir())]
    table = pd.DataFrame({"id": ids, "path": ids, "patient": [f"p{i}" for i in range(CASES)], "split": "test"})
    table["Square"], table["Bar"] = 0, (np.arange(CASES) < 4).astype(int)
    write_manifest(folder / "manifest.csv", table, ["Square", "Bar"])
    scores = predicted(random_model(), folder / "manifest.csv", tmp_path / "first.csv")["p_Square"]
    rank = scores.rank(method="first").to_numpy() + np.where(np.arange(CASES) % 4 == 0, -25, 0)
    table["Square"] = (np.argsort(np.argsort(rank)) >= CASES * 2 // 3).astype(int)
    write_manifest(folder / "manifest.csv", table, ["Square", "Bar"])
    return folder / "manifest.csv"


def predicted(model, manifest, out):
    predict_stage(Request(model, [str(manifest)], out))
    return pd.read_csv(out)


@pytest.mark.parametrize("calibration", [{}, OLD])
def test_the_copy_gives_calibrated_scores_and_predicts_every_case_as_before(random_model, site, tmp_path, calibration):
    model = random_model(thresholds=CUTS, calibration=calibration)
    before_card = (model / "model.json").read_bytes()
    before = predicted(model, site, tmp_path / "before.csv")
    assert main(["recalibrate", str(model), str(tmp_path / "before.csv"), "--out", str(tmp_path / "copy")]) == 0
    assert (model / "model.json").read_bytes() == before_card
    after = predicted(tmp_path / "copy", site, tmp_path / "after.csv")
    assert after["p_Square"].mean() == pytest.approx(1 / 3, abs=0.02)  # Platt's targets are a little inside of 0 and 1
    assert np.abs(after["p_Square"] - before["p_Square"]).max() > 0.05
    assert (after["pred_Square"] == before["pred_Square"]).all()
    assert np.allclose(after["p_Bar"], before["p_Bar"])  # four patients are too few
    card = ModelCard.read(tmp_path / "copy")
    assert card.data["recalibrated"]["table"] == "before.csv" and card.data["recalibrated"]["cases"] == CASES
    assert "before.csv" in card.calibration["Square"]["split"]
    assert "4 patients" in card.calibration["Bar"]["reason"] or calibration


def test_the_intercept_alone_moves_scores_to_the_share_of_the_site(random_model, site, tmp_path, capsys):
    model = random_model(thresholds=CUTS, calibration=OLD)
    before = predicted(model, site, tmp_path / "before.csv")
    command = ["recalibrate", str(model), str(tmp_path / "before.csv"), "--out", str(tmp_path / "copy")]
    assert main([*command, "--method", "intercept"]) == 0
    assert "Square: logit × 3 " in capsys.readouterr().out  # the old slope stays
    after = predicted(tmp_path / "copy", site, tmp_path / "after.csv")
    assert after["p_Square"].mean() == pytest.approx(1 / 3, abs=1e-4)
    assert (after["pred_Square"] == before["pred_Square"]).all()
    shift = logit(after["p_Square"]) - logit(before["p_Square"])
    assert np.ptp(shift) < 1e-3 and abs(shift.mean()) > 0.05


def test_exclusive_classes_get_one_temperature_and_thresholds_anew(random_model, tmp_path):
    model = random_model(thresholds=CUTS)
    replace(ModelCard.read(model), exclusive=True).write(model)
    generator = np.random.default_rng(0)
    log_odds = generator.normal(size=CASES)
    scores = expit(4 * log_odds)  # far too sure
    truth = (generator.random(CASES) < expit(log_odds)).astype(int)
    table = pd.DataFrame({"id": [f"c{i}" for i in range(CASES)], "patient": [f"p{i}" for i in range(CASES)]})
    table = table.assign(split="val", status="ok", reason="", y_Square=truth, y_Bar=1 - truth)
    table.assign(p_Square=scores, p_Bar=1 - scores).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(UserError, match="exclusive classes add up to 1"):
        recalibrate_stage(model, tmp_path / "p.csv", tmp_path / "copy", "intercept")
    assert not (tmp_path / "copy").exists()
    found = recalibrate_stage(model, tmp_path / "p.csv", tmp_path / "copy")
    assert found["Square"] == found["Bar"] and found["Square"].method == "temperature"
    assert found["Square"].slope == pytest.approx(0.25, abs=0.15)
    card = ModelCard.read(tmp_path / "copy")
    assert card.exclusive and card.thresholds["Square"]["split"] == "val of p.csv"
    new = softmax(found["Square"].slope * np.log([scores, 1 - scores]), axis=0)[0]
    cut = card.thresholds["Square"]["value"]
    assert cut != 0.5 and 0 < (new >= cut).sum() < CASES


def test_a_manifest_is_predicted_first(random_model, site, tmp_path):
    model = random_model(thresholds=CUTS)
    found = recalibrate_stage(model, site, tmp_path / "copy")
    assert (tmp_path / "copy-predictions.csv").is_file()
    assert found["Square"].method == "platt" and found["Bar"].method == "none"


def test_what_does_not_fit_is_refused_and_leaves_no_copy(random_model, site, tmp_path):
    model = random_model(thresholds=CUTS)
    predicted(model, site, tmp_path / "p.csv")
    facts = json.loads((tmp_path / "p.model.json").read_text())
    (tmp_path / "p.model.json").write_text(json.dumps(facts | {"calibration": OLD}))
    with pytest.raises(UserError, match="another calibration"):
        recalibrate_stage(model, tmp_path / "p.csv", tmp_path / "copy")
    (tmp_path / "p.model.json").unlink()
    table = pd.read_csv(tmp_path / "p.csv")
    table.head(12).to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(DataError, match="no label can be calibrated"):
        recalibrate_stage(model, tmp_path / "few.csv", tmp_path / "copy")
    table.rename(columns={"p_Bar": "p_Baz", "y_Bar": "y_Baz"}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(UserError, match="Give predictions of this model"):
        recalibrate_stage(model, tmp_path / "other.csv", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        recalibrate_stage(model, tmp_path / "p.csv", tmp_path / "copy")
