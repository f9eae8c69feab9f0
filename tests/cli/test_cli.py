"""The command as a user meets it: exit codes, one clear line per mistake, failed cases as rows."""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.finetune.model import ModelCard, build_model, save_model
from clinvit.finetune.recipe import View
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder with random weights."""
    arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
    card = ModelCard(
        ("Square", "Bar"), {}, False, "full", "vit", "mean", arch, (0.5,), (0.25,), View("squash", None), 40
    )
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("model"), build_model(card), card)


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def png(width: int, height: int) -> bytes:
    """A valid PNG header that declares any size, with next to no data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def image(size: int = 40) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size, size)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def dicom_without_pixels() -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = (
        ExplicitVRLittleEndian,
        SecondaryCaptureImageStorage,
    )
    meta.MediaStorageSOPInstanceUID = generate_uid()
    header = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    header.PatientName, header.PatientID, header.Modality = "Doe^Jane", "SECRET-17", "DX"
    file = io.BytesIO()
    pydicom.dcmwrite(file, header, enforce_file_format=True)
    return file.getvalue()


BROKEN = {
    "truncated.png": image()[:300],
    "text.png": b"this is not an image\n",
    "empty.png": b"",
    "nopixels.dcm": dicom_without_pixels(),
    "tiny.png": png(1, 1),
    "huge.png": png(30000, 30000),
}


def test_every_requested_file_is_a_row(capsys, model, tmp_path):
    for name, content in BROKEN.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "good.png").write_bytes(image())
    out = tmp_path / "out/predictions.csv"
    code, text, errors = run(
        capsys, "predict", "thorax", "--model", model, "--out", out, tmp_path, tmp_path / "none.png"
    )
    assert code == 0 and "8 requested = 1 ok + 7 failed" in text
    table = read_predictions(out).table.set_index("id")
    assert table.loc["good", "status"] == "ok" and 0 <= table.loc["good", "p_Bar"] <= 1
    key = json.loads((tmp_path / "out/predictions.key.json").read_text())
    hidden = {Path(path).name: case for case, path in key["files"].items()}
    for name in [*BROKEN, "none.png"]:
        case = hidden[name] if name.endswith(".dcm") else name.split(".")[0]
        row = table.loc[case]
        assert row["status"] == "failed" and np.isnan(row["p_Bar"])
        assert (case if name in hidden else name) in row["reason"] and "\n" not in row["reason"]
        assert name not in hidden or "nopixels" not in out.read_text()
    everything = out.read_text() + text + errors
    assert "Doe" not in everything and "SECRET" not in everything


@pytest.mark.parametrize("name", [*BROKEN, "none.png"])
def test_check_finds_broken_files(capsys, cohort, name):
    manifest = cohort(patients=10)
    table = pd.read_csv(manifest, dtype=str)
    if name in BROKEN:
        (manifest.parent / "images" / name).write_bytes(BROKEN[name])
    table.loc[3, "path"] = f"images/{name}"
    table.to_csv(manifest, index=False)
    code, text, errors = run(capsys, "check", "thorax", manifest)
    assert code == 2 and name in text and "1 problem(s) found" in errors


@pytest.mark.parametrize("value", ["-1e-3", "-0.5", "-.5", "-3", "-inf", "-1E2"])
@pytest.mark.parametrize("sign", [" ", "="])
def test_a_negative_number_is_a_value_and_no_option(capsys, cohort, tmp_path, value, sign):
    option = f"--optim.min_lr{sign}{value}".split()
    code, _, errors = run(
        capsys, "pretrain", "thorax", "--data", cohort(patients=4), "--out", tmp_path / "run", *option
    )
    assert code == 2 and "optim.min_lr" in errors and "out of range" in errors
    # Before the task, too.
    code, _, errors = run(capsys, "pretrain", *option, "thorax", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 2 and "out of range" in errors


def table_with(manifest, column: str, row: int, value: str):
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    table.loc[row, column] = value
    table.to_csv(manifest, index=False)


@pytest.mark.parametrize(
    "column, value, words",
    [
        ("Square", "3", "row 4: Square is 3; a label is 1 (present), 0 (absent) or empty"),
        ("split", "val", "patient 'p1' is in train and val"),
        ("split", "tain", "row 4: split 'tain'; a split is one of train, val, test"),
        ("id", "000_0", "row 4: id '000_0' stands twice"),
        ("patient", "", "row 4: the cell 'patient' is empty"),
    ],
)
def test_a_wrong_manifest_is_one_line(capsys, cohort, column, value, words, tmp_path):
    manifest = cohort(patients=10)
    table_with(manifest, column, 2, value)
    for verb in (
        ["check", "thorax", manifest],
        ["finetune", "thorax", "--data", manifest, "--out", tmp_path / "run"],
    ):
        code, _, errors = run(capsys, *verb)
        assert code == 2 and words in errors and errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_number_that_is_no_label_is_left_out_by_naming_the_labels(capsys, cohort):
    manifest = cohort(patients=10)
    pd.read_csv(manifest, dtype=str).assign(Severity="3").to_csv(manifest, index=False)
    code, _, errors = run(capsys, "check", "thorax", manifest)
    assert code == 2 and "Severity is 3" in errors and "--labels" in errors
    assert run(capsys, "check", "thorax", manifest, "--labels", "Square,Bar")[0] == 0


def test_empty_split_and_one_valued_class(capsys, cohort, tmp_path):
    manifest = cohort(patients=10)
    table = pd.read_csv(manifest, dtype=str)
    table[table["split"] != "train"].to_csv(manifest, index=False)
    for verb in ("pretrain", "finetune"):
        code, _, errors = run(capsys, verb, "thorax", "--data", manifest, "--out", tmp_path / "run")
        assert code == 2 and "splits train" in errors
    table.assign(Square="1").to_csv(manifest, index=False)
    code, _, errors = run(capsys, "finetune", "thorax", "--data", manifest, "--out", tmp_path / "run")
    assert code == 2 and "label 'Square' is 1 in all" in errors and "--data.labels" in errors


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--optim.epoch", "3"], "did you mean 'optim.epochs'?"),
        (["--recipe", "tinny"], "unknown recipe 'tinny'; known: demo, tiny"),
        (["--model.image_size", "100"], "multiple of the patch size"),
        (["--model.size", "enormous"], "unknown model size"),
        (["--run.devices", "many"], "run.devices is `auto` or a number"),
        (["--augment.flip", "2"], "augment.flip 2 is out of range: a number from 0 to 1"),
    ],
)
def test_a_wrong_recipe_is_one_line(capsys, cohort, tmp_path, arguments, words):
    size = [] if "--model.image_size" not in arguments else ["--augment.size", "100"]
    size += ["--optim.batch_size", "16"]
    out = tmp_path / "run"
    code, _, errors = run(capsys, "pretrain", "thorax", "--data", cohort(), "--out", out, *arguments, *size)
    assert code == 2 and words in errors and errors.count("\n") == 1


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_checkpoint_does_not_run(capsys, cohort, tmp_path):
    bad, marker = tmp_path / "bad.pth", tmp_path / "owned"
    torch.save({"model": Malicious(marker)}, bad)
    for verb in (
        ["weights", "inspect", bad],
        ["finetune", "thorax", "--data", cohort(), "--out", tmp_path / "r", "--encoder", bad],
    ):
        code, _, errors = run(capsys, *verb)
        assert code == 2 and "asks to run" in errors
    assert not marker.exists()


def test_a_checkpoint_of_another_width(capsys, cohort, tmp_path):
    from clinvit.backbone.vit import ViT

    state = ViT(Architecture(64, 2, 2, image_size=(32, 32), patch_size=8)).state_dict()
    torch.save({"model": state}, tmp_path / "odd.pth")
    code, _, errors = run(
        capsys,
        "finetune",
        "thorax",
        "--data",
        cohort(),
        "--out",
        tmp_path / "r",
        "--encoder",
        tmp_path / "odd.pth",
    )
    assert code == 2 and "width 64 is no published size" in errors


def test_weights_inspect_and_convert(capsys, tmp_path):
    from clinvit.backbone.vit import ViT

    vit = ViT(Architecture(192, 2, 3, image_size=(32, 32), patch_size=8, channels=3))
    torch.save(
        {"model": vit.state_dict() | {"mask_token": torch.zeros(1), "decoder_pred.weight": torch.zeros(1)}},
        tmp_path / "x.pth",
    )
    code, text, _ = run(capsys, "weights", "inspect", tmp_path / "x.pth")
    assert code == 0 and "width 192, depth 2" in text and "left over (2)" in text
    code, text, _ = run(capsys, "weights", "convert", tmp_path / "x.pth", "--out", tmp_path / "encoder")
    assert code == 0 and (tmp_path / "encoder/encoder.json").is_file()
    assert run(capsys, "weights", "convert", tmp_path / "x.pth")[0] == 2


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "no verb: `clinvit demo` shows"),
        (["predikt"], "unknown verb 'predikt' (did you mean 'predict'?); `clinvit --help` lists all"),
        (["--verison"], "unrecognized arguments: --verison"),
        (["finetune"], "no task: name one of thorax"),
        (["predict", "thorax", "x.png"], "required: --model"),
        (["predict", "thorax", "x.png", "--model", "nowhere"], "not a model folder"),
        (["predict", "thorax", "x.png", "--modell", "m", "--model", "n"], "unknown argument '--modell'"),
        (["pretrain", "torax", "--data", "x", "--out", "y"], "task 'torax'"),
        (["pretrain", "thorax"], "--data is missing"),
        (["check", "thorax", "nowhere.csv"], "nowhere.csv: no such file"),
        (["evaluate", "nowhere.csv"], "nowhere.csv: no such file"),
        (["compare", "a/p.csv", "b/a/p.csv"], "name them, NAME=PATH"),
        (["prepare", "thorax", "nowhere", "--out", "m.csv"], "nowhere"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, errors = run(capsys, *arguments)
    assert code == 2 and words in errors and errors.startswith("clinvit: error: ") and errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "verb",
    ["", "demo", "check", "prepare", "pretrain", "finetune", "predict", "evaluate", "compare", "weights"],
)
def test_help_reads_well(capsys, verb):
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"] if verb else ["--help"])
    text = capsys.readouterr().out
    assert done.value.code == 0 and "usage: clinvit" in text and "==SUPPRESS==" not in text
    assert text.count("\n") < 75, "the whole of it is for --help-all"
    if verb in ("pretrain", "finetune"):
        assert "--optim.base_lr" in text and "vit_s" in text and "--optim.clip_tensor_norm" not in text
        with pytest.raises(SystemExit):
            main([verb, "thorax", "--help-all"])
        text = capsys.readouterr().out
        assert "--optim.clip_tensor_norm" in text and "--cache-gb" in text


def test_a_full_disk_is_one_line(capsys, cohort, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clinvit.datasets.loading.cache._append", full)
    code, _, errors = run(
        capsys, "pretrain", "thorax", "--data", cohort(), "--out", tmp_path / "run", "--optim.batch_size", 8
    )
    assert code == 1 and "No space left" in errors and "--cache" in errors
