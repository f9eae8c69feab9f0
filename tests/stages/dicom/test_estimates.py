"""Results of models of numbers, grades and times: measurements with their units, and never a decision."""

import json
from dataclasses import replace

import pydicom
import pytest
import torch
from clinvit.cli import main
from clinvit.datasets.manifest.tables import Ordinal, Regression, Survival, read_predictions
from clinvit.finetune.model import build_model, load_card, save_model
from clinvit.stages.dicom.ucum import unit_code
from highdicom.sr import srread
from pydicom.sr.codedict import codes

from .conftest import validated

TARGETS = (
    Regression("age", "years", "mse", mean=60.0, std=12.0),
    Ordinal("grade", "", "corn", highest=3),
    Survival("death", "days", "hazards", "days", "died", times=(30.0, 365.0)),
)


@pytest.fixture
def valued_model(random_model, tmp_path):
    """`valued_model(targets)` makes a model folder of random weights for targets."""

    def make(targets=TARGETS, **fields):
        card = replace(
            load_card(random_model()), labels=tuple(each.name for each in targets),
            targets=tuple(each.plain() for each in targets), **fields,
        )  # fmt: skip
        torch.manual_seed(1)
        return save_model(tmp_path / "valued", build_model(card), card)

    return make


def predicted(model, tmp_path, *inputs, kinds, more=()):
    """Run the command; give its exit code and the folder of results."""
    out = tmp_path / "results"
    given = [str(path) for path in inputs]
    code = main(["predict", "images", *given, "--model", str(model), "--out", str(out), "--dicom", kinds, *more])
    return code, out / "predictions-dicom"


def groups(path) -> dict:
    """Measurement groups of a report by their tracking identifiers."""
    return {each.tracking_identifier: each for each in srread(path).content.get_image_measurement_groups()}


def test_values_are_measurements_with_units_and_nothing_is_decided(saved, valued_model, tmp_path, capsys):
    code, folder = predicted(valued_model(), tmp_path, saved("DX"), kinds="sr,seg,pm,sc,pdf")
    assert code == 0
    said = capsys.readouterr().out
    assert "note: --dicom seg outlines findings that are present; age, grade, death: of the whole image" in said
    files = sorted(folder.glob("*.dcm"))
    kinds = {path.stem.rsplit("-", 2 if path.stem[-1].isdigit() else 1)[1] for path in files}
    assert kinds == {"pdf", "pm", "sc", "sr"} and len(files) == 6, "a capture for each target"
    assert {path.name: validated(path) for path in files} == {path.name: [] for path in files}
    (report,) = folder.glob("*-sr.dcm")
    found, row = groups(report), read_predictions(tmp_path / "results/predictions.csv", targets=True).table.iloc[0]
    (age,) = found["age"].get_measurements()
    assert age.value == pytest.approx(row["value_age"], abs=1e-4)
    assert (age.unit.value, age.unit.scheme_designator) == ("a", "UCUM")
    grade, *shares = found["grade"].get_measurements()
    assert grade.value == row["grade_grade"] and grade.unit == codes.UCUM.NoUnits
    assert [each.value for each in shares] == pytest.approx([row[f"atleast_grade_{k}"] for k in (1, 2, 3)], abs=1e-5)
    risk, *free = found["death"].get_measurements()
    assert [each.name.meaning for each in (risk, *free)] == [
        "risk of death", "probability of no death until 30 days", "probability of no death until 365 days",
    ]  # fmt: skip
    assert [each.value for each in free] == pytest.approx([row["free_death_30"], row["free_death_365"]], abs=1e-5)
    assert all(not found[name].get_qualitative_evaluations() for name in ("age", "grade", "death"))
    text = pydicom.dcmread(report).to_json()
    assert not any(word in text for word in ("Absent", 'Present"', "Undetermined", "threshold"))
    assert "not a measurement in the image" in text


def test_failed_case_has_no_value_and_says_so(saved, valued_model, tmp_path):
    good, cut = saved(), saved(number=2)
    cut.write_bytes(cut.read_bytes()[:-1000])
    code, folder = predicted(valued_model(), tmp_path, good, cut, kinds="sr,sc,pdf")
    listed = json.loads((folder / "results.json").read_text())["cases"]
    (failed,) = [each["files"] for each in listed.values() if len(each["files"]) == 1]
    assert code == 0 and validated(folder / failed[0]) == []
    found = groups(folder / failed[0])
    assert found.pop("AI analysis").get_qualitative_evaluations()[0].value == codes.DCM.Failed
    assert set(found) == {"age", "grade", "death"}
    for group in found.values():
        assert group.get_measurements() == []
        assert group.get_qualitative_evaluations()[0].value == codes.DCM.Failed
    assert "Nothing is known of any target." in pydicom.dcmread(folder / failed[0]).to_json()


def test_regions_alone_are_refused(saved, valued_model, tmp_path, capsys):
    code, folder = predicted(valued_model(), tmp_path, saved(), kinds="seg")
    assert code == 2 and not folder.exists()
    assert "of the whole image. Take sr, pm (heat map), sc or pdf." in capsys.readouterr().err


@pytest.mark.parametrize("table", ["results/p.csv", "results/p.jsonl"])
def test_values_that_are_taken_up_again_are_the_same(saved, valued_model, tmp_path, table):
    model, source, said = valued_model(), saved(), []
    for more in ([], ["--resume"]):
        asked = ["predict", "images", str(source), "--model", str(model), "--out", str(tmp_path / table)]
        assert main([*asked, "--dicom", "sr", "--identifiers", *more]) == 0
        (report,) = (tmp_path / "results").rglob("*-sr.dcm")
        said.append([each.value for group in groups(report).values() for each in group.get_measurements()])
    assert said[0] == pytest.approx(said[1], rel=1e-4) and len(said[0]) == 1 + 4 + 3


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        ("years", "a"), ("Days", "d"), ("%", "%"), ("mm", "mm"), ("µm", "um"), ("", "1"), ("mmHg", "mm[Hg]"),
        ("arbitrary units (log)", "{arbitrary_unit}"), ("{x} y", "{_x_y}"), ("ÅU", "{_U}"),
    ],
)  # fmt: skip
def test_units_are_codes_of_ucum(unit, code):
    found = unit_code(unit)
    assert (found.value, found.scheme_designator) == (code, "UCUM") and found.meaning
