"""`clinvit predict --dicom` from the command: which cases have results, what is said of the others, and privacy."""

import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from clinvit.cli import main
from clinvit.datasets.images.image_maps import read_maps
from clinvit.eval.localisation.image_map import ImageMap
from clinvit.stages.dicom import write as writing
from highdicom.seg import segread
from highdicom.sr import srread
from PIL import Image

from .conftest import NUMBER, PLANTED, validated


def decisions(path: Path) -> dict[str, str]:
    """What a report says of each finding."""
    found = srread(path).content.get_image_measurement_groups()
    return {
        group.tracking_identifier: group.get_qualitative_evaluations()[0].value.meaning
        for group in found
        if group.tracking_identifier != "AI analysis"
    }


THRESHOLDS = {"Square": {"value": 0.0, "how": "youden", "split": "val"}}


@pytest.fixture
def predict(random_model, tmp_path):
    """`predict(inputs, kinds)` runs the command; gives its exit code and the folder of results."""
    model = random_model(thresholds=THRESHOLDS, meaning={"Square": "1 = a square"})

    def run(*inputs: Path, kinds: str = "sr,seg,pm,sc,pdf", more: tuple[str, ...] = ()) -> tuple[int, Path]:
        out = tmp_path / "results"
        given = [str(path) for path in inputs]
        code = main(["predict", "images", *given, "--model", str(model), "--out", str(out), "--dicom", kinds, *more])
        return code, out / "predictions-dicom"

    return run


def test_all_kinds_of_a_radiograph_are_valid_and_shown(saved, predict):
    code, folder = predict(saved("DX"))
    assert code == 0
    files = sorted(folder.glob("*.dcm"))
    assert [path.stem.rsplit("-", 1)[1] for path in files] == ["pdf", "pm", "sc", "seg", "sr"]
    assert {path.name: validated(path) for path in files} == {path.name: [] for path in files}
    (segments,) = (segread(path) for path in files if path.stem.endswith("seg"))
    assert segments.segmented_property_types[0].meaning == "Square" and segments.get_segment_description(1)
    assert segments.pixel_array.any() and not segments.pixel_array.all()


def test_repeated_runs_name_the_same(saved, predict):
    source = saved()
    named = []
    for _ in range(2):
        _, folder = predict(source, more=("--identifiers",))
        named.append({path.name: str(pydicom.dcmread(path).SOPInstanceUID) for path in folder.glob("*.dcm")})
    assert named[0] == named[1] and len(set(named[0].values())) == len(named[0]) == 5


@pytest.mark.parametrize("table", ["results", "results/p.csv", "results/p.jsonl"])
def test_predictions_that_are_taken_up_again_say_the_same(saved, random_model, tmp_path, table):
    model = random_model(thresholds={"Square": {"value": 0.0}, "Bar": {"value": 1.0}})
    source, cut = saved(), saved(number=2)
    cut.write_bytes(cut.read_bytes()[:-1000])
    asked = ["predict", "images", str(source), str(cut), "--model", str(model), "--out", str(tmp_path / table)]
    said = []
    for more in ([], ["--resume"]):
        assert main([*asked, "--dicom", "sr", "--workers", "1", *more]) == 0
        reports = sorted((tmp_path / "results").rglob("*-sr.dcm"))
        said.append([decisions(path) for path in reports])
    assert len(said[0]) == 2 and said[0] == said[1]
    assert sorted(map(sorted, (each.items() for each in said[0]))) == [
        [("Bar", "Absent"), ("Square", "Present")], [("Bar", "Undetermined"), ("Square", "Undetermined")]
    ]  # fmt: skip


def test_files_that_are_no_dicom_are_counted_by_name(saved, predict, tmp_path, capsys):
    png = tmp_path / "plain.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(png)
    code, folder = predict(saved(), png, kinds="sr")
    assert code == 0
    assert "1 DICOM results (sr) of 1 cases" in (said := capsys.readouterr().out)
    assert "note: no DICOM result of 1 cases (no DICOM file): plain" in said
    assert json.loads((folder / "results.json").read_text())["cases"]["plain"] == {"reason": "no DICOM file"}


def test_failed_case_has_a_report_that_says_so(saved, predict):
    source = saved()
    source.write_bytes(source.read_bytes()[:-1000])
    good = saved(number=2)
    _, folder = predict(source, good, kinds="sr,sc")
    reports = [pydicom.dcmread(path).to_json() for path in folder.glob("*-sr.dcm")]
    assert len(reports) == 2 and len(list(folder.glob("*-sc.dcm"))) == 1
    assert sum("The analysis failed" in report for report in reports) == 1


@pytest.mark.parametrize("elements", [{"StudyInstanceUID": None}, {"PatientID": "OTHER-PLANTED"}])
def test_source_that_cannot_be_filed_is_said_and_others_have_results(saved, predict, capsys, elements):
    bad = saved(number=2, **elements)
    own = saved(number=3, StudyInstanceUID="1.2.826.0.1.3680043.99.55")
    code, folder = predict(saved(), bad, own, kinds="sr")
    said = capsys.readouterr().out
    assert code == 0
    left = 2 if "PatientID" in elements else 1  # none of a study of two patients
    assert f"no DICOM result of {left:,} cases" in said and len(list(folder.glob("*.dcm"))) == 3 - left
    assert ("no StudyInstanceUID" in said) == ("StudyInstanceUID" in elements)
    assert ("another patient's files" in said) == ("PatientID" in elements)


def test_full_disk_is_one_line_and_leaves_nothing_half(saved, predict, monkeypatch, capsys):
    real = pydicom.Dataset.save_as

    def full(self, path, **settings):
        if str(path).endswith(".dcm") and "-sc" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, path, **settings)

    source = saved()
    monkeypatch.setattr(pydicom.Dataset, "save_as", full)
    code, folder = predict(source, kinds="sr,sc")
    said = capsys.readouterr().err
    assert code == 1 and "No space left" in said and "Traceback" not in said
    assert [path.name.rsplit("-", 1)[1] for path in folder.iterdir()] == ["sr.dcm"]


def test_folder_that_cannot_be_written_is_said_before_anything_is_predicted(saved, predict, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "predictions-dicom").write_text("a file")
    code, _ = predict(saved(), kinds="sr")
    assert code == 1 and "predictions-dicom: cannot be made" in capsys.readouterr().err
    assert not (tmp_path / "results" / "predictions.csv").exists()


def test_read_only_folder_is_one_line(saved, predict, monkeypatch, capsys):
    source = saved()

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(writing, "written_aside", refused)
    code, _ = predict(source, kinds="sr")
    assert code == 1 and "cannot be written (Permission denied). Name another folder." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Plantedname^Zebulon", "PLANTEDNAME, ZEBULON = retired", "Plantedname^Zebulon^^^^^^"])
def test_nothing_of_the_header_but_in_the_results(saved, predict, tmp_path, capfd, name):
    sources = tmp_path / "sources"
    strange = {"PatientSex": "PLANTEDNAME", "StudyTime": "Zebulon", "PatientBirthDate": "1951-12-31"}
    saved(folder=sources)
    saved(number=2, folder=sources, PatientName=name, **strange)
    saved("US", number=3, folder=sources, PatientName=name)
    broken = saved(number=4, folder=sources, PatientName=name)
    broken.write_bytes(broken.read_bytes()[:-500])
    code, folder = predict(sources)
    assert code == 0
    captured = capfd.readouterr()
    planted = [word.lower().encode() for word in PLANTED]
    seen = {"console": (captured.out + captured.err).lower().encode()}
    seen |= {
        str(path): path.read_bytes().lower()
        for path in (tmp_path / "results").rglob("*")
        if path.is_file() and path.suffix != ".dcm"
    }
    assert len(seen) > 5
    assert [(name, word) for name, content in seen.items() for word in planted if word in content] == []
    reports = [pydicom.dcmread(path) for path in folder.glob("*-sr.dcm")]
    assert len(reports) == 3 and all(report.PatientID == NUMBER for report in reports)


@pytest.mark.parametrize("threshold", [0.04, 0.99])
def test_what_a_dense_head_draws_is_segmented_by_its_own_threshold(saved, random_model, tmp_path, threshold):
    cuts = {label: {"value": threshold, "split": "val"} for label in ("Square", "Bar")}
    dense = {"target": "masks", "window": 0, "channels": 8, "drop": 0.0, "edge_px": 7, "edge_weight": 20.0}
    model = random_model(thresholds=THRESHOLDS, dense=dense | {"thresholds": cuts})
    words = ["predict", "images", str(saved("DX")), "--model", str(model), "--out", str(tmp_path / "results")]
    assert main([*words, "--dicom", "seg,pm"]) == 0
    pm, seg = sorted((tmp_path / "results/predictions-dicom").glob("*.dcm"))
    assert validated(pm) == validated(seg) == []
    (file,) = (tmp_path / "results/explanations/maps").glob("*.h5")
    found = read_maps(file)
    place = found.labels.index("Square")
    grid = ImageMap(found.maps[place], found.extent_px, found.width_px, found.height_px)
    # What is below the threshold throughout, but present by the score of the image, is where it is highest.
    cut = min(threshold / found.highest[place], 0.9)
    expected = grid.sampled(found.width_px, found.height_px) >= cut
    drawn = segread(seg).pixel_array.astype(bool)
    assert drawn.shape == expected.shape and drawn.any() and not drawn.all()
    assert (drawn != expected).mean() < 0.01
    assert "drawn by the model" in segread(seg).ContentDescription


def study(saved, folder, number, uid, count=2, **elements):
    """Images of one study of one patient."""
    for place in range(count):
        saved("DX", 10 * number + place, folder=folder, StudyInstanceUID=f"1.2.826.0.1.3680043.99.{uid}", **elements)


def texts(report):
    """All lines of text in a report."""
    return [element.value for element in report.iterall() if element.keyword == "TextValue"]


@pytest.mark.parametrize("rule", ["max", "Square=mean"])
def test_a_study_has_one_report_that_refers_to_all_its_images(saved, predict, tmp_path, capsys, rule):
    sources = tmp_path / "sources"
    study(saved, sources, 1, 4)
    study(saved, sources, 2, 5, count=1)
    code, folder = predict(sources, kinds="sr", more=("--unit", "study", "--unit-rule", rule))
    assert code == 0, capsys.readouterr().err
    units, images = (pd.read_csv(tmp_path / "results" / f"predictions{part}.csv") for part in ("", ".images"))
    assert len(units) == 2 and len(images) == 3
    reports = [srread(path) for path in folder.glob("*-sr.dcm")]
    referred = sorted(
        len([image for series in item.ReferencedSeriesSequence for image in series.ReferencedSOPSequence])
        for report in reports
        for item in report.CurrentRequestedProcedureEvidenceSequence
    )
    assert referred == [1, 2] and all(validated(path) == [] for path in folder.glob("*.dcm"))
    words = "a rule for each finding" if "=" in rule else "max"
    assert any(f"study of 2 images, by {words}" in text for report in reports for text in texts(report))
    listed = json.loads((folder / "results.json").read_text())["cases"]
    assert set(listed) == set(units["id"]) and all(len(each["files"]) == 1 for each in listed.values())


def test_thresholds_of_single_images_decide_nothing_in_the_report_of_a_study(saved, predict, tmp_path):
    study(saved, tmp_path / "sources", 1, 4)
    _, folder = predict(tmp_path / "sources", kinds="sr", more=("--unit", "study"))
    (report,) = folder.glob("*-sr.dcm")
    assert decisions(report).get("Square") not in ("Present", "Absent")


def test_a_patient_of_several_studies_has_no_report_and_is_told_why(saved, predict, tmp_path, capsys):
    sources = tmp_path / "sources"
    study(saved, sources, 1, 4, count=1)
    study(saved, sources, 2, 5, count=1)
    code, folder = predict(sources, kinds="sr", more=("--unit", "patient"))
    assert code == 0 and not list(folder.glob("*.dcm"))
    assert "a case of files of several studies; a result belongs to one" in capsys.readouterr().out
