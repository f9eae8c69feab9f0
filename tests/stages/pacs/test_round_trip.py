"""An X-ray from Orthanc through the model and back: by DICOMweb, by the classical network, and while it was away."""

import time

import pytest
from clinvit.cli import main
from clinvit.stages.pacs import fetch
from clinvit.stages.pacs.destination import StoreReceiver, read_receiver, read_title
from clinvit.stages.pacs.identity import Identity
from clinvit.stages.pacs.web import PacsAway, PacsRefused, Web
from clinvit.tests.stages.pacs.servers import Orthanc, free_port, orthanc, radiograph, text_report, write
from clinvit.tests.stages.pacs.test_listen import Listener, send
from clinvit.tests.stages.pacs.waiting import table, wait_for
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(thresholds={"Square": {"value": 0.5, "how": "youden", "split": "val"}})


def results(server: Orthanc) -> list[dict]:
    return [each for each in server.instances() if each["Modality"] == "SR"]


def test_a_result_of_each_study_is_stored_beside_it_and_a_second_run_adds_none(model, tmp_path, capfd):
    study, other = generate_uid(), generate_uid()
    words = ["predict", "thorax", "--model", str(model), "--out", str(tmp_path / "p.csv"), "--store", "--dicomweb"]
    with orthanc(tmp_path / "pacs") as server:
        for each in (radiograph(study, view="LL"), radiograph(study), radiograph(other, view="AP")):
            server.put(each, tmp_path)
        assert main([*words, server.web]) == 0
        assert "stored 2 of 2 results" in capfd.readouterr().out
        first = results(server)
        assert sorted(each["StudyInstanceUID"] for each in first) == sorted([study, other])
        found = server.get(f"/instances/{server.get('/instances?expand')[-1]['ID']}/simplified-tags")
        assert found["Manufacturer"] == "ClinViT" and found["PatientName"] == "Quixadotter^Yvaine"
        assert main([*words, server.web]) == 0
        assert len(results(server)) == 2 and len(server.instances()) == 5
    rows = table(tmp_path / "p.csv")
    assert {row["chosen"] for row in rows} == {"PA comes first, of 2 images", "the only image to score among 2 objects"}
    assert not (tmp_path / "p-dicom").exists()


def test_units_are_scored_on_all_images_of_a_study_and_have_one_result_each(model, tmp_path, capfd):
    study, other = generate_uid(), generate_uid()
    words = ["predict", "thorax", "--model", str(model), "--out", str(tmp_path / "p.csv"), "--store", "--unit", "study"]
    with orthanc(tmp_path / "pacs") as server:
        for each in (radiograph(study, view="LL"), radiograph(study), radiograph(other, view="AP")):
            server.put(each, tmp_path)
        assert main([*words, "--dicomweb", server.web]) == 0
        assert "stored 2 of 2 results" in capfd.readouterr().out
        assert sorted(each["StudyInstanceUID"] for each in results(server)) == sorted([study, other])
    rows, images = table(tmp_path / "p.csv"), table(tmp_path / "p.images.csv")
    assert sorted(row["images"] for row in rows) == ["1", "2"] and len(images) == 3
    assert all(row["status"] == "ok" for row in rows) and not list(tmp_path.glob(".p.csv.studies"))
    assert study not in (tmp_path / "p.csv").read_text() + (tmp_path / "p.images.csv").read_text()


def test_results_that_are_not_taken_stay_and_the_command_says_so(model, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.01)

    def refuse(self, files):
        raise PacsRefused("http://pacs: answered 403 for a result (forbidden).")

    monkeypatch.setattr(Web, "send", refuse)
    with orthanc(tmp_path / "pacs") as server:
        server.put(radiograph(), tmp_path)
        words = ["predict", "thorax", "--model", str(model), "--out", str(tmp_path / "p.csv"), "--store"]
        assert main([*words, "--dicomweb", server.web]) == 1
    said = capfd.readouterr()
    assert "1 results were not stored" in said.err and "403" in said.err
    assert len(list((tmp_path / "p-dicom").glob("*-sr.dcm"))) == 1 and len(table(tmp_path / "p.csv")) == 1


@pytest.mark.parametrize("way", ["web", "network"])
def test_the_listener_sends_each_result_once_also_when_the_pacs_was_away(model, tmp_path, monkeypatch, capfd, way):
    monkeypatch.setattr("clinvit.stages.pacs.listen.LONGEST_WAIT_S", 1.0)
    with orthanc(tmp_path / "pacs") as server:
        server.stop()
        to = Web(server.web, Identity()) if way == "web" else StoreReceiver(
            "ORTHANC", "127.0.0.1", server.port, "CLINVIT", Identity()
        )  # fmt: skip
        studies = [generate_uid() for _ in range(3)]
        with Listener(model, tmp_path, destination=to) as listener:
            sent = [radiograph(studies[0]), radiograph(studies[0], view="LL"), radiograph(studies[1])]
            assert send(listener.port, *sent, text_report(studies[2])) == [0] * 4
            listener.rows(3)
            time.sleep(1.5)
            assert len(list((listener.queue / "outgoing").rglob("*.dcm"))) == 3
            server.start()
            wait_for(lambda: not list((listener.queue / "outgoing").iterdir()))
        found = results(server)
    assert sorted(each["StudyInstanceUID"] for each in found) == sorted(studies) and len(table(tmp_path / "p.csv")) == 3
    assert "cannot be reached" in capfd.readouterr().out


def test_a_result_that_comes_back_from_the_pacs_is_not_scored(model, tmp_path):
    """Many a PACS sends on whatever it gets."""
    study = generate_uid()
    with (
        orthanc(tmp_path / "pacs") as server,
        Listener(model, tmp_path, destination=Web(server.web, Identity())) as listener,
    ):
        send(listener.port, radiograph(study))
        wait_for(lambda: len(results(server)) == 1)
        mine = radiograph(study, Manufacturer="ClinViT")
        assert send(listener.port, mine, radiograph(patient="OTHER", Manufacturer="ClinViT")) == [0, 0]
        rows = listener.rows(2)
    assert [row["status"] for row in rows] == ["ok", "failed"] and "result of ClinViT" in rows[1]["reason"]


def receiver(status, port):
    entity = AE(ae_title="PACS")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax)
    entity.require_called_aet = True
    return entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: status)])


@pytest.mark.parametrize(
    "status, title, kind, words",
    [
        (0xA700, "PACS", PacsAway, "status A700H"),
        (0xC000, "PACS", PacsRefused, "status C000H"),
        (0x0000, "OTHER", PacsRefused, r"does it know the AE title CLINVIT \(--aet\)"),
    ],
)
def test_a_receiver_that_does_not_take_a_result_says_why(tmp_path, status, title, kind, words):
    path, port = write(radiograph(), tmp_path / "result.dcm"), free_port()
    server = receiver(status, port)
    try:
        with pytest.raises(kind, match=words):
            StoreReceiver(title, "127.0.0.1", port, "CLINVIT", Identity()).send([path])
    finally:
        server.shutdown()
    with pytest.raises(PacsAway, match="cannot be reached"):
        StoreReceiver("PACS", "127.0.0.1", port, "CLINVIT", Identity()).send([path])


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "PACS@host:0", "PACS@host:70000", "a" * 17 + "@h:104", "@h:104"])
def test_an_address_of_a_receiver_is_whole(text):
    with pytest.raises(ValueError, match="TITLE@HOST:PORT"):
        read_receiver(text, "CLINVIT", Identity(), False)
    assert read_receiver("PACS@[::1]:104", "US", Identity(), False).host == "::1"
    for title in ("", " ", "a\\b", "x" * 17, "ü"):
        with pytest.raises(ValueError, match="AE title"):
            read_title(title, "--aet")
