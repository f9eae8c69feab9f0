"""The way from cases to a table: whatever predicts, rows, calibration, reasons and labels come out alike."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from clinvit.finetune.pipeline import Scored, predicted

CASES = pd.DataFrame(
    {
        "id": ["a", "b", "c"],
        "path": ["x/1.png", "x/2.png", "x/3.png"],
        "patient": ["p", "p", "q"],
        "split": ["test"] * 3,
    }
)
TRUTH = np.array([[1, np.nan], [0, 1], [np.nan, 0]])
HALVED = {"method": "temperature", "slope": 0.5, "intercept": 0.0, "split": "val", "cases": 9}


class Backwards:
    """Gives one case at a time, the last first; the second one fails."""

    def __init__(self, **card):
        usual = {"exclusive": False, "thresholds": {}, "calibration": {}, "unit": "image"}
        self.card = SimpleNamespace(labels=("Mass", "Nodule"), **usual | card)

    def scores(self, cases):
        for position in reversed(range(len(cases))):
            failed = position == 1
            values = np.full(2, np.nan) if failed else np.array([0.2 + 0.3 * position, 0.5])
            yield Scored([position], values[None], [f"{cases['path'].iloc[position]}: broken" if failed else ""])


def test_each_case_has_its_row_in_the_order_asked_for():
    table = predicted(CASES, TRUTH, Backwards(), progress=False)
    assert table["id"].tolist() == ["a", "b", "c"] and table["status"].tolist() == ["ok", "failed", "ok"]
    np.testing.assert_allclose(table["p_Mass"], [0.2, np.nan, 0.8])
    np.testing.assert_array_equal(table[["y_Mass", "y_Nodule"]], TRUTH)
    assert table["reason"].tolist() == ["", "x/2.png: broken", ""]
    assert not any(column.startswith("pred_") for column in table)


def test_reasons_show_what_stands_for_the_path():
    table = predicted(CASES.assign(shown=CASES["id"]), TRUTH, Backwards(), progress=False)
    assert table["reason"].iloc[1] == "b: broken"


def test_labels_with_a_threshold_are_predicted_from_calibrated_scores():
    cut = {"Mass": {"value": 0.6}, "Nodule": {"value": None}}
    card = {"thresholds": cut, "calibration": {"Mass": HALVED, "Nodule": HALVED | {"method": "none"}}}
    table = predicted(CASES, TRUTH, Backwards(**card), progress=False)
    assert table["p_Mass"].iloc[2] == pytest.approx(2 / 3) and table["p_Nodule"].iloc[2] == 0.5
    np.testing.assert_array_equal(table["pred_Mass"], [0, np.nan, 1])
    assert "pred_Nodule" not in table
    assert "pred_Mass" not in predicted(CASES, TRUTH, Backwards(exclusive=True, thresholds=cut), progress=False)
