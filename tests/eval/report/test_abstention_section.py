"""What is left to the reader, in a report: asked for by the command, chosen on val alone, in page, JSON and CSV."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import predictions_table, write_predictions
from clinvit.eval import Evaluation


def written(path, splits=("val", "test"), labels=("Mass",), each=300):
    random, cases = np.random.default_rng(0), each * len(splits)
    truth = (random.random((cases, len(labels))) < 0.4).astype(float)
    scores = 1 / (1 + np.exp(-2 * random.normal(size=truth.shape) - 6 * truth + 3))
    table = pd.DataFrame({"id": [f"c{i}" for i in range(cases)], "patient": [f"p{i}" for i in range(cases)]})
    table["split"] = np.repeat(splits, each)
    reasons = ["unreadable" if i == cases - 1 else "" for i in range(cases)]
    write_predictions(path, predictions_table(table, labels, truth, scores, reasons))
    return path


def test_triage_and_sets_reach_page_json_and_csv(tmp_path):
    table = written(tmp_path / "p.csv", labels=("Mass", "Edema"))
    out = tmp_path / "out"
    arguments = ["evaluate", str(table), "--out", str(out), "--resamples", "30"]
    assert main([*arguments, "--triage", "ppv=0.9,npv=0.9", "--sets", "0.9"]) == 0
    found = json.loads((out / "report.json").read_text())["abstention"]
    mass = found["models"][0]["triage"][0]
    assert mass["counts"]["left"] >= 1  # the failed one at least
    assert sum(mass["counts"][name] for name in ("called_positive", "called_negative", "left")) == 300
    assert mass["patients"] == 300 and mass["upper"]["threshold"] >= mass["lower"]["threshold"]
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "are left to the reader" in html and "Conformal sets" in html
    metrics = pd.read_csv(out / "metrics.csv")["metric"]
    assert {"triage_ppv", "triage_left", "sets_coverage"} <= set(metrics)


def test_the_truths_of_test_do_not_move_the_thresholds(tmp_path):
    one = written(tmp_path / "one.csv")
    other = pd.read_csv(one)
    other.loc[other["split"] == "test", "y_Mass"] = 1 - other["y_Mass"]
    other.to_csv(tmp_path / "other.csv", index=False)
    cuts = []
    for path in (one, tmp_path / "other.csv"):
        assert (
            main(
                [
                    "evaluate",
                    str(path),
                    "--out",
                    str(tmp_path / path.stem),
                    "--resamples",
                    "30",
                    "--triage",
                    "ppv=0.8,npv=0.8",
                ]
            )
            == 0
        )
        own = json.loads((tmp_path / path.stem / "report.json").read_text())["abstention"]["models"][0]["triage"][0]
        cuts.append([own[side]["threshold"] for side in ("upper", "lower")])
    assert cuts[0] == cuts[1] and None not in cuts[0]


def test_without_val_rows_it_is_refused_before_anything_is_written(tmp_path, capsys):
    table = written(tmp_path / "p.csv", splits=("test",))
    assert main(["evaluate", str(table), "--out", str(tmp_path / "out"), "--sets", "0.9", "--threshold", "0.5"]) == 2
    assert "no scored val row" in capsys.readouterr().err
    assert not (tmp_path / "out" / "report.json").exists()


@pytest.mark.parametrize("settings", [{"coverage": 1.2}, {"coverage": 0.9, "split": "val"}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError):
        Evaluation(**settings)
