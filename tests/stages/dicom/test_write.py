"""Results of a case as DICOM objects: valid by an independent validator, readable, of the right patient, nameable."""

import pydicom
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.stages.dicom.write import write_results
from highdicom.sr import srread
from pydicom.sr.codedict import codes

from .conftest import ACCESSION, NAME, NUMBER, result_case, validated


def groups(path) -> dict:
    """Measurement groups of a report by their tracking identifiers."""
    found = srread(path).content.get_image_measurement_groups()
    return {group.tracking_identifier: group for group in found}


@pytest.mark.parametrize("modality", ["CR", "DX", "US"])
@pytest.mark.parametrize("reason", ["", "broken pixel data."])
def test_reports_are_valid(saved, tmp_path, modality, reason):
    frames = (0, 3) if modality == "US" else ()
    (path,) = write_results(result_case(saved(modality), reason=reason, frames=frames), ["sr"], tmp_path / "out")
    assert validated(path) == []


def test_report_holds_a_probability_and_a_decision_of_every_finding(saved, tmp_path):
    (path,) = write_results(result_case(saved()), ["sr"], tmp_path / "out")
    found = groups(path)
    pneumothorax = found["Pneumothorax"]
    assert pneumothorax.finding_type == codes.SCT.Pneumothorax
    assert pneumothorax.get_measurements()[0].value == 0.8321
    assert pneumothorax.get_qualitative_evaluations()[0].value == codes.SCT.Present
    thickening = found["Pleural_Thickening of an unusually long name"]
    assert thickening.finding_type.scheme_designator == "99CLINVIT"
    assert thickening.get_qualitative_evaluations()[0].value.meaning == "Absent"
    assert found["Hernia"].get_qualitative_evaluations()[0].value.meaning == "Undetermined"
    dataset = pydicom.dcmread(path)
    assert (dataset.PatientID, str(dataset.PatientName)) == (NUMBER, NAME)
    assert (dataset.AccessionNumber, dataset.StudyInstanceUID) == (ACCESSION, "1.2.826.0.1.3680043.99.2")
    said = dataset.to_json()
    assert "b" * 64 in said and "a" * 64 in said and "AI, not for diagnosis" in said


def test_failed_case_is_never_a_negative(saved, tmp_path):
    case = result_case(saved(), reason="broken pixel data.")
    (path,) = write_results(case, ["sr", "sc", "pdf", "seg"], tmp_path / "out")
    found = groups(path)
    assert found.pop("AI analysis").get_qualitative_evaluations()[0].value == codes.DCM.Failed
    assert len(found) == 3
    for group in found.values():
        assert group.get_measurements() == []
        assert group.get_qualitative_evaluations()[0].value.meaning == "Undetermined"
    said = pydicom.dcmread(path).to_json()
    assert "The analysis failed: broken pixel data." in said and "Absent" not in said
    (good,) = write_results(result_case(saved()), ["sr"], tmp_path / "good")
    assert pydicom.dcmread(good).SOPInstanceUID != pydicom.dcmread(path).SOPInstanceUID


def test_views_and_frames_are_referred_to(saved, tmp_path):
    case = result_case(saved("US", 1), saved("US", 2), frames=(0, 3))
    (path,) = write_results(case, ["sr"], tmp_path / "out")
    first, second = groups(path)["Hernia"].source_images
    assert first.referenced_frame_numbers == [1, 4] and not second.referenced_frame_numbers
    assert [first.referenced_sop_instance_uid[-1], second.referenced_sop_instance_uid[-1]] == ["1", "2"]
    evidence = pydicom.dcmread(path).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 2


@pytest.mark.parametrize("uid", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", [None, "", "no uid"])
def test_source_that_nothing_could_refer_to(saved, tmp_path, uid, value):
    case = result_case(saved(**{uid: value}))
    with pytest.raises(DataError, match=f"{uid}, so no DICOM result"):
        write_results(case, ["sr"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_patients_or_studies_in_one_case(saved, tmp_path):
    one = saved()
    with pytest.raises(DataError, match="several patients under one study UID"):
        write_results(result_case(one, saved(number=2, PatientID="OTHER-PLANTED")), ["sr"], tmp_path / "out")
    with pytest.raises(DataError, match="several studies"):
        write_results(result_case(one, saved(number=3, StudyInstanceUID="1.2.3")), ["sr"], tmp_path / "out")


def test_source_that_is_no_dicom(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match="no DICOM file, so no DICOM result"):
        write_results(result_case(path), ["sr"], tmp_path / "out")


@pytest.mark.parametrize("kinds", [[], ["report"]])
def test_unknown_kinds(saved, tmp_path, kinds):
    with pytest.raises(UserError, match="one or more of sr,seg,pm,sc,pdf"):
        write_results(result_case(saved()), kinds, tmp_path / "out")


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "Ελένη^Παπαδάκη"),
        ("ISO_IR 144", "Иванов^Пётр"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_names_of_all_scripts_stay_what_they_are(saved, tmp_path, charset, name):
    source = saved(SpecificCharacterSet=charset, PatientName=name)
    for path in write_results(result_case(source), ["sr", "sc", "pdf"], tmp_path / "out"):
        assert str(pydicom.dcmread(path).PatientName) == name
        assert validated(path) == []


def test_values_that_the_standard_does_not_allow_are_left_empty(saved, tmp_path):
    source = saved(PatientSex="unknown", PatientBirthDate="1951.12.31", StudyTime="noon", StudyDate="20241301")
    (path,) = write_results(result_case(source), ["sr"], tmp_path / "out")
    made = pydicom.dcmread(path)
    assert (made.PatientSex, made.PatientBirthDate, made.StudyTime, made.StudyDate) == ("", "19511231", "", "")
    assert validated(path) == []
