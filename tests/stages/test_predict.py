"""`clinvit predict` on images: killed and resumed, JSON lines, labels by threshold, names of people kept out."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import clinvit
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.images.image_maps import read_maps
from clinvit.datasets.manifest.seen import case_hash, patient_hash
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.finetune.model import build_model, load_card, save_model
from clinvit.stages import predict as prediction
from clinvit.stages.journal import Journal
from clinvit.stages.predict import Request, predict_stage, read_table
from clinvit.tests.datasets.images.test_dicom import dicom as make_dicom
from clinvit.tests.datasets.images.test_dicom import saved
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

THRESHOLDS = {
    "Square": {"value": 0.5, "how": "youden", "split": "val"},
    "Bar": {"value": None, "reason": "no positive"},
}


@pytest.fixture(scope="module")
def model(random_model):
    """A model folder with a threshold for one of two labels."""
    return random_model(meaning={"Square": "1 = a square"}, thresholds=THRESHOLDS)


@pytest.fixture(scope="module")
def images(small_images):
    """200 small images, two of them broken."""
    return small_images(200, (17, 150))


def dicom(path, patient="SECRET-17"):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    header = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    header.PatientName, header.PatientID, header.Modality = "Doe^Jane", patient, "DX"
    header.Rows = header.Columns = 40
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    header.PixelData = np.arange(1600, dtype=np.uint8).tobytes()
    pydicom.dcmwrite(path, header, enforce_file_format=True)


def test_every_file_is_a_row_and_the_model_is_named(model, images, tmp_path, capsys):
    out = tmp_path / "p.csv"
    assert main(["predict", "thorax", str(images), "--model", str(model), "--out", str(out), "--batch", "7"]) == 0
    assert "200 requested = 198 ok + 2 failed" in capsys.readouterr().out
    table = read_predictions(out).table.set_index("id")
    assert list(table.index) == [f"{number:03d}" for number in range(200)]
    assert set(table.index[table["status"] == "failed"]) == {"017", "150"}
    raw = pd.read_csv(out, dtype={"id": str}).set_index("id")
    ok = raw["status"] == "ok"
    np.testing.assert_array_equal(raw["pred_Square"][ok], (table["p_Square"][ok] >= 0.5).astype(float))
    assert raw["pred_Square"][~ok].isna().all() and "pred_Bar" not in raw
    facts = json.loads((tmp_path / "p.model.json").read_text())
    assert facts["thresholds"] == THRESHOLDS and facts["what_one_means"]["Square"] == "1 = a square"
    assert not list(tmp_path.glob("*.partial*"))


def test_the_audit_log_says_who_asked_for_whom_and_names_nobody(model, tmp_path, capsys):
    for number, patient in enumerate(("SECRET-17", "SECRET-17", "SECRET-18")):
        dicom(tmp_path / f"Doe_Jane_{number}.dcm", patient)
    log, common = tmp_path / "audit.jsonl", ["predict", "thorax", str(tmp_path), "--model", str(model)]
    for _ in range(2):
        assert main([*common, "--out", str(tmp_path / "out/p.csv"), "--audit", str(log)]) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == 2 * ["asked", "case", "case", "case", "written"]
    first, cases, last = lines[0], lines[1:4], lines[4]
    assert first["cases"] == 3 and first["user"] and len(first["model"]) == 64 == len(last["table"])
    assert (last["ok"], last["failed"]) == (3, 0)
    assert [line["patient"] for line in cases].count(patient_hash("SECRET-17")) == 2
    assert {line["case"] for line in cases} == {case_hash(f"Doe_Jane_{number}") for number in range(3)}
    assert not any(word in log.read_text() for word in ("SECRET", "Doe", "Jane"))
    assert main(["verify", str(log)]) == 0
    assert "10 lines" in capsys.readouterr().out


def test_bf16_gives_nearly_the_same_and_says_so(model, images, tmp_path, monkeypatch):
    exact = predict_stage(Request(model, [str(images)], tmp_path / "exact.csv"))
    table = predict_stage(Request(model, [str(images)], tmp_path / "p.csv", bf16=True))
    ok = table["status"] == "ok"
    off = (table["p_Bar"] - exact["p_Bar"])[ok].abs()
    assert 0 < off.max() < 0.02 and (table["status"] == exact["status"]).all()
    precisions = [json.loads((tmp_path / f"{name}.model.json").read_text())["precision"] for name in ("exact", "p")]
    assert precisions == ["fp32", "bf16"]
    out = tmp_path / "begun.csv"
    interrupted(model, images, out, monkeypatch, after=2)
    with pytest.raises(UserError, match="was begun with another precision"):
        predict_stage(Request(model, [str(images)], out, resume=True, bf16=True))


def test_json_lines_say_the_same(model, images, tmp_path):
    table = predict_stage(Request(model, [str(images)], tmp_path / "p.csv"))
    predict_stage(Request(model, [str(images)], tmp_path / "p.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == table["id"].tolist()
    assert lines[17]["status"] == "failed" and lines[17]["scores"] == {"Square": None, "Bar": None}
    assert lines[17]["predicted"] == {"Square": None} and lines[17]["truth"] == {"Square": None, "Bar": None}
    np.testing.assert_allclose(lines[3]["scores"]["Bar"], table["p_Bar"][3])
    assert lines[3]["predicted"]["Square"] == int(table["p_Square"][3] >= 0.5)
    pd.testing.assert_series_equal(read_table(tmp_path / "p.jsonl")["p_Bar"], table["p_Bar"], check_exact=False)


def interrupted(model, images, out, monkeypatch, after: int):
    """A prediction that dies after so many batches."""
    seen, append = [], Journal.append

    def dies(self, paths, scores, reasons):
        append(self, paths, scores, reasons)
        seen.append(list(paths))
        if len(seen) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            predict_stage(Request(model, [str(images)], out, batch=16))
    return seen


def test_resumed_it_reads_nothing_twice_and_writes_the_same(model, images, tmp_path, monkeypatch):
    whole = predict_stage(Request(model, [str(images)], tmp_path / "whole.csv", batch=16))
    out = tmp_path / "cut.csv"
    first = interrupted(model, images, out, monkeypatch, after=5)
    assert not out.exists()
    with (tmp_path / "cut.csv.partial.jsonl").open("a") as file:
        file.write('{"path": "cut off in the mid')
    read, append = [], Journal.append
    monkeypatch.setattr(Journal, "append", lambda self, paths, *rest: (read.extend(paths), append(self, paths, *rest)))
    predict_stage(Request(model, [str(images)], out, batch=16, resume=True))
    assert len(read) == len(whole) - 80 and not set(read) & {path for batch in first for path in batch}
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()

    read.clear()
    again = predict_stage(Request(model, [str(images)], out, batch=16, resume=True))
    assert not read and len(again) == len(whole)
    predict_stage(Request(model, [str(images)], out, batch=16))
    assert len(read) == len(whole), "without --resume everything is predicted anew"


def test_another_model_does_not_go_on(model, images, tmp_path, monkeypatch, capsys):
    out = tmp_path / "p.csv"
    interrupted(model, images, out, monkeypatch, after=2)
    other = tmp_path / "other"
    torch.manual_seed(1)
    save_model(other, build_model(load_card(model)), load_card(model))
    arguments = ["predict", "thorax", str(images), "--model", str(other), "--out", str(out)]
    assert main([*arguments, "--resume"]) == 2
    assert "was begun with another model" in capsys.readouterr().err
    assert main(arguments) == 0


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed(model, images, tmp_path):
    whole = predict_stage(Request(model, [str(images)], tmp_path / "whole.csv", batch=2))
    out = tmp_path / "killed.csv"
    run = "import sys; from clinvit.cli import main; sys.exit(main())"
    arguments = ["predict", "thorax", str(images), "--model", str(model), "--out", str(out), "--batch", "2", "--resume"]
    command = [sys.executable, "-c", run, *arguments]
    journal, kills = tmp_path / "killed.csv.partial.jsonl", 0
    for lines in (3, 40, 120):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path, env=os.environ)
        while process.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"\n") > lines):
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2
    assert main(arguments) == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes() and len(whole) == 200


def test_no_name_of_a_dicom_file_or_its_patient_is_written(model, tmp_path, capsys):
    folder = tmp_path / "archive"
    folder.mkdir()
    dicom(folder / "DOE_JANE_1.dcm")
    dicom(folder / "DOE_JANE_2.dcm")
    dicom(folder / "ROE_1.dcm", patient="SECRET-18")
    (folder / "ROE_BROKEN.dcm").write_bytes(b"none")
    out = tmp_path / "out/p.csv"
    arguments = ["predict", "thorax", str(folder), "--model", str(model), "--out", str(out)]
    assert main(arguments) == 0
    said = "".join(capsys.readouterr()) + out.read_text() + (tmp_path / "out/p.model.json").read_text()
    assert not any(word in said for word in ("DOE", "Doe", "ROE", "SECRET"))
    table = pd.read_csv(out)
    assert (table["status"] == "ok").sum() == 3 and table["patient"].nunique() == 3
    assert table["patient"][0] == table["patient"][1] != table["patient"][2]
    key = json.loads((tmp_path / "out/p.key.json").read_text())["files"]
    assert key[table["id"][0]].endswith("DOE_JANE_1.dcm")
    assert (tmp_path / "out/p.key.json").stat().st_mode & 0o077 == 0, "the key is for its owner alone"
    assert main([*arguments, "--identifiers"]) == 0
    assert pd.read_csv(out)["id"][0] == "DOE_JANE_1"


@pytest.mark.parametrize(
    "options, words",
    [
        (["--out", "p.xlsx"], "written as .csv or as .jsonl"),
        (["--explain-method", "gradient"], "--explain-method belongs to --explain"),
        (["--features", "f"], "--features is for slides, not for thorax"),
    ],
)
def test_a_wrong_request_is_one_line(model, images, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "thorax", str(images), "--model", str(model), *options]) == 2
    errors = capsys.readouterr().err
    assert words in errors and errors.count("\n") == 1


def test_explained_images_go_on_too(model, images, tmp_path, monkeypatch):
    some = [str(images / f"{number:03d}.png") for number in (0, 1, 17)]
    request = Request(model, some, tmp_path / "p.csv", explain=tmp_path / "explanations")
    predict_stage(request)
    maps = sorted((tmp_path / "explanations/maps").glob("*.h5"))
    assert [path.stem for path in maps] == ["000", "001"]
    times = [path.stat().st_mtime_ns for path in maps]
    maps[1].unlink()
    predict_stage(replace(request, resume=True))
    assert maps[1].is_file() and maps[0].stat().st_mtime_ns == times[0]


def test_both_methods_have_folders_of_their_own(model, images, tmp_path):
    request = Request(model, [str(images / "000.png")], tmp_path / "p.csv", explain=tmp_path / "e", method="both")
    predict_stage(request)
    assert [read_maps(tmp_path / "e" / folder / "000.h5").method for folder in ("maps", "maps-attention")] == [
        "gradient", "attention",
    ]  # fmt: skip
    assert list((tmp_path / "e/images-attention").rglob("000.png"))


def test_exclusive_classes_have_no_calls(model, images, tmp_path):
    card = replace(load_card(model), exclusive=True)
    folder = save_model(tmp_path / "exclusive", build_model(card), card)
    table = predict_stage(Request(folder, [str(images / "000.png")], tmp_path / "p.csv"))
    assert not [column for column in table if column.startswith(prediction.PREDICTED)]
    np.testing.assert_allclose(table[["p_Square", "p_Bar"]].sum(axis=1), 1, atol=1e-6)


def xray(path, **elements):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 4096, (40, 40), np.uint16)
    return saved(
        make_dicom(noise, 12, **({"Modality": "DX", "PatientID": "SECRET-1"} | elements)), path.parent, path.name
    )


def archive(folder):
    """An archive whose files are named after people, of any suffix or none; a report, a hand and a text beside them."""
    xray(folder / "DOE_JANE_1", ViewPosition="PA")
    xray(folder / "DOE_JANE_2.ima", ViewPosition="LL")
    xray(folder / "DOE_JANE_3.png")
    xray(folder / "st1/ROE_1.dcm", PatientID="SECRET-2")
    xray(folder / "st1/ROE_2", PatientID="")
    (folder / "st1/ROE_3.dcm").write_bytes(b"none")
    xray(folder / "st1/ROE_HAND", BodyPartExamined="HAND")
    report = make_dicom(np.zeros((40, 40), np.uint8), Modality="SR")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    saved(report, folder, "DOE_REPORT.dcm")
    (folder / "notes.txt").write_text("DOE")
    return folder


LEFT_OUT = {
    ".txt file": 1,
    "DICOM of another body part (HAND)": 1,
    "DICOM without an image (Basic Text SR Storage)": 1,
}


def test_a_folder_is_its_content_and_names_nobody(model, tmp_path, capsys):
    folder, out = archive(tmp_path / "in"), tmp_path / "out/p.csv"
    assert main(["predict", "thorax", str(folder), "--model", str(model), "--out", str(out)]) == 0
    said = "".join(capsys.readouterr())
    assert "6 requested = 5 ok + 1 failed" in said and "1 x DICOM without an image (Basic Text SR Storage)" in said
    facts = (tmp_path / "out/p.model.json").read_text()
    assert json.loads(facts)["left_out"] == LEFT_OUT
    table = pd.read_csv(out, dtype=str, keep_default_na=False)
    assert not any(word in said + out.read_text() + facts for word in ("DOE", "ROE", "SECRET"))
    assert sorted(table["view"]) == ["", "", "", "", "LL", "PA"]
    assert table["patient"].nunique() == 4, "one of three files, one of one, and two files of nobody knows whom"
    capsys.readouterr()
    lines = tmp_path / "out/p.jsonl"
    assert main(["predict", "thorax", str(folder), "--model", str(model), "--out", str(lines)]) == 0
    assert sorted(json.loads(line)["view"] for line in lines.read_text().splitlines()) == sorted(table["view"])


def test_identifiers_and_python_say_who_the_patient_is(model, tmp_path):
    folder, out = archive(tmp_path / "in"), tmp_path / "p.csv"
    arguments = ["predict", "thorax", str(folder), "--model", str(model), "--out", str(out), "--identifiers"]
    assert main(arguments) == 0
    expected = {"DOE_JANE_1": "SECRET-1", "DOE_JANE_2": "SECRET-1", "ROE_1": "SECRET-2", "ROE_2": "ROE_2"}
    for table in (pd.read_csv(out, dtype=str), clinvit.load(model).predict(folder)):
        patients = dict(zip(table["id"], table["patient"]))
        assert expected.items() <= patients.items()
    assert table.attrs["left_out"] and "DICOM without an image (Basic Text SR Storage)" in table.attrs["left_out"]


def test_a_file_that_is_named_is_always_a_row(model, tmp_path):
    folder, out = archive(tmp_path / "in"), tmp_path / "p.csv"
    named = [
        str(folder / name) for name in ("DOE_REPORT.dcm", "st1/ROE_HAND", "notes.txt", "nowhere.dcm", "DOE_JANE_1")
    ]
    table = predict_stage(Request(model, named, out, unit="radiograph"))
    assert table["status"].tolist() == ["failed", "ok", "failed", "failed", "ok"]
    assert "DOE" not in "".join(table["reason"][:1]) and "notes" in table["reason"][2]


def test_a_folder_without_cases_says_what_it_holds(model, tmp_path, capsys):
    xray(tmp_path / "in/IM1", Modality="CT", NumberOfFrames=3)
    assert main(["predict", "thorax", str(tmp_path / "in"), "--model", str(model)]) == 2
    assert "left out 1 file: 1 x DICOM of several frames" in capsys.readouterr().err


def test_an_image_that_shows_nothing_is_warned_of(model, tmp_path, capsys, monkeypatch):
    noise = np.random.default_rng(0).integers(1000, 3000, (40, 40), np.uint16)
    for name, elements in {
        "beside": {"WindowCenter": 30000, "WindowWidth": 10},
        "slope": {"RescaleSlope": 0, "RescaleIntercept": 0},
        "good": {},
    }.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        saved(make_dicom(noise, 12, PatientID=name, **elements), tmp_path / "in", name)
    saved(make_dicom(np.full((40, 40), 9, np.uint16), 12, PatientID="constant"), tmp_path / "in", "constant")
    out = tmp_path / "p.csv"
    arguments = ["predict", "thorax", str(tmp_path / "in"), "--model", str(model), "--out", str(out), "--identifiers"]
    assert main(arguments) == 0
    assert "warning: 3 scored cases" in capsys.readouterr().err
    table = pd.read_csv(out, keep_default_na=False).set_index("id")
    assert (table["status"] == "ok").all() and (table["reason"] == "").all()
    assert {name for name, words in table["warning"].items() if "one grey level" in words} == {
        "beside",
        "slope",
        "constant",
    }
    interrupted_out = tmp_path / "cut.csv"
    append = Journal.append

    def dies(self, *rest):
        append(self, *rest)
        raise KeyboardInterrupt

    request = Request(model, [str(tmp_path / "in")], interrupted_out, batch=4, identifiers=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "append", dies)
        predict_stage(request)
    predict_stage(replace(request, resume=True))
    assert interrupted_out.read_text() == out.read_text(), "what was done before has its warnings too"
    assert "warning" in clinvit.load(model).predict(tmp_path / "in")
    assert clinvit.load(model).features(tmp_path / "in").reasons == [""] * 4


def test_colours_that_a_grey_model_does_not_see_are_warned_of(model, tmp_path, capsys):
    """Two classes that differ in hue alone would be judged without a word."""
    rng, folder = np.random.default_rng(0), tmp_path / "in"
    folder.mkdir()
    for name in ("red", "green"):
        pixels = rng.integers(0, 60, (48, 40, 3), np.uint8)
        pixels[..., name == "green"] += 150
        Image.fromarray(pixels).save(folder / f"{name}.png")
    grey = rng.integers(0, 255, (48, 40, 1), np.uint8).repeat(3, axis=2)
    Image.fromarray(grey).save(folder / "grey.png")
    out = tmp_path / "p.csv"
    assert main(["predict", "thorax", str(folder), "--model", str(model), "--out", str(out)]) == 0
    assert "warning: 2 scored cases" in capsys.readouterr().err
    table = pd.read_csv(out, keep_default_na=False).set_index("id")
    assert (table["status"] == "ok").all() and table["warning"]["grey"] == ""
    assert all("in colour, and read as grey" in table["warning"][name] for name in ("red", "green"))
    assert (clinvit.load(model).predict(folder)["warning"] != "").sum() == 2


def test_check_says_what_shows_nothing_and_what_it_did_not_read(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for number in range(12):
        noise = np.random.default_rng(number).integers(1000, 3000, (40, 40), np.uint16)
        window = {"WindowCenter": 30000, "WindowWidth": 10} if number == 5 else {}
        saved(make_dicom(noise, 12, PatientID=f"P{number}", **window), tmp_path / "in", f"IM{number:02d}")
    assert main(["check", "thorax", str(tmp_path / "in"), "--files", "9"]) == 0
    said = capsys.readouterr().out
    assert "12 of 12 files read well" in said and "1 of 12 files, first" in said and "one grey level" in said
    assert main(["check", "thorax", str(tmp_path / "in"), "--files", "4"]) == 0
    assert "8 of 12 files were not read; --files 0 reads all of them" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["DOE\u202aJANE", "DOE\x85JANE.dcm", "DOE\rJANE.ima", "DOE JANE.png"])
def test_names_that_printing_escapes_are_in_no_reason(model, tmp_path, name, capsys):
    (tmp_path / "in").mkdir()
    xray(tmp_path / "in" / name)
    whole = (tmp_path / "in" / name).read_bytes()
    (tmp_path / "in" / name).write_bytes(whole[:-900])
    out = tmp_path / "p.csv"
    assert main(["predict", "thorax", str(tmp_path / "in"), "--model", str(model), "--out", str(out)]) == 1
    assert "DOE" not in "".join(capsys.readouterr()) + out.read_text() and "truncated" in out.read_text()
