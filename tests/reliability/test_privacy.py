"""Names, numbers and dates of patients, planted in headers and names of files, in no byte of what a whole chain writes.

`manifest.csv` names the files; a key that `predict` writes says which id is which file. Nothing else may.
"""

import base64
import gzip
import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pydicom
import pytest
from clinvit.core.extras import optional
from clinvit.tests.reliability.commands import files, finish, show
from clinvit.tests.reliability.work import TINY
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

pytestmark = pytest.mark.reliability

# Of every patient: words that occur nowhere by chance.
IN_HEADERS = {
    "PatientName": "Quixadotter^Yvaine{}", "PatientID": "MRN-93817{}", "PatientBirthDate": "1931071{}",
    "AccessionNumber": "ACC55291{}", "StudyDate": "1997031{}", "InstitutionName": "Zollernhaus Klinik {}",
    "ReferringPhysicianName": "Dr^Wolkenstein{}", "PatientAddress": "Krähenweg 1{}",
    "ImageComments": "seen by Ottokar{}",
    "StudyDescription": "Thorax of Yvaine{}", "OtherPatientIDs": "PASS-7731{}", "StationName": "ROOM9X{}",
}  # fmt: skip
IN_PATHS = ("Mustermannsdottir_Erika{}", "1931-07-1{}-Querschnitt")
PATIENTS = 10  # a digit each
ARCHIVED = 16  # of the audited archive: enough to train a patient alarm
# Where names of files may stand: tables that say which file is which.
NAMED_PLACES = {"manifest.csv", "new.key.json"}


def write_dicom(path: Path, patient: int, number: int, pixels: np.ndarray | None = None) -> None:
    """A radiograph whose header says everything about a patient, in public and private elements and an overlay."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name, words in IN_HEADERS.items():
        setattr(dataset, name, words.format(patient if name == "PatientID" else patient % 10))
    dataset.PatientSex, dataset.PatientAge, dataset.Modality = "FM"[patient % 2], f"0{40 + patient}Y", "DX"
    block = dataset.private_block(0x0011, "HOSPITAL", create=True)
    block.add_new(0x01, "LO", f"privately Yvaine{patient}")
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000011, "US", 16)
    dataset.add_new(0x60000022, "LO", f"overlay of Ottokar{patient}")
    dataset.add_new(0x60003000, "OW", f"Wolkenstein{patient}".encode().ljust(16))
    if pixels is None:
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64), np.uint8)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def write_archive(root: Path) -> None:
    """An archive in class folders of patients with three images each, of whom one image has the name in its pixels."""
    for patient in range(ARCHIVED):
        own = np.random.default_rng(patient).normal(0, 40, (4, 4)).repeat(16, axis=0).repeat(16, axis=1)
        for image in range(3):
            number = 1000 + 3 * patient + image
            pixels = 120 + own + np.random.default_rng(number).normal(0, 8, own.shape)
            name = "/".join((("sick", "well")[patient % 2], *(part.format(patient) for part in IN_PATHS)))
            write_dicom(root / name / f"Erika-{image}.dcm", patient, number, pixels.clip(0, 255).astype(np.uint8))
    burned = Image.fromarray(np.full((128, 320), 40, np.uint8))
    text = IN_HEADERS["PatientName"].format(0).replace("^", " ").upper()
    ImageDraw.Draw(burned).text((10, 40), text, fill=255, font=ImageFont.load_default(24))
    write_dicom(root / "sick" / "Erika-burned", 0, 999, np.asarray(burned))


def write_report(path: Path) -> None:
    """A structured report beside the radiographs, which says the same."""
    write_dicom(path, 0, 0)
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    dataset.Modality = "SR"
    del dataset.Rows, dataset.Columns, dataset.PixelData
    dataset.save_as(path)


def in_paths() -> list[str]:
    """What names of files and folders say, without the digit of the patient."""
    return ["Querschnitt", "1931-07-1", "Mustermannsdottir", "Erika"]


def planted() -> list[str]:
    """The words to look for: parts of names too, without the digit of the patient."""
    words = {"Quixadotter", "Yvaine", "Wolkenstein", "Ottokar", "Krähenweg", "Zollernhaus", "ROOM9X"}
    words |= {"MRN-93817", "1931071", "ACC55291", "1997031", "PASS-7731", *in_paths()}
    return sorted(words)


def needles() -> dict[bytes, str]:
    """Every word as bytes, in the encodings and cases that a file may hold."""
    found = {}
    for word in planted():
        for text in {word, word.lower(), word.upper()}:
            for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"):
                raw = text.encode(encoding)
                found[raw] = word
                for shift in range(3):  # base64 depends on where in three bytes a word begins
                    coded = base64.b64encode(b"\0" * shift + raw)
                    # The letters that the word alone decides.
                    found[coded[-(-8 * shift // 6) : 8 * (shift + len(raw)) // 6]] = word
            found[json.dumps(text)[1:-1].encode()] = word
    return {raw: word for raw, word in found.items() if len(raw) >= 6}


def contents(raw: bytes, name: str):
    """The bytes of a file, and of what is packed in it."""
    yield name, raw
    if raw[:2] == b"\x1f\x8b":
        yield from contents(gzip.decompress(raw), f"{name}|gz")
    elif raw[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            for member in packed.namelist():
                yield from contents(packed.read(member), f"{name}|{member}")
    elif raw[:8] == b"\x89HDF\r\n\x1a\n":
        with h5py.File(io.BytesIO(raw)) as file:
            held = []
            file.visititems(
                lambda at, each: held.append((at, dict(each.attrs), getattr(each, "shape", None) is not None))
            )
            for at, attributes, is_dataset in held:
                text = f"{at} {attributes}".encode()
                yield f"{name}|{at}", text + (file[at][()].tobytes() if is_dataset else b"")


def search(folder: Path, words: dict[bytes, str]) -> tuple[int, dict[str, set[str]]]:
    """Bytes that were looked at, and the words found by file."""
    looked, found = 0, {}
    for name, path in files(folder).items():
        for inner, raw in contents(path.read_bytes(), name):
            looked += len(raw)
            if hits := {word for needle, word in words.items() if needle in raw or needle in inner.encode()}:
                found.setdefault(name, set()).update(hits)
    return looked, found


def test_the_search_finds_what_it_is_for(tmp_path):
    words = needles()
    ways = [
        "xx Ottokar".encode("utf-16"), base64.b64encode(b"ab seen by Ottokar3 today"), "KRÄHENWEG".encode("latin-1"),
        gzip.compress(b"MRN-938170"), json.dumps("Krähenweg").encode(), b"1931-07-11", "krähenweg".encode(),
    ]  # fmt: skip
    for number, raw in enumerate(ways):
        (tmp_path / f"{number}.bin").write_bytes(raw)
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", gzip.compress(b"of Wolkenstein"))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.frombuffer(b"a Quixadotter was here" * 9, np.uint8), compression="gzip")
    (tmp_path / "harmless").write_bytes(np.random.default_rng(0).bytes(1 << 20))
    assert search(tmp_path, words)[1].keys() == {*(f"{n}.bin" for n in range(len(ways))), "a.pt", "a.h5"}


def test_no_name_leaves_the_files_and_the_manifest(tmp_path, request):
    raw, out, said = tmp_path / "raw", tmp_path / "out", tmp_path / "said"
    said.mkdir()
    rows = []
    for number in range(4 * PATIENTS):
        patient = number % PATIENTS
        ending = ("", ".dcm", ".ima", ".png")[number // PATIENTS]  # content says what it is
        name = "/".join(part.format(patient) for part in IN_PATHS) + f"/Erika-{number}{ending}"
        write_dicom(raw / "pool" / name, patient, number)
        split = ("train", "train", "train", "val", "test")[patient % 5]
        rows.append(
            (
                f"case{number:03d}",
                f"../raw/pool/{name}",
                f"p{patient}",
                split,
                number // PATIENTS % 2,
                "FM"[patient % 2],
            )
        )
    write_report(raw / "pool" / IN_PATHS[0].format(0) / "Erika-report")
    broken = raw / "pool" / rows[4][1].removeprefix("../raw/pool/")  # a test case that fails, with a reason
    broken.write_bytes(broken.read_bytes()[:900])
    truncated = raw / "pool" / rows[9][1].removeprefix("../raw/pool/")
    truncated.write_bytes(truncated.read_bytes()[:-2000])
    number = 0

    def run(*arguments):
        nonlocal number
        number += 1
        finish([*map(str, arguments)], said / f"{number}.txt")

    tiny = [
        *TINY,
        "--run.checkpoint_minutes",
        0,
        "--run.precision",
        "32-true",
        "--optim.epochs",
        2,
        "--run.max_bad",
        0.2,
    ]
    own = raw / "own.csv"
    columns = ["case", "file", "person", "split", "Nodule", "sex"]
    pd.DataFrame(rows, columns=columns).assign(file=[row[1].removeprefix("../raw/") for row in rows]).to_csv(
        own, index=False
    )
    options = ["id_column=case", "path_column=file", "patient_column=person", "labels=[Nodule]"]
    data = out / "labelled" / "manifest.csv"
    run("prepare", "thorax", own, "--out", data, *[word for each in options for word in ("--option", each)])
    run(
        "prepare",
        "thorax",
        raw / "pool",
        "--layout",
        "unlabelled",
        "--out",
        out / "pool" / "manifest.csv",
        "--cache-px",
        64,
    )
    run("pretrain", "thorax", "--recipe", "tiny", "--data", out / "pool", "--out", out / "mae", *tiny)
    start = ["--encoder", out / "mae/encoder", "--data", data]
    run("finetune", "thorax", "--recipe", "tiny", *start, "--out", out / "ft", *tiny, "--calibrate", "temperature")
    run(
        "predict",
        "thorax",
        raw / "pool",
        "--model",
        out / "ft/model",
        "--out",
        out / "new.csv",
        "--explain",
        out / "maps",
    )
    run(
        "predict",
        "thorax",
        data,
        "--model",
        out / "ft/model",
        "--out",
        out / "p" / "p.csv",
        "--explain",
        out / "p/explanations",
    )
    run("evaluate", out / "p/p.csv", out / "ft", "--data", data, "--out", out / "report", "--resamples", 50)
    run("export", out / "ft/model", "--to", "card", "--out", out / "card")
    write_archive(raw / "archive")
    run("prepare", "images", raw / "archive", "--out", out / "archive/manifest.csv")
    alarm = out / "alarm.safetensors"
    audit = ["audit", out / "ft/model", out / "archive", "--out", out / "audit", "--text-images", 100]
    run(*audit, "--alarm", alarm, "--alarm-rate", 0.5)
    new = ["predict", "thorax", raw / "archive", "--model", out / "ft/model", "--alarm", alarm, "--workers", 1]
    run(*new, "--out", out / "claims" / "new.csv", "--audit", out / "log.jsonl")
    run("curate", out / "archive", "--out", out / "curated", "--balance", "findings,view", "--per-entry", 100)
    run("contract", out / "ft/model", "--predictions", out / "p/p.csv", "--split", "test", "--alpha", 0.5)

    words = needles()
    looked, found = search(out, words)
    in_output, heard = search(said, words)
    strangers = {name: sorted(hits) for name, hits in found.items() if Path(name).name not in NAMED_PLACES}
    show(
        request,
        f"\n{looked:,} bytes searched in {len(files(out))} files and {in_output:,} of printed lines, {len(planted())} "
        f"strings planted ({len(words)} spellings), found outside of the named places: {len(strangers)}",
    )
    assert found.keys() >= {"labelled/manifest.csv", "new.key.json", "claims/new.key.json"}  # the search works
    claims = pd.read_csv(out / "claims/new.csv", dtype=str, keep_default_na=False)
    assert claims["patient_alarm"].isin(["0", "1"]).all(), "each patient was found by the header's number"
    if optional("rapidocr") is not None:  # of which nothing but the kind and the box may be written
        assert "patient name" in (out / "audit/burned_text.csv").read_text()
    assert not strangers
    assert (out / "new.key.json").stat().st_mode & 0o077 == 0
    table = pd.read_csv(out / "p/p.csv", dtype=str, keep_default_na=False).set_index("id")
    assert table.loc["case004", "status"] == "failed" and "case004" in table.loc["case004", "reason"]
    told = set().union(*heard.values())
    assert told <= set(in_paths()), "messages name files, and nothing of what is in them"
