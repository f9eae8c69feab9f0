"""The audit's look at burned-in text: what it says, what it keeps, and what it says where it cannot look."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.seen import case_hash
from clinvit.stages.burned_text import burned_text
from clinvit.tests.reliability.test_privacy import IN_HEADERS, write_dicom
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread

TEXTS = ["QUIXADOTTER YVAINE0", "L   AP PORTABLE", "ROOM 12", "* 13.07.1931", ""]


@pytest.fixture
def archive(tmp_path):
    """DICOM files of five patients, with other text in the pixels of each."""
    rows = []
    for number, text in enumerate(TEXTS):
        path = tmp_path / f"{number}.dcm"
        write_dicom(path, number, number)
        pixels = Image.fromarray(np.full((128, 320), 40, np.uint8))
        ImageDraw.Draw(pixels).text((10, 40), text, fill=255, font=ImageFont.load_default(24))
        dataset = dcmread(path)
        dataset.Rows, dataset.Columns = 128, 320
        dataset.PixelData = np.asarray(pixels).tobytes()
        dataset.WindowCenter, dataset.WindowWidth = 128, 256
        dataset.save_as(path)
        rows.append([f"case{number}", path.name, f"p{number}", "train"])
    pd.DataFrame(rows, columns=["id", "path", "patient", "split"]).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


def looked_at(archive, most=10, **settings):
    table = pd.read_csv(archive / "manifest.csv")
    return burned_text(table, [archive / path for path in table["path"]], range(2, 7), most, 0, **settings)


def test_names_in_pixels_are_counted_and_never_written(archive):
    pytest.importorskip("rapidocr", reason="clinvit[ocr] is not installed")
    assert IN_HEADERS["PatientBirthDate"].format(3) == "19310713"
    found = looked_at(archive)
    assert (found.looked, found.of, found.failed, found.with_text) == (5, 5, 0, 3)
    assert found.person == {"birth date": 1, "patient name": 1}
    assert found.kinds == {"letters and digits": 1, "marker": 1}
    name = found.boxes[found.boxes["found"] == "patient name"].iloc[0]
    assert (name["manifest_row"], name["case"]) == (2, case_hash("case0")) and 0 < name["left"] < name["right"] <= 320
    said = found.boxes.to_csv() + "\n".join(found.named())
    assert len(found.named()) == 2
    for word in ("quixadotter", "yvaine", "1931", "13.07", "mrn", "room 12", "case0"):
        assert word not in said.lower()


def test_a_file_that_fails_is_counted(archive, monkeypatch):
    class Finder:
        def lines(self, pixels):
            return []

    monkeypatch.setattr("clinvit.stages.burned_text.optional", lambda name: True)
    monkeypatch.setattr("clinvit.datasets.quality.text_finder.TextFinder", Finder)
    (archive / "4.dcm").write_bytes(b"no image")
    found = looked_at(archive)
    assert (found.looked, found.failed) == (4, 1)


def test_without_the_extra_it_says_how_to_install_it(archive, monkeypatch):
    monkeypatch.setattr("clinvit.stages.burned_text.optional", lambda name: None)
    found = looked_at(archive)
    assert not found.looked and "clinvit[ocr]" in found.why and not len(found.boxes)
    assert "images alone" in looked_at(archive, still=False).why
    assert "--text-images" in looked_at(archive, most=0).why


@pytest.mark.slow
def test_the_audit_counts_it_on_its_page_and_names_hashed_cases_alone(archive, capsys):
    pytest.importorskip("rapidocr", reason="clinvit[ocr] is not installed")
    import torch
    from clinvit.backbone.encoder import EncoderCard, save_encoder
    from clinvit.backbone.sizes import Architecture
    from clinvit.backbone.vit import ViT

    arch = Architecture(32, 2, 2, image_size=(32, 32), patch_size=8)
    torch.manual_seed(0)
    save_encoder(archive / "encoder", ViT(arch), EncoderCard(arch, (0.45,), (0.2,)))
    assert main(["audit", str(archive / "encoder"), str(archive), "--out", str(archive / "audit")]) == 0
    out = capsys.readouterr().out
    assert f"patient name found in the pixels of case {case_hash('case0')} (row 2 of the manifest), box" in out
    said = json.loads((archive / "audit/audit.json").read_text())["burned_text"]
    assert said["person"] == {"birth date": 1, "patient name": 1} and said["images_read"] == 5
    pages = [out, *((archive / "audit" / name).read_text() for name in ("audit.html", "audit.json", "burned_text.csv"))]
    assert not any(word in page.lower() for page in pages for word in ("quixadotter", "13.07"))
    assert "the patient name" in (archive / "audit/audit.html").read_text()
