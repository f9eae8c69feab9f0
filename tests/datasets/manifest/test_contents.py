"""What a folder holds: content decides, never the name; whatever is no case is counted by its reason."""

import json
import os

import numpy as np
import pandas as pd
import pydicom
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.contents import FRAMES, contents, summary
from clinvit.datasets.manifest.layouts import recognise
from clinvit.datasets.manifest.own import read_class_folders, read_own_csv
from clinvit.datasets.manifest.unlabelled import read_unlabelled
from clinvit.tasks import load
from clinvit.tests.datasets.images.test_dicom import dicom, saved
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MediaStorageDirectoryStorage,
)

PIXELS = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)


def radiograph(folder, name, *, preamble=True, **elements):
    """An X-ray in a file of any name."""
    folder.mkdir(parents=True, exist_ok=True)
    elements = {"Modality": "DX", "PatientID": "MRN-1", "ViewPosition": "PA"} | elements
    path = saved(dicom(PIXELS, 12, **elements), folder, name)
    if not preamble:
        path.write_bytes(path.read_bytes()[132:])
    return path


def report(folder, name, kind, modality, media=False):
    """A DICOM object without an image."""
    dataset = dicom(PIXELS, 12, Modality=modality)
    for element in ("Rows", "Columns", "PixelData", "BitsAllocated", "BitsStored"):
        del dataset[element]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.4"
    if media:
        del dataset.SOPClassUID, dataset.Modality
    return saved(dataset, folder, name)


def medium(root):
    """A CD: a DICOMDIR, X-rays without suffix of two patients, a lateral, other objects, a viewer, a damaged file."""
    folder = root / "DICOM/ST1"
    radiograph(folder, "IM0001")
    radiograph(folder, "1.2.840.113619.2.5", ViewPosition="AP", preamble=False)
    radiograph(folder, "IM0002.ima", PatientID="MRN-2", ViewPosition="LL")
    radiograph(folder, "JPEG.jpg", PatientID="MRN-2", ViewPosition="LEFT LATERAL")
    report(folder, "IM0003", BasicTextSRStorage, "SR")
    report(folder, "IM0004.dcm", GrayscaleSoftcopyPresentationStateStorage, "PR")
    report(folder, "IM0005.dcm", KeyObjectSelectionDocumentStorage, "KO")
    radiograph(folder, "IM0006", Modality="CT", SOPClassUID=CTImageStorage)
    radiograph(folder, "IM0007", BodyPartExamined="HAND")
    radiograph(folder, "IM0008", NumberOfFrames=1, BodyPartExamined="CHEST", PatientID="MRN-2")
    whole = radiograph(folder, "IM0009", PatientName="Quixadotter^Yvaine").read_bytes()
    (folder / "IM0009").write_bytes(whole[: whole.index(b"Yvaine")])
    report(root, "DICOMDIR", MediaStorageDirectoryStorage, "", media=True)
    (root / "VIEWER.EXE").write_bytes(b"MZ a viewer")
    (root / "readme.txt").write_text("a medium")
    (root / ".hidden").write_text("a medium")
    (root / "empty").touch()
    (root / "Quixadotter.Yvaine").write_bytes(b"no kind of file")
    return root


CASES = ["1.2.840.113619.2.5", "IM0001", "IM0002.ima", "IM0008", "IM0009", "JPEG.jpg"]
LEFT_OUT = {
    "DICOM of another body part (HAND)": 1,
    "DICOM that is no X-ray image (CT Image Storage)": 1,
    "DICOM without an image (Basic Text SR Storage)": 1,
    "DICOM without an image (Grayscale Softcopy Presentation State Storage)": 1,
    "DICOM without an image (Key Object Selection Document Storage)": 1,
    "DICOMDIR, the list of a medium's files": 1,
    ".exe file": 1,
    ".txt file": 1,
    "hidden file": 1,
    "empty file": 1,
    "file of an unknown kind": 1,
}


def test_every_file_of_a_medium_is_a_case_or_counted(tmp_path):
    found = contents(medium(tmp_path), "radiograph")
    assert [entry.path.rpartition("/")[2] for entry in found.entries] == CASES
    assert found.counts() == dict(sorted(LEFT_OUT.items()))
    files = sum(len(files) for _, _, files in os.walk(tmp_path))
    assert len(found.entries) + sum(found.counts().values()) == files
    assert "Yvaine" not in summary(found.counts())


def test_a_medium_is_prepared_without_names(tmp_path, capsys):
    root = medium(tmp_path / "cd")
    out = tmp_path / "out/manifest.csv"
    assert main(["prepare", "thorax", str(root), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    table = pd.read_csv(out, dtype=str)
    assert len(table) == 5 and table["patient"].nunique() == 2
    assert sorted(table["view"]) == ["AP", "LL", "LL", "PA", "PA"]
    stored = json.loads(out.with_suffix(".json").read_text())["left_out"]
    assert stored == LEFT_OUT | {"damaged DICOM file": 1}
    assert "5 cases taken, left out 12 files" in said and "1 x DICOM without an image (Basic Text SR Storage)" in said
    assert "2 of 5 cases are lateral views (column `view`); --option views=PA,AP leaves them out" in said
    for column in ("id", "patient"):
        assert table[column].str.fullmatch("[0-9a-f]{16}").all()


@pytest.mark.parametrize(
    ("option", "count"),
    [
        ("views=PA,AP", 3),
        ("views=[LL]", 2),
        ("views=lateral", 0),
        ("body_parts=chest", 1),
        ("modalities=CT", 1),
        ("modalities=[dx, ct]", 6),
    ],
)
def test_headers_are_asked_for_what_is_wanted(tmp_path, capsys, option, count):
    out = tmp_path / "out/manifest.csv"
    code = main(["prepare", "thorax", str(medium(tmp_path / "cd")), "--out", str(out), "--option", option])
    if not count:
        assert code == 2 and "x DICOM of another view (PA)" in capsys.readouterr().err
        return
    assert code == 0 and len(pd.read_csv(out)) == count
    assert "another" in capsys.readouterr().out


def test_a_folder_of_dicom_without_suffix_is_known(tmp_path):
    radiograph(tmp_path, "IM0001")
    radiograph(tmp_path, "IM0002", preamble=False)
    assert recognise(load("thorax").layouts(), tmp_path) == "unlabelled"
    table, _ = read_unlabelled(tmp_path)
    assert table["path"].tolist() == ["IM0001", "IM0002"] and table["patient"].nunique() == 1


def test_folders_of_an_archive_are_no_classes(tmp_path):
    for number in (1, 2):
        radiograph(tmp_path / f"plain/st{number}", "IM0001", PatientID=f"P{number}")
        radiograph(tmp_path / f"plain/st{number}", "IM0002", PatientID=f"P{number}")
        radiograph(tmp_path / f"classes/kind{number}", "IM0001", PatientID=f"P{number}1")
        radiograph(tmp_path / f"classes/kind{number}", "IM0002", PatientID=f"P{number}2")
    assert recognise(load("thorax").layouts(), tmp_path / "plain") == "unlabelled"
    assert recognise(load("thorax").layouts(), tmp_path / "classes") == "folders"


def test_classes_of_dicom_take_patients_from_headers(tmp_path):
    for patient in range(8):
        for number in range(2):
            name = f"{'ILL' if patient % 2 else 'NORMAL'}/Quixadotter_{patient}_{number}"
            radiograph(tmp_path / name.partition("/")[0], name.partition("/")[2], PatientID=f"MRN-{patient}")
    table, labels = read_class_folders(tmp_path, unit="radiograph")
    assert labels == ("ILL",) and len(table) == 16 and table["patient"].nunique() == 8
    assert not table[["id", "patient"]].map(lambda cell: "Quixadotter" in cell or "MRN" in cell).any(axis=None)


@pytest.mark.parametrize("options", [{"each_file_own_patient": True}, {"patient_pattern": r"(Quix[a-z]+_\d)"}, {}])
@pytest.mark.parametrize("name", ["Quixadotter_1950", "Quixadotter_1950.ima", "Quixadotter_1950.png"])
def test_no_option_and_no_name_switches_hashing_off(tmp_path, options, name):
    radiograph(tmp_path, name, PatientID="Quixadotter")
    for table in (
        read_unlabelled(tmp_path, **options)[0],
        read_unlabelled(tmp_path, **options)[0],
    ):
        assert table[["id", "patient"]].stack().str.fullmatch("[0-9a-f]{16}").all()


def test_a_view_may_be_a_code(tmp_path):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "R-10206", "SRT", "antero-posterior"
    radiograph(tmp_path, "a", ViewPosition=None, ViewCodeSequence=[item])
    assert read_unlabelled(tmp_path)[0]["view"].tolist() == ["AP"]


def test_headers_without_known_words_are_kept_and_never_repeated(tmp_path):
    radiograph(tmp_path, "a", Modality="QUIXADOTTER", BodyPartExamined="QUIXADOTTER")
    radiograph(tmp_path, "b", BodyPartExamined="PORT CHEST")
    radiograph(tmp_path, "c", Modality="", ViewPosition="QUIXADOTTER")
    found = contents(tmp_path, "radiograph")
    assert [entry.path for entry in found.entries] == ["b", "c"]
    with pytest.raises(DataError) as refused:
        read_unlabelled(tmp_path, views="PA", modalities="DX", body_parts="HIP")
    assert "QUIXADOTTER" not in str(refused.value).upper().replace(str(tmp_path).upper(), "")


def test_any_task_of_images_takes_any_dicom_image(tmp_path):
    radiograph(tmp_path, "a", BodyPartExamined="HAND")
    radiograph(tmp_path, "b", Modality="CT")
    assert len(contents(tmp_path, "image").entries) == 2


def test_clips_are_found_by_content_and_as_folders_of_frames(tmp_path):
    stream = b"".join(b"\x47" + bytes(187) for _ in range(4))
    (tmp_path / "a.ts").write_bytes(stream)
    (tmp_path / "b").write_bytes(b"\0\0\0\x18ftypisom" + bytes(40))
    (tmp_path / "c.m2ts").write_bytes(b"".join(bytes(4) + b"\x47" + bytes(187) for _ in range(4)))
    frame = Image.new("L", (20, 20))
    for folder, names in {
        "clip/one": ["img_1.png", "img_2.png", "img_10.png"],
        "clip/two": ["1.jpg", "2.jpg", "list.txt"],
        "photos": ["anna.png", "berta.png"],
        "mixed": ["img_1.png", "img_2.png", "v.mp4"],
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            frame.save(tmp_path / folder / name) if name[-1] == "g" else (tmp_path / folder / name).touch()
    found = contents(tmp_path, "clip")
    kinds = {entry.path: entry.kind for entry in found.entries}
    frames = dict.fromkeys(("clip/one", "clip/two"), FRAMES)
    assert kinds == {"a.ts": "mpegts", "b": "mov", "c.m2ts": "mpegts", "mixed/v.mp4": "empty"} | frames
    assert found.counts() == {"empty file": 1, "image, not a clip": 4}
    assert contents(tmp_path / "clip/one", "clip").entries[0].path == "."


def test_links_in_a_circle_are_walked_once(tmp_path):
    radiograph(tmp_path / "a", "IM1")
    (tmp_path / "a/again").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    found = contents(tmp_path, "image")
    assert [entry.path for entry in found.entries] == ["a/IM1"]
    assert found.counts() == {"pipe, device or broken link": 2}


@pytest.mark.parametrize("options", [{}, {"each_file_own_patient": True}])
def test_a_table_of_files_named_after_people_gives_hashes(tmp_path, options):
    names = [f"Quixadotter_{number}{'.png' if number % 2 else ''}" for number in range(8)]
    for number, name in enumerate(names):
        radiograph(tmp_path, name, PatientID=f"MRN-{number}")
    rows = [f"{name},p{number},{number % 2}" for number, name in enumerate(names)]
    (tmp_path / "own.csv").write_text("\n".join(["path,patient,mass", *rows]))
    table, _ = read_own_csv(tmp_path / "own.csv", **options)
    assert table["id"].str.fullmatch("[0-9a-f]{16}").all() and table["id"].is_unique
    assert not table["patient"].str.contains("Quixadotter").any()
    if options.get("each_file_own_patient"):
        assert (table["patient"] == table["id"]).all()
    named, _ = read_own_csv(tmp_path / "own.csv", id_column="path", **options)
    assert named["id"].tolist() == names, "an id that was given is kept"


def test_what_a_dicomdir_lists_and_is_not_there_is_counted(tmp_path):
    radiograph(tmp_path / "DICOM", "IM1")
    report(tmp_path, "DICOMDIR", MediaStorageDirectoryStorage, "", media=True)
    directory = pydicom.dcmread(tmp_path / "DICOMDIR")
    records = [Dataset() for _ in range(4)]
    for record, name in zip(records, (["dicom", "im1"], ["DICOM", "IM2"], "IM3", None)):
        record.DirectoryRecordType = "IMAGE"
        if name:
            record.ReferencedFileID = [part.upper() for part in name] if isinstance(name, list) else name
    directory.DirectoryRecordSequence = records
    directory.save_as(tmp_path / "DICOMDIR")
    found = contents(tmp_path, "radiograph")
    assert [entry.path for entry in found.entries] == ["DICOM/IM1"]
    assert found.counts()["file that a DICOMDIR lists and that is not there"] == 2
