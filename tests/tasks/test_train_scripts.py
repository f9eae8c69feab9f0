"""The scripts to copy, `tasks/*/train.py`, run as they are on small data, from files to a report."""

import json
import runpy
import subprocess
import sys

import pandas as pd
import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.phantoms.ocular import write_erdes
from clinvit.phantoms.slides import write_camelyon16
from clinvit.stages.prepare import prepare_stage
from clinvit.tasks import load, names


@pytest.fixture
def script(monkeypatch, capsys):
    """`script(task, ...)` runs a script as `python -m` does, in the process of the tests, where torch has been
    imported; gives what it printed.
    """

    def run(task: str, *arguments) -> str:
        name = f"clinvit.tasks.{task}.train"
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, end.code
        return capsys.readouterr().out

    return run


def report_of(out) -> dict:
    return json.loads((out / "report/report.json").read_text())


@pytest.mark.slow
def test_thorax(cohort, tmp_path):
    """In a process of its own, as users start it."""
    data, out = cohort(patients=60), tmp_path / "out"
    small = "--size micro --image_size 32 --pretrain_epochs 2 --epochs 20 --batch_size 32".split()
    command = [sys.executable, "-m", "clinvit.tasks.thorax.train", str(data), "--out", str(out), *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "AUROC" in done.stdout
    assert report_of(out)["models"][0]["macro"]["auroc"]["value"] > 0.6
    assert (out / "pretrain/encoder/encoder.json").is_file() and (out / "model/model/model.json").is_file()


@pytest.mark.slow
def test_erdes(script, tmp_path):
    root = write_erdes(tmp_path / "raw", clips=72, size_px=64, seconds=(0.3, 0.5))
    prepare_stage(load("erdes").layouts(), root, tmp_path / "manifest.csv")
    small = "--size micro --image_size 32 --frames 4 --pretrain_epochs 1 --epochs 1 --resamples 50".split()
    script("erdes", tmp_path / "manifest.csv", "--out", tmp_path / "out", *small)
    assert report_of(tmp_path / "out")["models"][0]["classes"]["metrics"]["accuracy"]["value"] > 0


@pytest.mark.slow
def test_erdes_by_eye(script, tmp_path):
    root = write_erdes(tmp_path / "raw", clips=72, size_px=64, seconds=(0.3, 0.5))
    prepare_stage(load("erdes").layouts(), root, tmp_path / "manifest.csv")
    table = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    pair = table.groupby(["split", "diagnosis"]).cumcount() // 2  # two clips an eye
    table["patient"] = table["split"] + table["diagnosis"] + pair.astype(str)
    table.assign(case="left").to_csv(tmp_path / "manifest.csv", index=False)
    small = "--size micro --image_size 32 --frames 4 --pretrain_epochs 1 --epochs 1 --resamples 50".split()
    script("erdes", tmp_path / "manifest.csv", "--out", tmp_path / "out", *small, "--unit", "case")
    (model,) = report_of(tmp_path / "out")["models"]
    assert model["classes"]["metrics"]["accuracy"]["value"] > 0
    eyes = read_predictions(tmp_path / "out/cascade.csv").table
    clips = read_predictions(tmp_path / "out/detachment/predictions.clips.csv").table
    assert eyes["clips"].astype(int).max() == 2 and len(eyes) < len(clips)


@pytest.mark.thorough
@pytest.mark.slow
def test_slides(script, tmp_path):
    root = write_camelyon16(tmp_path / "raw", normal=5, tumour=5, test=4, size_px=(1472, 1536))
    prepare_stage(load("slides").layouts(), root, tmp_path / "manifest.csv")
    arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8, channels=3)
    torch.manual_seed(0)
    encoder = save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,) * 3, (0.25,) * 3))
    small = f"--encoder {encoder} --tile_px 32 --epochs 2 --resamples 50 --max_bad 0.3".split()
    script("slides", tmp_path / "manifest.csv", "--out", tmp_path / "out", *small)
    assert "localisation" in report_of(tmp_path / "out")["models"][0]
    assert list((tmp_path / "out/mil/explanations").glob("*.html"))


@pytest.mark.parametrize("task", [name for name in names() if name in ("thorax", "slides", "erdes")])
def test_options_are_explained(script, task):
    text = script(task, "--help")
    assert "--epochs" in text and "--seed" in text and "Of everything random" in text
