"""A real Orthanc on free ports, radiographs to put into it, and a DICOMweb service that misbehaves."""

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
# Words of headers that occur nowhere by chance.
PLANTED = {
    "PatientName": "Quixadotter^Yvaine", "AccessionNumber": "ACC552917", "InstitutionName": "Zollernhaus Klinik",
    "StudyDescription": "Thorax of Yvaine", "ReferringPhysicianName": "Dr^Wolkenstein", "StationName": "ROOM9X",
}  # fmt: skip
PATIENT = "MRN-93817"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def radiograph(study=None, patient=PATIENT, view="PA", seed=0, side=40, **elements) -> Dataset:
    """A radiograph of noise, with a header that says everything about a patient."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    for name, words in PLANTED.items():
        setattr(dataset, name, words)
    dataset.PatientID, dataset.PatientSex, dataset.PatientBirthDate = patient, "F", "19310711"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "19970312", "101112", "7"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study or generate_uid(), generate_uid()
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", view
    dataset.ImageType, dataset.Laterality = ["ORIGINAL", "PRIMARY"], ""
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = np.random.default_rng(seed).integers(0, 255, (side, side), np.uint8).tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return finished(dataset)


def text_report(study: str) -> Dataset:
    """A report: an object without an image."""
    dataset = radiograph(study)
    for name in ("Rows", "Columns", "PixelData", "ViewPosition", "BitsAllocated", "BitsStored", "HighBit"):
        del dataset[name]
    dataset.SOPClassUID, dataset.Modality = BasicTextSRStorage, "SR"
    return finished(dataset)


def finished(dataset: Dataset) -> Dataset:
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def write(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


class Orthanc:
    """A server: `rest` is its own interface, `web` that of DICOMweb, `port` that of the classical network."""

    def __init__(self, folder: Path, **settings):
        self.http, self.port, self.folder, self.settings = free_port(), free_port(), folder, settings
        self.rest, self.web = f"http://127.0.0.1:{self.http}", f"http://127.0.0.1:{self.http}/dicom-web"
        self._process = None

    def start(self) -> None:
        config = {
            "Name": "test", "StorageDirectory": str(self.folder / "db"), "IndexDirectory": str(self.folder / "db"),
            "HttpPort": self.http, "DicomPort": self.port, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True},
            "DicomAlwaysAllowStore": True, "HttpServerEnabled": True,
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "orthanc.json").write_text(json.dumps(config | self.settings))
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            ["/usr/sbin/Orthanc", str(self.folder / "orthanc.json")], stdout=log, stderr=log, cwd=self.folder
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                self.get("/system")
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def get(self, path: str):
        with urllib.request.urlopen(f"{self.rest}{path}", timeout=20) as answer:
            return json.loads(answer.read())

    def put(self, dataset: Dataset, scratch: Path) -> None:
        raw = write(dataset, scratch / "put.dcm").read_bytes()
        asked = urllib.request.Request(f"{self.rest}/instances", raw, {"Content-Type": "application/dicom"})
        urllib.request.urlopen(asked, timeout=20).close()

    def instances(self) -> list[dict]:
        """What it holds: study, class of object and instance."""
        found = self.get("/instances?expand")
        tags = [self.get(f"/instances/{each['ID']}/simplified-tags") for each in found]
        return [{key: each.get(key, "") for key in ("StudyInstanceUID", "Modality", "SOPInstanceUID")} for each in tags]


@contextmanager
def orthanc(folder: Path, **settings):
    """A running Orthanc; the test is skipped where none is installed."""
    if not Path("/usr/sbin/Orthanc").exists() or not PLUGIN.exists():
        pytest.skip("Orthanc with its DICOMweb plugin is not installed (Debian: orthanc orthanc-dicomweb)")
    server = Orthanc(folder, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def needs_storescu() -> str:
    """DCMTK's `storescu`; pynetdicom brings one of the same name, with other options."""
    for folder in os.get_exec_path():
        found = Path(folder) / "storescu"
        if found.is_file() and "dcmtk" in subprocess.run([found, "--version"], capture_output=True, text=True).stdout:
            return str(found)
    pytest.skip("DCMTK's storescu is not installed (Debian: dcmtk)")


@contextmanager
def web_service(answer):
    """A DICOMweb service in this process; `answer(handler)` writes answers. Gives its address and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append((self.command, self.path, dict(self.headers)))
            answer(self)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web", asked
    finally:
        server.shutdown()
        server.server_close()
