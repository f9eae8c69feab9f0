"""The published results of human-like MAEs, and the law that fits them."""

import json

import numpy as np
import pytest
from clinvit.cli import main
from clinvit.tasks.images.human_scaling import points

# A second fit of the same results, made apart from this code.
TOP1 = {"intercept": -58.70, "log_hours": 2.189, "log_parameters": 1.848, "log_image_px": 7.327, "r2": 0.949}
TOP5 = {"intercept": -63.11, "log_hours": 3.064, "log_parameters": 2.327, "log_image_px": 9.941, "r2": 0.951}


@pytest.mark.parametrize(("column", "low", "high"), [(0, 12.708, 44.114), (1, 29.046, 71.108)])
def test_all_results_are_there(column, low, high):
    metric, factors = points(column)
    assert len(metric) == 78 and (metric.min(), metric.max()) == (low, high)
    assert all(len(values) == 78 for values in factors.values())
    assert np.unique(factors["image_px"]).tolist() == [224, 448, 476] and (factors["hours"] == 5000).sum() == 6


def test_the_table_has_the_known_coefficients(tmp_path, capsys):
    assert main(["reproduce", "scaling/humanlike", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "scaling/humanlike/table.json").read_text(encoding="utf-8"))["rows"]
    for row, expected, predicted in zip(rows, (TOP1, TOP5), (53.2, 85.8), strict=True):
        metrics = {key: each["measured"] for key, each in row["metrics"].items()}
        assert metrics["predicted"]["value"] == pytest.approx(predicted, abs=0.05)
        for key, value in expected.items():
            assert metrics[key]["value"] == pytest.approx(value, abs=1e-3 if key != "intercept" else 0.005), key
            assert key == "r2" or metrics[key]["low"] < value < metrics[key]["high"]
    text = capsys.readouterr().out
    assert "resampled by patient" not in text and "paper's value not known to us" in text


def test_the_law_may_be_read_elsewhere(tmp_path, capsys):
    asked = ["reproduce", "scaling/humanlike", "--out", str(tmp_path), "--rows", "top1"]
    assert main([*asked, "--hours", "5000", "--parameters", "633197800", "--image_px", "476"]) == 0
    found = json.loads((tmp_path / "scaling/humanlike/table.json").read_text(encoding="utf-8"))["rows"][0]["metrics"]
    assert abs(found["predicted"]["measured"]["value"] - 44.114) < 3
    assert main([*asked, "--hours", "0"]) == 2 and "hours 0 is out of range" in capsys.readouterr().err
