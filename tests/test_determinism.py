"""One command, one seed, one result on a CPU: the same bytes again, with and without loading processes."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main

OPTIM = ["--optim.epochs", 2, "--optim.warmup_epochs", 0, "--optim.batch_size", 16, "--run.precision", "32-true"]
VIT = ["--model.size", "micro", "--model.image_size", 32, "--model.patch_size", 8, "--augment.size", 32]


def clinvit(*arguments) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def files(out: Path, *names: str) -> dict[str, bytes]:
    """Files by name, and the report without the places and the number of workers that it names."""
    report = json.loads((out / "report/report.json").read_text(encoding="utf-8"))
    for model in report["models"]:
        model["provenance"]["recipe"]["run"].pop("workers")
    text = json.dumps(report, sort_keys=True).replace(str(out), "")
    return {name: (out / name).read_bytes() for name in names} | {"report": text.encode()}


def images(data: Path, out: Path, workers: int) -> dict[str, bytes]:
    """Pre-train, fine-tune, predict, evaluate."""
    run = ["--data", data, "--cache", out / "cache", "--run.workers", workers, "--data.cache_px", 40, *OPTIM, *VIT]
    clinvit("pretrain", "thorax", "--out", out / "mae", *run)
    clinvit("finetune", "thorax", "--out", out / "ft", "--encoder", out / "mae/encoder", *run)
    clinvit("predict", "thorax", data, "--model", out / "ft/model", "--out", out / "p.csv", "--workers", workers)
    clinvit("evaluate", out / "ft", "--out", out / "report", "--resamples", 50)
    return files(
        out, "mae/encoder/encoder.safetensors", "mae/encoder/trained_on.txt", "ft/model/model.safetensors",
        "ft/predictions.csv", "p.csv", "report/metrics.csv",
    )  # fmt: skip


def slides(data: Path, tiles: Path, encoder: Path, out: Path) -> dict[str, bytes]:
    """Extract features, train an aggregator on them, predict, evaluate."""
    features = ["--features", out / "features"]
    clinvit("extract", "slides", "--recipe", "demo", "--data", data, "--tiles", tiles, "--encoder", encoder, "--out",
            out / "features")  # fmt: skip
    clinvit(
        "finetune", "slides", "--recipe", "demo", "--data", data, *features, "--out", out / "mil", "--optim.epochs", 2
    )
    clinvit("predict", "slides", data, "--model", out / "mil/model", *features, "--out", out / "p.csv")
    clinvit("evaluate", out / "mil", "--out", out / "report", "--resamples", 50)
    found = files(out, "mil/model/model.safetensors", "mil/predictions.csv", "p.csv", "report/metrics.csv")
    for path in sorted((out / "features").glob("*.h5")):
        with h5py.File(path) as file:  # HDF5 writes the time into a file
            found[path.name] = file["features"][:].tobytes()
    return found


def differing(first: dict[str, bytes], second: dict[str, bytes]) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name in first if first[name] != second[name]]


@pytest.mark.slow
def test_images(cohort, tmp_path):
    data = cohort(patients=30)
    assert differing(images(data, tmp_path / "a", 0), images(data, tmp_path / "b", 1)) == []


@pytest.mark.slow
def test_slides(tmp_path, tiff_slides):
    data, tiles, encoder = tiff_slides
    first = slides(data, tiles, encoder, tmp_path / "a")
    assert len(first) == 5 + 10
    assert differing(first, slides(data, tiles, encoder, tmp_path / "b")) == []


@pytest.fixture
def tiff_slides(tmp_path):
    """A manifest of ten small slides, their tiles, and a random encoder."""
    from clinvit.phantoms.slides import write_pyramid

    rng, rows = np.random.default_rng(0), []
    for number in range(10):
        pixels = np.kron(rng.integers(90, 200, (16, 16, 3)), np.ones((32, 32, 1))).astype(np.uint8)
        pixels[..., 1] //= 2
        write_pyramid(tmp_path / f"{number}.tif", [pixels], mpp=0.5)
        split = ("train", "train", "train", "val", "test")[number // 2]
        rows.append((f"s{number}", f"{number}.tif", f"p{number}", split, number % 2))
    data = tmp_path / "manifest.csv"
    pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumor"]).to_csv(data, index=False)
    clinvit("tile", "slides", "--recipe", "demo", "--data", data, "--out", tmp_path / "tiles")
    torch.manual_seed(0)
    arch = Architecture(16, 4, 2, image_size=(64, 64), patch_size=16, channels=3)
    card = EncoderCard(arch, (0.6, 0.5, 0.6), (0.2, 0.2, 0.2))
    return data, tmp_path / "tiles", save_encoder(tmp_path / "encoder", ViT(arch), card)
