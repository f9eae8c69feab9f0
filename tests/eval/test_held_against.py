"""Predictions beside their manifest: cases that were never predicted, patients that were parted, splits that differ."""

import numpy as np
import pandas as pd
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.eval.inputs import held_against


def written(folder, change=lambda table: table, n=200):
    truth = np.arange(n) % 4 == 0
    ids, patients = [f"c{i}" for i in range(n)], [f"p{i // 2}" for i in range(n)]
    split = np.where(np.arange(n) < 100, "test", "val")
    manifest = pd.DataFrame(
        {"id": ids, "path": "x.png", "patient": patients, "split": split, "Mass": truth.astype(int)}
    )
    manifest.to_csv(folder / "manifest.csv", index=False)
    score = np.random.default_rng(0).random(n) + truth
    columns = {"id": ids, "patient": patients, "split": split, "status": "ok", "reason": ""}
    table = pd.DataFrame(columns | {"y_Mass": truth.astype(int), "p_Mass": score / 2})
    change(table).to_csv(folder / "p.csv", index=False)
    return read_predictions(folder / "p.csv"), read_manifest(folder / "manifest.csv")


def notes(folder, change):
    table, manifest = written(folder, change)
    return held_against(table, manifest, "test").notes


def test_nothing_is_said_where_they_agree(tmp_path):
    assert notes(tmp_path, lambda table: table) == ()


def test_other_names_of_the_same_patients_are_no_matter(tmp_path):
    assert notes(tmp_path, lambda table: table.assign(patient="hash-" + table["patient"])) == ()


def test_cases_that_were_never_predicted(tmp_path):
    (said,) = notes(tmp_path, lambda table: table[~((table["y_Mass"] == 1) & (table.index < 40))])
    assert said.startswith(
        "10 of 100 test cases of the manifest are not in the table, 10 positive for Mass: they count"
    )


def test_patients_that_were_parted(tmp_path):
    (said,) = notes(tmp_path, lambda table: table.assign(patient=table["id"]))
    assert said.startswith("50 patients of the manifest are several patients in the table, first 'p0'")


def test_cases_of_another_split(tmp_path):
    (said,) = notes(tmp_path, lambda table: table.assign(split="test"))
    assert said == "100 test cases of the table are in another split of the manifest (100 in val)."


def test_the_reports_say_it(tmp_path, capsys):
    written(tmp_path, lambda table: table.iloc[8:])
    options = ["--data", str(tmp_path), "--out", str(tmp_path / "r")]
    assert main(["evaluate", str(tmp_path / "p.csv"), "--resamples", "20", *options]) == 0
    said = "warning: 8 of 100 test cases of the manifest are not in the table, 2 positive for Mass"
    assert said in capsys.readouterr().out
    assert said.removeprefix("warning: ") in (tmp_path / "r/report.html").read_text()
    (tmp_path / "t.yaml").write_text("threshold: 0.5\nminimum: {sensitivity: 0.5}\n")
    assert main(["acceptance", str(tmp_path / "t.yaml"), str(tmp_path / "p.csv"), *options]) == 0
    assert said in capsys.readouterr().out
