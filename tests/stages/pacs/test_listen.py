"""The listener: one result per study, from those who may send, whatever they send and whenever it is killed."""

import contextlib
import errno
import os
import socket
import sys
import threading
import time
from dataclasses import replace

import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.core.secret import keyed_hash
from clinvit.datasets.manifest.tables import Regression
from clinvit.finetune.model import build_model, load_card, save_model
from clinvit.stages.pacs import listen as module
from clinvit.stages.pacs.listen import ListenRequest, listen_stage
from clinvit.stages.pacs.receiver import Reception
from clinvit.stages.predict import Request, predict_stage
from clinvit.stages.units import IMAGES, Asked
from clinvit.tests.stages.pacs.killed import trial
from clinvit.tests.stages.pacs.servers import PATIENT, PLANTED, free_port, radiograph, text_report, write
from clinvit.tests.stages.pacs.waiting import echo, table, wait_for
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import BasicTextSRStorage, DigitalXRayImageStorageForPresentation


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(thresholds={"Square": {"value": 0.5, "how": "youden", "split": "val"}})


class Listener:
    """A listener in this process; `rows()` waits for so many."""

    def __init__(self, model, folder, quiet_s=0.5, destination=None, units=IMAGES, **reception):
        self.port, self.out, self.queue = free_port(), folder / "p.csv", folder / "queue"
        self.reception = Reception(port=self.port, **reception)
        self.request = ListenRequest(
            model,
            self.queue,
            self.out,
            self.reception,
            quiet_s=quiet_s,
            destination=destination,
            unit="radiograph",
            units=units,
        )
        self._stop, self.error = threading.Event(), None

    def _run(self):
        try:
            listen_stage(self.request, self._stop)
        except BaseException as error:
            self.error = error

    def __enter__(self):
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_for(lambda: self.error is not None or echo(self.port, tls=self.reception.tls is not None))
        assert self.error is None, self.error
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)
        assert self.error is None, self.error

    def rows(self, number):
        wait_for(lambda: len(table(self.out)) >= number)
        return table(self.out)


@contextlib.contextmanager
def association(port, calling="MODALITY", called="CLINVIT", tls=None):
    entity = AE(ae_title=calling)
    for kind in (DigitalXRayImageStorageForPresentation, BasicTextSRStorage):
        entity.add_requested_context(kind, "1.2.840.10008.1.2.1")
    found = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)
    yield found
    if found.is_established:
        found.release()


def send(port, *objects, **settings):
    """Return the statuses that the sender gets; None where it is hung up on."""
    with association(port, **settings) as found:
        assert found.is_established
        return [found.send_c_store(each).get("Status") for each in objects]


def test_a_study_of_several_images_gives_one_row_that_says_why(model, tmp_path, capfd):
    study, alone, report = generate_uid(), generate_uid(), generate_uid()
    with Listener(model, tmp_path) as listener:
        assert echo(listener.port)
        sent = [radiograph(study, view="LL"), radiograph(study, view="PA"), text_report(study)]
        assert send(listener.port, *sent, sent[1], radiograph(alone, view="AP"), text_report(report)) == [0] * 6
        rows = listener.rows(3)
        wait_for(lambda: not list(listener.queue.rglob("*.dcm")) and not list((listener.queue / "outgoing").iterdir()))
    found = {row["chosen"] or row["reason"]: row for row in rows}
    assert set(found) == {
        "PA comes first, of 2 images", "the only image",
        "a study without an image to score (1 x DICOM without an image (Basic Text SR Storage))",
    }  # fmt: skip
    one = found["PA comes first, of 2 images"]
    assert one["status"] == "ok" and one["view"] == "PA" and 0 < float(one["p_Square"]) < 1
    assert all(len(one[name]) == 16 for name in ("id", "patient", "study", "series", "instance", "accession"))
    assert len({row["patient"] for row in rows}) == 1 and len({row["study"] for row in rows}) == 3
    said = capfd.readouterr()
    written = (
        said.out
        + said.err
        + "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path.name != "key")
    )
    for word in [*PLANTED.values(), *"^".join(PLANTED.values()).split("^"), PATIENT, study, alone, "19310711"]:
        assert word not in written, word


class Kept:
    """A destination that keeps what it is sent."""

    def __init__(self):
        self.objects = []

    def send(self, files):
        self.objects += [dcmread(file) for file in files]


@pytest.mark.parametrize("stored", [False, True], ids=["asked", "of the model"])
def test_a_study_is_scored_on_all_of_its_images_and_has_one_report(random_model, tmp_path, stored):
    learned = {"aggregation": {"unit": "study", "rule": "mean"}} if stored else {}
    model = random_model(thresholds={"Square": {"value": 0.0, "how": "youden", "split": "val"}}, **learned)
    study, empty, pacs = generate_uid(), generate_uid(), Kept()
    views = [radiograph(study, view=view, seed=seed) for seed, view in enumerate(("PA", "LL", "AP"))]
    loose = generate_uid()  # one of its scanners has not asked for the number: one study all the same, but no report
    more = [radiograph(loose, view="PA"), radiograph(loose, patient="", view="LL")]
    units = IMAGES if stored else Asked("study", "mean")
    with Listener(model, tmp_path, destination=pacs, units=units) as listener:
        assert send(listener.port, *views, *more, text_report(study), text_report(empty)) == [0] * 7
        listener.rows(3)
        wait_for(lambda: len(pacs.objects) == 2)
    failed, two, good = sorted(table(listener.out), key=lambda row: row["images"] + row["status"])
    assert (two["status"], two["images"]) == ("ok", "2")
    files = [write(view, tmp_path / f"{place}.dcm") for place, view in enumerate(views)]
    single = Request(random_model(), [str(file) for file in files], tmp_path / "images.csv", unit="radiograph")
    scores = predict_stage(single)
    assert float(good["p_Square"]) == pytest.approx(scores["p_Square"].mean(), abs=1e-5)
    assert (good["images"], good["failed_images"], good["study"] != failed["study"]) == ("3", "0", True)
    assert failed["status"] == "failed" and "without an image to score" in failed["reason"]
    assert good["pred_Square"] == "1" if stored else "pred_Square" not in good
    report = next(each for each in pacs.objects if each.StudyInstanceUID == study)
    assert "study of 3 images, by mean" in report.to_json()
    assert len(report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence) == 3
    (empty_one,) = [each for each in pacs.objects if each.StudyInstanceUID == empty]
    assert "The analysis failed" in empty_one.to_json()


def test_units_that_are_no_studies_are_not_listened_for(random_model, tmp_path):
    model = random_model(aggregation={"unit": "patient", "rule": "max"})
    with pytest.raises(UserError, match="scores study by study, not patients"):
        listen_stage(ListenRequest(model, tmp_path / "queue", tmp_path / "p.csv"), threading.Event())


def test_numbers_of_studies_stand_in_the_table_and_the_report(random_model, tmp_path):
    target = Regression("age", "years", "mse", mean=60.0, std=12.0)
    card = replace(load_card(random_model()), labels=("age",), targets=(target.plain(),))
    model, pacs = save_model(tmp_path / "valued", build_model(card), card), Kept()
    with Listener(model, tmp_path, destination=pacs, units=Asked("study")) as listener:
        study = generate_uid()
        assert send(listener.port, radiograph(study), radiograph(study, view="LL")) == [0] * 2
        (row,) = listener.rows(1)
        wait_for(lambda: pacs.objects)
    assert row["status"] == "ok" and 0 < float(row["value_age"]) < 120 and row["y_age"] == ""
    assert "UCUM" in pacs.objects[0].to_json() and '"year"' in pacs.objects[0].to_json()


def test_senders_that_may_not_are_refused_and_named(model, tmp_path, capfd):
    with Listener(model, tmp_path, allowed=("MODALITY", "PYNETDICOM"), associations=2) as listener:
        for settings in ({"called": "OTHER"}, {"calling": "STRANGER"}):
            with association(listener.port, **settings) as found:
                assert found.is_rejected
        with association(listener.port), association(listener.port), association(listener.port) as third:
            assert third.is_rejected
        assert send(listener.port, radiograph()) == [0]
        listener.rows(1)
    said = capfd.readouterr().out
    assert "'MODALITY' at 127.0.0.1: it called 'OTHER', and this is 'CLINVIT'" in said
    assert "'STRANGER' at 127.0.0.1: --allow does not name it" in said and "--associations" in said


def test_an_object_that_is_too_large_or_names_no_study_is_refused_and_the_next_one_taken(model, tmp_path, capfd):
    with Listener(model, tmp_path, object_mb=0.2) as listener:
        nameless = radiograph()
        del nameless.StudyInstanceUID
        assert send(listener.port, nameless) == [0xC000]
        assert send(listener.port, radiograph(side=2000)) == [None]
        assert send(listener.port, *[radiograph(side=300) for _ in range(4)]) == [0] * 4
        listener.rows(4)
        assert len(table(listener.out)) == 4
    said = capfd.readouterr().out
    assert "more than 0.2 MB (--object-mb)" in said and "no study or no instance UID" in said


def test_two_patients_under_one_study_are_not_scored(model, tmp_path):
    study = generate_uid()
    with Listener(model, tmp_path) as listener:
        send(listener.port, radiograph(study), radiograph(study, patient="MRN-OTHER"))
        [row] = listener.rows(1)
    assert row["status"] == "failed" and row["reason"].startswith("two patients under one study UID")
    assert not row["p_Square"] and row["patient"] == row["id"]


def test_with_a_full_disk_the_sender_is_asked_to_come_again_and_nothing_is_lost(model, tmp_path, monkeypatch, capfd):
    study, full = generate_uid(), threading.Event()
    original = os.fsync

    def fsync(handle):
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with Listener(model, tmp_path, quiet_s=1) as listener:
        first, second = radiograph(study, view="LL"), radiograph(study)
        assert send(listener.port, first) == [0]
        full.set()
        assert send(listener.port, second) == [0xA700]
        time.sleep(1.5)  # the study is complete, and cannot be answered
        assert not table(listener.out)
        full.clear()
        assert len(listener.rows(1)) == 1
    said = capfd.readouterr().out
    assert "refused an object for now" in said and "No space left" in said and "Next try in" in said


def test_another_model_does_not_go_on_with_a_table(model, random_model, tmp_path):
    with Listener(model, tmp_path):
        pass
    other = random_model(thresholds={"Square": {"value": 0.7, "how": "youden", "split": "val"}})
    stop = threading.Event()
    stop.set()
    with pytest.raises(UserError, match="another model"):
        listen_stage(ListenRequest(other, tmp_path / "queue", tmp_path / "p.csv"), stop)


@pytest.mark.slow
def test_killed_while_it_receives_each_study_has_one_result(model, tmp_path):
    trial(tmp_path, model, associations=2, studies=3, images=4, quiet_s=3)


@pytest.mark.parametrize(
    "words, message",
    [
        (["slides"], "listen takes images and clips"),
        (["thorax", "--quiet", "0"], "--quiet 0: a number above 0"),
        (["thorax", "--port", "70000"], "1 to 65535"),
        (["thorax", "--allow", "SEVENTEEN_LETTERS"], "AE title"),
        (["thorax", "--send", "nowhere"], "TITLE@HOST:PORT"),
        (["thorax", "--send", "A@b:1", "--store", "http://pacs"], "leave one out"),
        (["thorax", "--store", "https://me:word@pacs/x"], "no passwords"),
        (["thorax", "--tls-key", "k.pem"], "--tls-cert is missing"),
        (["thorax", "--send-tls"], "belongs to --send"),
        (["thorax", "--out", "rows.jsonl"], "as .csv"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_listens(model, tmp_path, capfd, words, message):
    assert main(["listen", *words, "--model", str(model), "--queue", str(tmp_path / "queue")]) == 2
    said = capfd.readouterr()
    assert message in said.err and "word@" not in said.err + said.out and not (tmp_path / "queue").exists()


def test_a_port_that_is_taken_ends_in_one_line(model, tmp_path, capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port, places = taken.getsockname()[1], ["--queue", str(tmp_path / "q"), "--out", str(tmp_path / "p.csv")]
        assert main(["listen", "thorax", "--model", str(model), "--port", str(port), *places]) == 1
    assert f"127.0.0.1:{port}: cannot listen there" in capfd.readouterr().err


@pytest.mark.parametrize("library", ["pynetdicom", "dicomweb_client.web"])
def test_without_the_part_the_message_says_what_to_install(model, tmp_path, monkeypatch, capfd, library):
    monkeypatch.setitem(sys.modules, library, None)
    words = [
        "listen",
        "thorax",
        "--model",
        str(model),
        "--queue",
        str(tmp_path / "q"),
        "--out",
        str(tmp_path / "p.csv"),
    ]
    assert main([*words, "--store", "http://127.0.0.1:9/x"]) == 2
    assert "pip install 'clinvit[pacs]'" in capfd.readouterr().err


def test_a_study_that_makes_scoring_fail_costs_that_study_only(model, tmp_path, monkeypatch, capfd):
    good, bad = generate_uid(), generate_uid()
    original, poisoned = module.predicted, []

    def predicted(cases, *arguments, **settings):
        paths = cases["path"][cases.get("refused", "") == ""] if "refused" in cases else cases["path"]
        if any(poison in path for path in paths for poison in poisoned):
            raise RuntimeError("words of a header")
        return original(cases, *arguments, **settings)

    monkeypatch.setattr(module, "predicted", predicted)
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.1)
    with Listener(model, tmp_path, quiet_s=1) as listener:
        poisoned.append(keyed_hash((listener.queue / "key").read_text().strip(), bad))
        assert send(listener.port, radiograph(bad), radiograph(good)) == [0, 0]
        rows = listener.rows(2)
    assert sorted(row["status"] for row in rows) == ["failed", "ok"]
    [failed] = [row for row in rows if row["status"] == "failed"]
    assert failed["reason"] == "it could not be scored in 3 tries" and failed["study"] == poisoned[0]
    said = capfd.readouterr()
    assert "RuntimeError while scoring" in said.out and "words of a header" not in said.out + said.err
