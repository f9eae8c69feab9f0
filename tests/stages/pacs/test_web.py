"""`predict --dicomweb`: studies of a real Orthanc, and of a service that answers wrongly, slowly or half."""

import copy
import io
import json
import stat
import time

import pandas as pd
import pydicom
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.stages.pacs import fetch, web
from clinvit.stages.pacs.identity import Identity, read_identity
from clinvit.stages.pacs.web import PacsAway, PacsRefused, Web
from clinvit.tests.stages.pacs.servers import (
    PATIENT,
    PLANTED,
    orthanc,
    radiograph,
    text_report,
    web_service,
)
from pydicom.uid import generate_uid


@pytest.fixture(scope="module")
def model(random_model):
    return random_model()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.01)


class Fake:
    """A DICOMweb service with some objects; `wrong(handler, what)` may answer in another way and then returns True."""

    def __init__(self, objects, wrong=lambda handler, what: False):
        self.objects, self.wrong = objects, wrong

    def __call__(self, handler):
        parts = handler.path.partition("?")[0].strip("/").split("/")[1:]
        what = "query" if parts == ["studies"] else "metadata" if parts[-1] == "metadata" else "image"
        if self.wrong(handler, what):
            return
        found = [each for each in self.objects if len(parts) < 2 or each.StudyInstanceUID == parts[1]]
        if what == "image":
            found = [each for each in found if each.SOPInstanceUID == parts[5]]
            reply(handler, multipart(found[0]), "multipart/related; type=application/dicom; boundary=BOUND")
            return
        lines = [json.loads(without_pixels(each).to_json()) for each in found]
        if what == "query":
            lines = [{"0020000D": line["0020000D"]} for line in lines]
        reply(handler, json.dumps(lines).encode(), "application/dicom+json")


def without_pixels(dataset):
    found = copy.deepcopy(dataset)
    del found["PixelData"]
    return found


def multipart(dataset) -> bytes:
    raw = io.BytesIO()
    pydicom.dcmwrite(raw, dataset, enforce_file_format=True)
    return b"--BOUND\r\nContent-Type: application/dicom\r\n\r\n" + raw.getvalue() + b"\r\n--BOUND--\r\n"


def reply(handler, body: bytes, kind: str, status: int = 200, length: bool = True) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    if length:
        handler.send_header("Content-Length", str(len(body)))
    else:
        handler.send_header("Connection", "close")
        handler.close_connection = True
    handler.end_headers()
    handler.wfile.write(body)


def predict(model, url, out, *more) -> int:
    return main(["predict", "thorax", "--dicomweb", url, "--model", str(model), "--out", str(out), *map(str, more)])


def test_a_study_of_orthanc_is_one_row_and_nothing_of_its_header_is_in_it(model, tmp_path, capfd):
    several, alone, report = generate_uid(), generate_uid(), generate_uid()
    with orthanc(tmp_path / "pacs") as server:
        for each in (
            radiograph(several, view="LL"), radiograph(several), radiograph(alone, view="AP"), text_report(report),
            radiograph(patient="ANOTHER-1"),
        ):  # fmt: skip
            server.put(each, tmp_path)
        out = tmp_path / "out" / "p.csv"
        assert predict(model, server.web, out, "--query", f"PatientID={PATIENT}") == 0
    table = read_predictions(out).table
    assert sorted(table["status"]) == ["failed", "ok", "ok"]
    assert sorted(table["chosen"]) == ["", "PA comes first, of 2 images", "the only image"]
    assert table["patient"].nunique() == 1 and table["study"].nunique() == 3 and set(table["view"]) == {"PA", "AP", ""}
    key = json.loads((tmp_path / "out" / "p.key.json").read_text())
    assert sorted(path.split("/")[1] for path in key["files"].values()) == sorted([several, alone, report])
    assert sorted(path.name for path in out.parent.iterdir()) == ["p.csv", "p.key.json", "p.model.json"]
    said = capfd.readouterr()
    written = said.out + said.err + out.read_text() + (tmp_path / "out" / "p.model.json").read_text()
    for word in [*"^".join(PLANTED.values()).split("^"), *PLANTED.values(), PATIENT, several, "19310711"]:
        assert word not in written, word


def test_a_service_that_asks_who_we_are_gets_the_header_of_a_file_that_nobody_else_reads(model, tmp_path, capfd):
    secret = "Y2xpbnZpdDpzM2NyM3Q="  # clinvit:s3cr3t
    (tmp_path / "headers").write_text(f"Authorization: Basic {secret}\n")
    (tmp_path / "headers").chmod(0o600)
    with web_service(Fake([radiograph()], unauthorised(secret))) as (url, _):
        assert predict(model, url, tmp_path / "p.csv") == 2
        assert "answered 401" in capfd.readouterr().err
        assert predict(model, url, tmp_path / "p.csv", "--headers", tmp_path / "headers") == 0
    said = capfd.readouterr()
    written = said.out + said.err + "".join(path.read_text() for path in tmp_path.glob("p.*"))
    assert secret not in written and "s3cr3t" not in written


def unauthorised(secret):
    def wrong(handler, what):
        if handler.headers.get("Authorization") == f"Basic {secret}":
            return False
        reply(handler, b"who are you", "text/plain", 401)
        return True

    return wrong


@pytest.mark.parametrize(
    "status, code, words",
    [
        (401, 2, "answered 401 for a list of studies (not authorised: name a file of headers (--headers)"),
        (403, 2, "answered 403"),
        (404, 2, "answered 404 for a list of studies (not found)"),
        (503, 1, "answered 503 for a list of studies (service unavailable)"),
        (302, 2, "leads on to another address"),
    ],
)
def test_a_service_that_refuses_the_query_ends_in_one_line(model, tmp_path, capfd, status, code, words):
    def wrong(handler, what):
        handler.send_response(status)
        handler.send_header("Location", "http://127.0.0.1:9/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    with web_service(Fake([], wrong)) as (url, _):
        assert predict(model, url, tmp_path / "p.csv", "--query", "PatientName=Quixadotter") == code
    said = capfd.readouterr()
    [line] = [line for line in said.err.splitlines() if "error" in line]
    assert words in line and "Quixadotter" not in said.err + said.out and not (tmp_path / "p.csv").exists()


def test_an_address_where_nobody_is_or_something_else_ends_in_one_line(model, tmp_path, capfd):
    assert predict(model, "http://127.0.0.1:9/dicom-web", tmp_path / "p.csv") == 1
    assert "cannot be reached" in capfd.readouterr().err
    with web_service(lambda handler: reply(handler, b"<html>welcome</html>", "text/html")) as (url, _):
        assert predict(model, url, tmp_path / "p.csv") == 2
    assert "is no DICOMweb" in capfd.readouterr().err
    with web_service(Fake([])) as (url, _):
        assert predict(model, url, tmp_path / "p.csv") == 2
    assert "no study that fits the query" in capfd.readouterr().err


def half(handler, what):
    """Half an image, in a way that HTTP itself does not notice."""
    if what != "image":
        return False
    body = multipart(handler.bad)
    reply(handler, body[: len(body) // 2], "multipart/related; type=application/dicom; boundary=BOUND", length=False)
    return True


def cut_off(handler, what):
    """Less than was announced."""
    if what != "image":
        return False
    body = multipart(handler.bad)
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/related; type=application/dicom; boundary=BOUND")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:-100])
    handler.close_connection = True
    return True


def gone(handler, what):
    if what == "query":
        return False
    reply(handler, b"", "text/plain", 404)
    return True


def another(handler, what):
    if what != "image":
        return False
    reply(handler, multipart(radiograph()), "multipart/related; type=application/dicom; boundary=BOUND")
    return True


@pytest.mark.parametrize(
    "wrong, words",
    [
        (half, "half an answer: it ended in the middle of an image"),
        (cut_off, "half an answer: it ended in the middle of an image"),
        (gone, "the PACS has no such study any more (404)"),
        (another, "another object came than the one that was asked for"),
    ],
)
def test_a_study_that_cannot_be_fetched_is_a_failed_row_with_its_reason(model, tmp_path, wrong, words):
    good, bad = radiograph(), radiograph()

    def only_bad(handler, what):
        handler.bad = bad
        return bad.StudyInstanceUID in handler.path and wrong(handler, what)

    with web_service(Fake([good, bad], only_bad)) as (url, _):
        assert predict(model, url, tmp_path / "p.csv") == 0
    table = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert sorted(table["status"]) == ["failed", "ok"]
    [reason] = table["reason"][table["status"] == "failed"]
    assert words in reason and bad.StudyInstanceUID not in reason


def test_a_service_that_is_slow_or_never_ends_is_given_up(monkeypatch):
    slow = pytest.raises(PacsAway, match=r"no answer within 0\.3")
    with web_service(lambda handler: time.sleep(3)) as (url, _), slow:
        Web(url, Identity(), timeout_s=0.3).studies({}, 10)
    monkeypatch.setenv("CLINVIT_PACS_SECONDS", "0.5")
    begin = time.monotonic()
    with web_service(drip) as (url, _), pytest.raises(PacsAway, match="too slow"):
        Web(url, Identity()).studies({}, 10)
    assert time.monotonic() - begin < 5
    monkeypatch.delenv("CLINVIT_PACS_SECONDS")
    monkeypatch.setenv("CLINVIT_MAX_PACS_GB", "0.001")
    with web_service(endless) as (url, _), pytest.raises(DataError, match="CLINVIT_MAX_PACS_GB"):
        Web(url, Identity()).studies({}, 10)


def drip(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        handler.close_connection = True


def endless(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.send_header("Content-Length", str(10**9))
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 65_536)
    except OSError:
        handler.close_connection = True


def test_a_pacs_that_goes_away_is_not_asked_for_every_study(model, tmp_path, capfd):
    def away(handler, what):
        if what == "query":
            return False
        reply(handler, b"", "text/plain", 503)
        return True

    objects = [radiograph() for _ in range(10)]
    with web_service(Fake(objects, away)) as (url, asked):
        assert predict(model, url, tmp_path / "p.csv") == 1
    assert len(asked) == 1 + fetch.AWAY_IN_A_ROW * fetch.TRIES
    table = pd.read_csv(tmp_path / "p.csv")
    assert len(table) == 10 and table["reason"].str.contains("away; 3 studies before").sum() == 7


@pytest.mark.parametrize(
    "words, message",
    [
        (["--dicomweb", "https://me:pass@pacs/x"], "no passwords"),
        (["--dicomweb", "https://pacs/x?token=abc"], "no passwords"),
        (["--dicomweb", "ftp://pacs/x"], "no address of a DICOMweb service"),
        (["--dicomweb", "http://pacs/x", "--query", "Colour=red"], "keyword of DICOM"),
        (["--dicomweb", "http://pacs/x", "image.dcm"], "not predicted together"),
        (["--dicomweb", "http://pacs/x", "--images", "all"], "one image is scored"),
        (["--dicomweb", "http://pacs/x", "--limit", "0"], "at least one study"),
        (["image.dcm", "--query", "PatientID=1"], "belongs to --dicomweb"),
        (["image.dcm", "--store"], "belongs to --dicomweb"),
        ([], "INPUT is missing"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_opened(model, tmp_path, capfd, words, message):
    assert main(["predict", "thorax", *words, "--model", str(model), "--out", str(tmp_path / "p.csv")]) == 2
    said = capfd.readouterr()
    assert message in said.err and "pass@" not in said.err + said.out and "abc" not in said.err + said.out


def test_headers_come_from_a_file_of_the_owners_or_the_environment_and_are_never_shown(tmp_path, monkeypatch):
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer S3CR3T\n\nX-Api-Key: K3Y\n")
    with pytest.raises(UserError, match="others may read it"):
        read_identity(file)
    file.chmod(0o600)
    found = read_identity(file)
    assert found.headers == {"Authorization": "Bearer S3CR3T", "X-Api-Key": "K3Y"} and "S3CR3T" not in repr(found)
    file.write_text("Bearer S3CR3T\n")
    with pytest.raises(UserError, match="line 1 is no header") as refused:
        read_identity(file)
    assert "S3CR3T" not in str(refused.value)
    monkeypatch.setenv("CLINVIT_PACS_HEADERS", "Authorization: Bearer ENV")
    assert read_identity().headers == {"Authorization": "Bearer ENV"}
    with pytest.raises(UserError, match="no such file"):
        read_identity(tmp_path / "nothing")


def test_a_result_is_stored_or_the_reason_is_said(tmp_path):
    from clinvit.tests.stages.pacs.servers import write

    path, answers = write(radiograph(), tmp_path / "result.dcm"), []

    def take(handler):
        handler.rfile.read(int(handler.headers["Content-Length"]))
        status, lines = answers[0]
        reply(handler, json.dumps(lines).encode(), "application/dicom+json", status)

    failed = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0x0110]}}]}}
    with web_service(take) as (url, asked):
        answers[:] = [(200, {})]
        Web(url, Identity({"X-Api-Key": "K3Y"})).send([path])
        assert asked[0][0] == "POST" and asked[0][2]["X-Api-Key"] == "K3Y"
        for answer, kind, words in (
            ((202, failed), PacsRefused, "failure reason 0110H"), ((409, failed), PacsRefused, "answered 409"),
            ((503, {}), PacsAway, "answered 503"),
        ):  # fmt: skip
            answers[:] = [answer]
            with pytest.raises(kind, match=words):
                Web(url, Identity()).send([path])
    assert web.PASSING and stat.S_IMODE(path.stat().st_mode)
