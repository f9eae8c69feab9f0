"""Patients of a predictions table are checked as those of a manifest are: intervals are by patient."""

import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.tables import read_predictions


def table(path, patients, splits=None):
    cases = range(len(patients))
    splits = splits or ["test"] * len(patients)
    columns = {"id": [f"c{i}" for i in cases], "patient": patients, "split": splits, "status": "ok", "reason": ""}
    pd.DataFrame(columns | {"y_Mass": [i % 2 for i in cases], "p_Mass": 0.5}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("cell", ["", " ", "\t", "\u00a0", "\ufeff", "nan", "NONE", "n/a", "<NA>", "Unknown", "-"])
def test_a_cell_that_names_nobody_is_refused(cell, tmp_path):
    with pytest.raises(DataError, match=r"row 3: the cell 'patient' is .*\(2 such cells in all\).*repeat the id"):
        read_predictions(table(tmp_path / "p.csv", ["a", cell, cell, "b"]))


def test_a_case_may_be_its_own_patient_whatever_its_name(tmp_path):
    path = table(tmp_path / "p.csv", ["a", "none"])
    path.write_text(path.read_text().replace("c1,none", "none,none"))
    assert read_predictions(path).table["patient"].tolist() == ["a", "none"]


@pytest.mark.parametrize("other", ["P0 ", " P0", "p0", "P0\u200b", "P0\u00a0", "Ｐ0"])
def test_blanks_and_capitals_are_no_other_patient(other, tmp_path):
    found = read_predictions(table(tmp_path / "p.csv", ["P0", other, "P1"]))
    assert found.table["patient"].tolist() == ["P0", "P0", "P1"]
    assert found.notes == (
        "1 names of patients differ from others by blanks or capitals alone, or have blanks around them: "
        f"first {other!r}, read as 'P0'. By that, 1 names became those of other patients.",
    )


@pytest.mark.parametrize("other", ["P0", "P0 ", "p0"])
@pytest.mark.parametrize("splits", [["val", "test"], ["train", "test"], ["test", "new"]])
def test_a_patient_in_two_splits_is_refused(other, splits, tmp_path):
    where = " and ".join(sorted(splits))
    with pytest.raises(DataError, match=rf"patient 'P0' is in {where} \(1 patients in all .* predict anew"):
        read_predictions(table(tmp_path / "p.csv", ["P0", "P1", other], [splits[0], splits[1], splits[1]]))


@pytest.mark.parametrize("other", ["001", "1.0"])
def test_other_spellings_are_said(other, tmp_path):
    found = read_predictions(table(tmp_path / "p.csv", ["1", other, "2"]))
    assert found.table["patient"].nunique() == 3
    assert "1 patients may stand there under two spellings" in found.notes[0] and "count as two" in found.notes[0]


def test_a_placeholder_for_many_is_said(tmp_path):
    found = read_predictions(table(tmp_path / "p.csv", ["ANON"] * 30 + [f"P{i}" for i in range(30)]))
    assert found.notes == (
        "30 of 60 cases are of patient 'ANON'. If that is a placeholder, name the patients: intervals are by patient.",
    )


def test_a_tidy_table_is_left_alone(tmp_path):
    names = ["P1", "P10", "a b", "Müller", "0", "z-9"]
    found = read_predictions(table(tmp_path / "p.csv", names))
    assert found.table["patient"].tolist() == names and found.notes == ()
