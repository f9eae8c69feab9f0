"""Numbers, grades and times in manifests and predictions: declared once, read with one clear line where wrong."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.layouts import own_layouts
from clinvit.datasets.manifest.tables import read_manifest, read_predictions, write_predictions
from clinvit.datasets.manifest.targets import Ordinal, Regression, Survival, asked_for, found_targets
from clinvit.stages.prepare import prepare_stage

KINDS = {
    "age": {"kind": "regression", "unit": "years"},
    "grade": {"kind": "ordinal"},
    "death": {"kind": "survival", "time": "days", "event": "died"},
}


def manifest(folder, changes=None, kinds=KINDS, labels=False):
    table = pd.DataFrame(
        {
            "id": list("abcdef"), "path": [f"{c}.png" for c in "abcdef"], "patient": list("uuvwxy"),
            "split": ["train"] * 4 + ["val", "test"], "age": ["61.5", "61.5", "48", "", "70", "33"],
            "grade": ["0", "0", "2", "1", "", "3"], "days": ["10", "10", "250.5", "31", "", "7"],
            "died": ["1", "1", "0", "1", "", "0"],
        }
    )  # fmt: skip
    if labels:
        table["Effusion"] = ["0", "1", "", "0", "1", "0"]
    for (row, column), value in (changes or {}).items():
        table.loc[row, column] = value
    table.to_csv(folder / "manifest.csv", index=False)
    (folder / "manifest.json").write_text(json.dumps({"targets": kinds}))
    return folder / "manifest.csv"


def test_declared_targets_are_read_and_their_columns_are_no_labels(tmp_path):
    found = read_manifest(manifest(tmp_path, labels=True))
    assert found.labels == ("Effusion",)
    assert found.kinds == (Regression("age", "years"), Ordinal("grade"), Survival("death", time="days", event="died"))
    truth = found.truth(found.kinds)
    np.testing.assert_array_equal(truth[2], [48, 2, 250.5, 0])
    assert np.isnan(truth[4, 1:]).all() and np.isnan(truth[3, 0]), "unknown is empty"
    assert found.targets().shape == (6, 1), "labels stay as they were"
    one = found.with_labels(["death"])
    assert one.labels == () and one.truth().shape == (6, 2) and len(one.rows("train")) == 4
    assert one.fingerprint() != found.with_labels(["age"]).fingerprint()
    with pytest.raises(DataError, match=r"no label column 'deth'.*did you mean 'death'"):
        found.with_labels(["deth"])


@pytest.mark.parametrize(
    "changes, said",
    [
        ({(0, "days"): "-3"}, r"row 2: days and died: the time is negative.*\(1 such rows\)"),
        ({(2, "days"): ""}, "row 4: days and died: an event without a time"),
        ({(2, "died"): ""}, "row 4: days and died: a time without an event: 1 if it happened then, 0 if censored"),
        ({(2, "died"): "2"}, "row 4: days and died: an event is 1 .* or 0"),
        ({(1, "grade"): "1.5"}, "row 3: grade is 1.5; a grade is 0, 1, 2"),
        ({(1, "grade"): "-1"}, "row 3: grade is -1; a grade is 0, 1, 2"),
        ({(1, "age"): "old"}, "row 3: age is 'old', not a number"),
        ({(1, "age"): "inf"}, "row 3: age is infinite"),
    ],
)
def test_truth_that_cannot_be_is_one_clear_line(tmp_path, changes, said):
    with pytest.raises(DataError, match=said):
        read_manifest(manifest(tmp_path, changes))


@pytest.mark.parametrize(
    "kinds, said",
    [
        ({"age": {"kind": "regresion"}}, r"manifest.json: target 'age': kind 'regresion' \(did you mean 'regression'"),
        ({"death": {"kind": "survival", "time": "days"}}, "survival needs the columns `time` and `event`"),
        ({"age": {"kind": "regression", "units": "y"}}, "unknown key 'units' .did you mean 'unit'"),
        ({"weight": {"kind": "regression"}}, "target 'weight': no column 'weight'"),
        ({"age": "regression"}, "not readable"),
        ([1], "not readable"),
    ],
)
def test_wrong_declarations_are_one_clear_line(tmp_path, kinds, said):
    with pytest.raises(DataError, match=said):
        read_manifest(manifest(tmp_path, kinds=kinds))


def test_a_patient_with_differing_times_is_said(tmp_path):
    assert read_manifest(manifest(tmp_path)).notes == ()
    (note,) = read_manifest(manifest(tmp_path, {(1, "days"): "12"})).notes
    assert note.startswith("death: 1 patients have cases with differing times or events, first 'u' (10 and 12)")


@pytest.mark.parametrize(
    "target, truth, said",
    [
        (Regression("age"), [[5.0], [5.0], [np.nan]], "target 'age' is 5 in all 2 known training cases"),
        (Regression("age"), [[np.nan], [5.0]], "target 'age' is known of 1 training cases"),
        (Ordinal("grade"), [[1.0], [1.0]], "target 'grade' is 1 in all 2 known training cases"),
        (Ordinal("grade"), [[1.0], [900.0]], "grades up to 900: declare it as regression"),
        (Survival("death"), [[3.0, 0], [5.0, 0]], "events at 0 times among 2 training cases"),
        (Survival("death"), [[3.0, 1], [3.0, 1]], "events at 1 times among 2 training cases"),
    ],
)
def test_what_has_nothing_to_learn_is_said(target, truth, said):
    with pytest.raises(DataError, match=said):
        target.fitted(np.array(truth))


def test_times_of_a_survival_target_are_columns_that_read_back():
    rng = np.random.default_rng(0)
    time = rng.exponential(1234.56789, 400)
    target = Survival("a_1").fitted(np.column_stack([time, rng.integers(0, 2, 400)]))
    assert len(target.times) == 8 and max(target.times) <= time.max() * 1.00001 and target.width == 8
    (again,) = found_targets(["id", *target.truth, *target.columns])
    assert again.times == target.times and again.name == "a_1"


@pytest.mark.parametrize("text", ["age", "age:regression:years:more", "death:survival:days", ":ordinal", "x:number"])
def test_options_written_in_another_way_are_refused(text):
    with pytest.raises(DataError, match="target"):
        asked_for(text)


def own_table(folder, **columns):
    table = {
        "path": [f"{c}.png" for c in "abcdef"],
        "patient": list("uvwxyz"),
        "split": ["train"] * 4 + ["val", "test"],
    }
    for name in table["path"]:
        (folder / name).write_bytes(b"x")
    pd.DataFrame(table | columns).to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


def test_prepare_declares_targets_and_leaves_their_columns_out_of_labels(tmp_path):
    path = own_table(
        tmp_path, age=[1.5, 2, 3, 4, 5, 6], Effusion=[0, 1, 0, 1, 0, 1], days=[1, 2, 3, 4, 5, ""],
        died=[1, 0, 1, 0, 1, ""],
    )  # fmt: skip
    options = {"targets": "age:regression:years,death:survival:days:died"}
    found = prepare_stage(own_layouts("image"), path, tmp_path / "manifest.csv", options=options)
    assert found.manifest.labels == ("Effusion",) and [each.name for each in found.manifest.kinds] == ["age", "death"]
    assert read_manifest(tmp_path / "manifest.csv").kinds == found.manifest.kinds
    assert "column 'days': target (survival of death)." in found.notes


def test_prepare_with_targets_alone_needs_no_label(tmp_path):
    path = own_table(tmp_path, age=[1.5, 2, 3, 4, 5, 6])
    found = prepare_stage(own_layouts("image"), path, tmp_path / "manifest.csv", options={"targets": "age:regression"})
    assert found.manifest.labels == () and found.manifest.kinds == (Regression("age"),)


def test_prepare_refuses_rows_of_one_file_that_differ(tmp_path):
    path = own_table(tmp_path, age=[1.5, 2, 3, 4, 5, 6])
    table = pd.read_csv(path)
    pd.concat([table, table.head(1).assign(age=9)]).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"a.png has several rows with different values of age"):
        prepare_stage(own_layouts("image"), path, tmp_path / "manifest.csv", options={"targets": "age:regression"})


def predictions(**changes):
    table = pd.DataFrame(
        {
            "id": list("abc"), "patient": list("abc"), "split": "test", "status": ["ok", "ok", "failed"],
            "reason": ["", "", "no image"], "y_age": [61.25, np.nan, 50], "value_age": [60, 40.5, np.nan],
            "y_g": [0, 2, np.nan], "grade_g": [1, 2, np.nan], "atleast_g_1": [0.6, 0.9, np.nan],
            "atleast_g_2": [0.2, 0.7, np.nan], "time_d": [3.5, 8, np.nan], "event_d": [1, 0, np.nan],
            "risk_d": [-1.5, 2, np.nan], "free_d_2.5": [0.75, 0.5, np.nan],
        }
    )  # fmt: skip
    return table.assign(**changes)


def test_predictions_say_their_kinds_by_their_columns(tmp_path):
    write_predictions(tmp_path / "p.csv", predictions())
    found = read_predictions(tmp_path / "p.csv", targets=True)
    assert found.targets == (Regression("age"), Ordinal("g", highest=2), Survival("d", times=(2.5,)))
    assert found.table["y_age"].tolist()[0] == 61.25 and np.isnan(found.table["value_age"].iloc[2])
    with pytest.raises(DataError, match=r"predictions of age \(regression\), g \(ordinal\), d \(survival\)"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"value_age": [60, np.nan, np.nan]}, "row 3: value_age is empty; a scored case needs it"),
        ({"value_age": [60, 40, 3]}, "row 4: a failed case carries value_age"),
        ({"free_d_2.5": [0.7, 1.5, np.nan]}, "row 3: free_d_2.5 is 1.5; it is a probability within 0..1"),
        ({"grade_g": [1, 1.5, np.nan]}, "row 3: grade_g is 1.5; it is a grade"),
        ({"time_d": [-1, 8, np.nan]}, "row 2: time_d and event_d: the time is negative"),
        ({"event_d": [np.nan, 0, np.nan]}, "row 2: time_d and event_d: a time without an event"),
        ({"risk_d": [np.inf, 0, np.nan]}, "row 2: risk_d is infinite"),
    ],
)
def test_predictions_that_cannot_be_are_one_clear_line(tmp_path, changes, said):
    write_predictions(tmp_path / "p.csv", predictions(**changes))
    with pytest.raises(DataError, match=said):
        read_predictions(tmp_path / "p.csv", targets=True)
