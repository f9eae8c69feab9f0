"""The suite's own commands on a device: pre-training sharded by FSDP, fine-tuning, features of slides' tiles.

    uv run python benchmarks/on_device.py [--tiny]

On a GPU if there is one, else on the CPU, where FSDP is left out (two processes of it are a thorough test). Invented
data; each line says what was done and how long it took, start of the command included.
"""

import argparse
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import save_encoder
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main as clinvit
from clinvit.phantoms.radiographs import write_chestxray14
from clinvit.phantoms.slides import write_camelyon16


def timed(name: str, *words: object) -> None:
    """Run a command, and print how long it took.

    Raises:
        SystemExit: It failed; what it said stands above.
    """
    said, start = StringIO(), time.perf_counter()
    with redirect_stdout(said):
        status = clinvit([str(word) for word in words])
    if status:
        raise SystemExit(f"{said.getvalue()}\n{name}: exit status {status}")
    print(f"{name:44}{time.perf_counter() - start:8.1f} s", flush=True)


def radiographs(folder: Path, tiny: bool) -> None:
    """Pre-train and fine-tune on invented radiographs."""
    data, cuda = folder / "manifest.csv", torch.cuda.is_available()
    write_chestxray14(folder / "cxr14", patients=60 if tiny else 200, size=64 if tiny else 256)
    timed("prepare radiographs", "prepare", "thorax", folder / "cxr14", "--out", data)
    recipe = "demo" if tiny else "vit_b"
    shared = ["--data", data, "--optim.epochs", 1 if tiny else 5, "--optim.batch_size", 8 if tiny else 64]
    shared += ["--optim.warmup_epochs", 0]
    sharded = ["--run.strategy", "fsdp", "--run.devices", 1, "--run.precision", "32-true"] if cuda else []
    for name, options in [("pretrain", [])] + [("pretrain by FSDP", sharded)] * cuda:
        timed(
            name, "pretrain", "thorax", "--recipe", recipe, *shared, *options, "--out", folder / name.replace(" ", "_")
        )
    encoder = ["--encoder", folder / "pretrain/encoder"]
    labels = ["--data.labels", "[Cardiomegaly, Effusion]"]  # rarer ones may be in no case of so few
    timed(
        "finetune", "finetune", "thorax", "--recipe", recipe, *encoder, *shared, *labels, "--out", folder / "finetune"
    )


def slides(folder: Path, tiny: bool) -> None:
    """Make features of the tiles of invented slides, by a ViT of random weights."""
    side, data, tiles = 1500 if tiny else 6000, folder / "slides.csv", folder / "tiles"
    write_camelyon16(folder / "camelyon16", normal=1, tumour=1, test=1 if tiny else 4, size_px=(side, side))
    arch = architecture("micro" if tiny else "small", channels=3)
    card = EncoderCard(arch, (0.5,) * 3, (0.25,) * 3, method="random")
    encoder = save_encoder(folder / "random", ViT(arch), card)
    timed("prepare slides", "prepare", "slides", folder / "camelyon16", "--out", data)
    timed("tile", "tile", "slides", "--data", data, "--out", tiles)
    asked = ["--data", data, "--tiles", tiles, "--encoder", encoder]
    timed("extract", "extract", "slides", *asked, "--out", folder / "features")


def main() -> None:
    """Run all and print a line of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        radiographs(Path(folder), options.tiny)
        slides(Path(folder), options.tiny)


if __name__ == "__main__":
    main()
