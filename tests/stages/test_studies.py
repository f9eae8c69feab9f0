"""Studies in folders: the columns that say which image a row is, hashed, and one image of each study where asked."""

import json

import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.stages.requested_files import IDENTIFIERS
from clinvit.tests.stages.pacs.servers import PATIENT, PLANTED, radiograph, text_report, write
from pydicom.uid import generate_uid


@pytest.fixture(scope="module")
def model(random_model):
    return random_model()


@pytest.fixture
def folder(tmp_path):
    """A study of two views and a report, one of two patients, one alone whose view is somebody's word."""
    two, mixed = generate_uid(), generate_uid()
    found = [
        radiograph(two, view="LL"), radiograph(two), text_report(two), radiograph(mixed),
        radiograph(mixed, patient="P-OTHER"), radiograph(view="QUIXADOTTER"),
    ]  # fmt: skip
    for number, each in enumerate(found):
        write(each, tmp_path / "in" / f"{number}.dcm")
    return tmp_path / "in"


def predict(folder, model, out, *more):
    return main(["predict", "thorax", str(folder), "--model", str(model), "--out", str(out), *more])


def test_each_row_says_which_image_it_is_in_hashes(model, folder, tmp_path, capfd):
    assert predict(folder, model, tmp_path / "p.csv") == 0
    table = read_predictions(tmp_path / "p.csv").table
    assert len(table) == 5 and "chosen" not in table
    assert [table[name].nunique() for name in IDENTIFIERS] == [3, 5, 5, 1]
    assert all(table[name].str.fullmatch("[0-9a-f]{16}").all() for name in IDENTIFIERS)
    assert sorted(table["view"]) == ["LL", "PA", "PA", "PA", "other"]
    said = capfd.readouterr()
    written = said.out + said.err + (tmp_path / "p.csv").read_text() + (tmp_path / "p.model.json").read_text()
    for word in [*PLANTED.values(), PATIENT, "QUIXADOTTER", "1.2.826"]:
        assert word not in written, word
    assert predict(folder, model, tmp_path / "p.jsonl") == 0
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert all(len(line[name]) == 16 for line in lines for name in IDENTIFIERS)


def test_one_image_of_each_study_and_why(model, folder, tmp_path, capfd):
    assert predict(folder, model, tmp_path / "p.csv", "--images", "one") == 0
    table = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert sorted(table["chosen"]) == ["", "PA comes first, of 2 images", "the only image"]
    [failed] = table[table["status"] == "failed"]["reason"]
    assert failed.startswith("two patients under one study UID")
    said = capfd.readouterr().out
    assert "3 requested = 2 ok + 1 failed" in said
    assert "1 x DICOM image of a study of which another image is scored" in said
    assert "1 x DICOM of a study of two patients" in said and "Basic Text SR" in said


def test_a_resumed_prediction_of_one_image_each_is_the_same(model, folder, tmp_path):
    assert predict(folder, model, tmp_path / "p.csv", "--images", "one") == 0
    first = (tmp_path / "p.csv").read_bytes()
    assert predict(folder, model, tmp_path / "p.csv", "--images", "one", "--resume") == 0
    assert (tmp_path / "p.csv").read_bytes() == first


def test_with_identifiers_they_are_those_of_the_header(model, folder, tmp_path):
    assert predict(folder, model, tmp_path / "p.csv", "--identifiers") == 0
    table = pd.read_csv(tmp_path / "p.csv")
    assert set(table["accession"]) == {PLANTED["AccessionNumber"]} and table["study"].str.startswith("1.2.826").all()


def test_a_manifest_says_itself_what_is_scored(model, cohort, tmp_path, capfd):
    assert predict(cohort(patients=5), model, tmp_path / "p.csv", "--images", "one") == 2
    assert "a manifest says what is scored" in capfd.readouterr().err
