"""Maps and tables of a cross-validation's models are judged together: as those of one model, patients kept apart."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.documents import read_json
from clinvit.core.errors import DataError, UserError
from clinvit.core.files import write_json
from clinvit.datasets.images.image_maps import ImageMaps, case_file, read_maps, write_maps
from clinvit.datasets.manifest.boxes import Box, write_boxes
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.eval import Evaluation
from clinvit.stages.evaluate import evaluate_stage
from clinvit.stages.fold_predict import predict_any
from clinvit.stages.folds import finetune_folds
from clinvit.stages.predict import Request

QUICK = Evaluation(resamples=100)
MODELS = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def judged(cohort):
    """A manifest of 60 patients with boxes around each square, and where a made-up model looked at every case."""
    path = cohort(60)
    manifest = read_manifest(path)
    positive = manifest.table.loc[manifest.table["Square"] == 1, "id"]
    write_boxes(path.parent / "boxes.csv", [Box(case, "Square", 4, 8, 12, 12, 40, 40) for case in positive])
    draw = np.random.default_rng(0)
    return path, manifest, {case: draw.random((1, 8, 8)) for case in manifest.table["id"]}


def predictions(place, manifest, maps, rows, model: str, splits=None):
    """Write a table of some cases with its maps and facts; gives the table's path."""
    table = manifest.table.iloc[rows]
    scores = np.random.default_rng(1).random(len(manifest.table))[rows]
    found = pd.DataFrame({
        "id": table["id"], "patient": table["patient"], "split": splits or "test", "status": "ok", "reason": "",
        "y_Square": table["Square"].astype(int), "p_Square": scores.round(6),
    })  # fmt: skip
    place.mkdir(parents=True)
    found.to_csv(place / "predictions.csv", index=False)
    seen = {"test": {"cases": len(table), "trained_on": 0, "pretrained_on": None, "pretrained_at_least": False}}
    facts = {"model": "model", "labels": ["Square"], "exclusive": False, "sha256": model, "seen": seen}
    write_json(place / "predictions.model.json", facts | {"thresholds": {"Square": {"value": 0.5, "how": "youden"}}})
    for case in table["id"]:
        own = ImageMaps(case, ("Square",), maps[case], (0, 0, 40, 40), 40, 40, "gradient", model)
        write_maps(case_file(place / "explanations/maps", case, ".h5"), own)
    return place / "predictions.csv"


def dealt(manifest) -> list[np.ndarray]:
    """Return the rows of three folds by patient."""
    number = manifest.table["patient"].str[1:].astype(int) % 3
    return [np.flatnonzero(number == fold) for fold in range(3)]


def test_folds_are_judged_as_one_model_of_all_cases(judged, tmp_path, capsys):
    path, manifest, maps = judged
    folds = [predictions(tmp_path / f"f{n}", manifest, maps, rows, MODELS[n]) for n, rows in enumerate(dealt(manifest))]
    order = np.concatenate(dealt(manifest))
    whole = predictions(tmp_path / "whole", manifest, maps, order, MODELS[0])
    one = evaluate_stage({"vit": whole}, tmp_path / "one", data=path, evaluation=QUICK).to_dict()
    command = [
        "evaluate",
        *(f"vit={table}" for table in folds),
        "--data",
        str(path),
        "--out",
        str(tmp_path / "many"),
        "--resamples",
        "100",
    ]
    assert main(command) == 2
    assert "both called 'vit'" in capsys.readouterr().err
    assert main([*command, "--folds"]) == 0
    many = read_json(tmp_path / "many/report.json")
    assert many["boxes"] == read_json(tmp_path / "one/report.json")["boxes"] == one["boxes"] and many["boxes"]
    areas = [each["models"][0]["labels"][0]["metrics"]["auroc"] for each in (one, many)]
    assert areas[0] == areas[1] and areas[0]["high"] > areas[0]["low"]
    facts = read_json(tmp_path / "many/folds/vit/predictions.model.json")
    assert [each["sha256"] for each in facts["folds"]] == list(MODELS) and "thresholds" not in facts
    assert facts["folds"][1]["thresholds"]["Square"]["value"] == 0.5
    assert facts["seen"]["test"] == {"cases": 120, "trained_on": 0, "pretrained_on": None, "pretrained_at_least": False}
    joined = read_predictions(tmp_path / "many/folds/vit/predictions.csv").table
    assert joined["fold"].value_counts().to_dict() == {"1": 40, "2": 40, "3": 40}


def test_rows_that_a_fold_was_chosen_on_are_left_out(judged, tmp_path):
    path, manifest, maps = judged
    rows = dealt(manifest)
    tables = []
    for n in range(3):  # each fold's table also has those that it was chosen on, which the next fold scores
        both = [*rows[n], *rows[(n + 1) % 3]]
        splits = ["test"] * len(rows[n]) + ["val"] * len(rows[(n + 1) % 3])
        tables.append(predictions(tmp_path / f"f{n}", manifest, maps, both, MODELS[n], splits))
    evaluate_stage({"vit": tables}, tmp_path / "out", data=path, evaluation=QUICK)
    found = tmp_path / "out/folds/vit"
    assert len(read_predictions(found / "predictions.csv").table) == 120
    for n in range(3):
        case = manifest.table["id"].iloc[rows[n][0]]
        assert read_maps(case_file(found / "explanations/maps", case, ".h5")).model == MODELS[n]


def test_a_patient_in_two_folds_is_refused_by_name(judged, tmp_path):
    path, manifest, maps = judged
    first, second, _ = dealt(manifest)
    again = [row for row in range(len(manifest.table)) if manifest.table["patient"][row] == "p0"]
    tables = [
        predictions(tmp_path / "a", manifest, maps, first, MODELS[0]),
        predictions(tmp_path / "b", manifest, maps, [*second, again[1]], MODELS[1]),
    ]
    with pytest.raises(DataError, match=r"the patient 'p0' is scored there and in .*a/predictions\.csv: folds keep"):
        evaluate_stage({"vit": tables}, tmp_path / "out", data=path)
    with pytest.raises(DataError, match="no row with split 'val'"):
        evaluate_stage({"vit": tables[:1] * 2}, tmp_path / "out", data=path, evaluation=replace(QUICK, split="val"))


def test_a_map_of_none_of_the_folds_is_refused(judged, tmp_path):
    path, manifest, maps = judged
    folds = [predictions(tmp_path / f"f{n}", manifest, maps, rows, MODELS[n]) for n, rows in enumerate(dealt(manifest))]
    case = manifest.table.loc[manifest.table["Square"] == 1, "id"].iloc[0]
    fold = next(table.parent for table in folds if case in table.read_text())
    stale = ImageMaps(case, ("Square",), maps[case], (0, 0, 40, 40), 40, 40, "gradient", "d" * 64)
    write_maps(case_file(fold / "explanations/maps", case, ".h5"), stale)
    with pytest.raises(DataError, match="maps of several models or methods"):
        evaluate_stage({"vit": folds}, tmp_path / "out", data=path)


def test_models_of_other_labels_and_folds_of_nothing_are_refused(judged, tmp_path, capsys):
    path, manifest, maps = judged
    rows = dealt(manifest)
    tables = [predictions(tmp_path / f"f{n}", manifest, maps, rows[n], MODELS[n]) for n in range(2)]
    text = tables[1].read_text().replace("_Square", "_Bar")
    tables[1].write_text(text)
    with pytest.raises(DataError, match=r"scores of Bar; .* has Square"):
        evaluate_stage({"vit": tables}, tmp_path / "out", data=path)
    assert main(["evaluate", "--folds", f"vit={tables[0]}", "--out", str(tmp_path / "out")]) == 2
    assert "no two tables have one name" in capsys.readouterr().err


def test_a_cross_validation_predicts_each_case_by_the_model_that_held_it_out(cohort, small_recipes, tmp_path, capsys):
    path = cohort(20)
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=1, warmup_epochs=0, batch_size=8))
    held_out = finetune_folds(recipe, path, tmp_path / "cv", 3, cache=tmp_path / "cache")
    out = tmp_path / "p/predictions.csv"
    command = ["predict", "images", str(path), "--model", str(tmp_path / "cv"), "--out", str(out)]
    assert main([*command, "--explain", str(tmp_path / "p/explanations")]) == 0
    assert f"{out}: 40 requested = 40 ok + 0 failed" in capsys.readouterr().out
    expected, found = (read_predictions(each).table.set_index("id") for each in (held_out, out))
    np.testing.assert_allclose(found.loc[expected.index, "p_Square"], expected["p_Square"], atol=1e-5)
    assert set(found["split"]) == {"test"} and len(list((tmp_path / "p/explanations/maps").iterdir())) == 40
    folds = pd.read_csv(tmp_path / "cv/folds.csv", dtype=str).set_index("id")["fold"]
    assert (found["fold"] == folds.loc[found.index]).all()
    write_boxes(path.parent / "boxes.csv", [Box("000_0", "Square", 4, 8, 12, 12, 40, 40)])
    report = evaluate_stage({"vit": out}, tmp_path / "report", data=path, evaluation=QUICK).to_dict()
    assert report["boxes"]
    with pytest.raises(UserError, match="give the manifest, one CSV"):
        predict_any(Request(tmp_path / "cv", [str(path.parent / "images")], out))
    manifest = pd.read_csv(path)
    manifest.loc[0, ["id", "patient"]] = ["new", "new"]
    manifest.to_csv(path.parent / "other.csv", index=False)
    with pytest.raises(DataError, match="1 of 40 cases, first 'new', were held out by no fold"):
        predict_any(Request(tmp_path / "cv", [str(path.parent / "other.csv")], out))
    shutil.rmtree(tmp_path / "cv/fold_2/model")
    with pytest.raises(UserError, match="fold_2/model: no model there"):
        predict_any(Request(tmp_path / "cv", [str(path)], out))
