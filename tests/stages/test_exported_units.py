"""Exported models of studies: torch, ONNX Runtime and the runtime without pandas put the same units together."""

import csv
import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.core.files import write_json
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.stages.exported import FACTS, read_exported
from clinvit.stages.light_predict import predict_light
from PIL import Image

CALIBRATION = {"method": "platt", "slope": 1.5, "intercept": -0.2, "split": "val", "cases": 9, "reason": ""}
UNITS = [
    {"unit": "study", "rule": "noisy-or"}, {"unit": "patient", "rule": "mean"}, {"unit": "case", "rule": "max"},
    {"unit": "study", "rule": {"Square": "mean", "": "max"}},
]  # fmt: skip


def manifest(folder):
    """Images of three patients, one of them broken, with a study each but the last."""
    rng, rows = np.random.default_rng(0), []
    for number in range(9):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).save(path)
        if number == 4:
            path.write_bytes(b"broken")
        study, case = "" if number == 8 else f"s{number // 2 % 2}", f"eye{number % 2}"
        rows.append([number, path.name, f"p{number // 3}", "test", study, case, number % 2, ""])
    with (folder / "manifest.csv").open("w", newline="") as file:
        head = ["id", "path", "patient", "split", "study", "case", "Square", "Bar"]
        csv.writer(file).writerows([head, *rows])
    return folder / "manifest.csv"


@pytest.mark.parametrize("aggregation", UNITS)
def test_the_rule_goes_with_the_graph(random_model, tmp_path, aggregation):
    pytest.importorskip("onnxruntime")
    if importlib.util.find_spec("onnxscript") is None:
        pytest.skip("onnxscript is not installed: clinvit[export]")
    thresholds = {"Square": {"value": 0.5, "how": "youden", "split": "val"}}
    plain = {"method": "none", "slope": 1.0, "intercept": 0.0, "split": "val", "cases": 9, "reason": "few"}
    model = random_model(
        thresholds=thresholds, aggregation=aggregation, calibration={"Square": CALIBRATION, "Bar": plain}
    )
    data = manifest(tmp_path)
    assert main(["export", str(model), "--to", "onnx", "--out", str(tmp_path / "onnx")]) == 0
    tables = {}
    for name, more in (("torch", ["--model", str(model)]),
                       ("onnx", ["--model", str(tmp_path / "onnx"), "--runtime", "onnx"])):  # fmt: skip
        out = tmp_path / f"{name}.csv"
        assert main(["predict", "images", str(data), "--out", str(out), *more]) == 0
        tables[name] = read_predictions(out).table
    found = predict_light(tmp_path / "onnx", [str(data)], tmp_path / "light.csv")
    tables["light"] = read_predictions(tmp_path / "light.csv").table
    assert found.notes and len(tables["torch"]) < 9
    for name in ("onnx", "light"):
        pd.testing.assert_frame_equal(tables["torch"], tables[name], rtol=1e-5, atol=1e-5)
    images = [pd.read_csv(tmp_path / f"{name}.images.csv") for name in ("onnx", "light")]
    pd.testing.assert_frame_equal(*images, check_like=True)
    assert "pred_Square" not in images[1] and "pred_Square" in tables["light"]
    said = [json.loads((tmp_path / f"{name}.model.json").read_text()) for name in ("torch", "light")]
    assert said[0]["aggregation"] == said[1]["aggregation"] == aggregation
    again = predict_light(tmp_path / "onnx", [str(data)], tmp_path / "light.csv", resume=True)
    assert again.columns["id"] == list(tables["light"]["id"])


def test_a_rule_that_is_none_is_refused(random_model, tmp_path):
    pytest.importorskip("onnxruntime")
    model = random_model(aggregation={"unit": "study", "rule": "max"})
    assert main(["export", str(model), "--to", "onnx", "--out", str(tmp_path / "onnx")]) == 0
    facts = tmp_path / "onnx" / FACTS
    write_json(facts, json.loads(facts.read_text()) | {"aggregation": {"unit": "study", "rule": "median"}})
    with pytest.raises(UserError, match="median"):
        read_exported(tmp_path / "onnx")
