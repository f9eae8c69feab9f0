"""What an encoder's features of tiles are worth beside random weights and mean colour, on slides that are not easy.

Every invented slide has benign nests as dense and as dark as the tumour's, so that only the nuclei tell the two apart.
A logistic regression learns from the outlines of 1, 2, 4 and 8 slides with tumour and as many without, and scores the
tiles of others; paired, slide by slide. Repeating the command goes on where it was interrupted.

    python benchmarks/tile_probe.py clinvit-demo/slides/dino/encoder --out runs/tile-probe
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from clinvit.backbone.encoder import read_encoder_card, save_encoder
from clinvit.backbone.vit import ViT
from clinvit.core.files import write_text
from clinvit.datasets.manifest.tables import Manifest
from clinvit.datasets.slides.hdf5 import read_tiles, write_features
from clinvit.datasets.slides.shared_work import slide_file
from clinvit.mil.extract import extract
from clinvit.phantoms.slides import write_camelyon16
from clinvit.stages.prepare import prepare_stage
from clinvit.stages.slides.tile import tile_slides
from clinvit.stages.slides.tile_probe import tile_probe
from clinvit.tasks.slides.layouts import LAYOUTS
from clinvit.tasks.slides.recipes import extract_demo, tile_demo


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path, help="encoder folder of 64 px tiles, as `clinvit demo slides` leaves one")
    parser.add_argument("--out", type=Path, default=Path("runs/tile-probe"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slides", type=int, nargs=3, default=[10, 11, 14], metavar=("NORMAL", "TUMOUR", "TEST"))
    options = parser.parse_args()
    manifest, tiles = _slides(options.out, options.slides, options.seed)
    made = {
        "encoder": options.encoder,
        "random weights": _random(options.encoder, options.out / "random", options.seed),
    }
    features = {name: options.out / f"features-{name.replace(' ', '-')}" for name in made}
    for name, encoder in made.items():
        extract(extract_demo(), manifest, tiles, features[name], str(encoder))
    features["mean colour"] = _colours(manifest, tiles, options.out / "features-colour")
    print("\n| outlined slides | encoder | other | tile AUROC | of the other | difference (95 % interval) |")
    print("|---|---|---|---|---|---|")
    for other in ("random weights", "mean colour"):
        for step in tile_probe((features["encoder"], features[other]), manifest, "tumor", seed=options.seed):
            gain = f"{step.gain.value:+.3f} ({step.gain.low:+.3f} to {step.gain.high:+.3f})"
            print(f"| {step.cases} | encoder | {other} | {step.first.value:.3f} | {step.second.value:.3f} | {gain} |")


def _slides(out: Path, slides: list[int], seed: int) -> tuple[Manifest, Path]:
    """Invent the slides, and lay the grid of tiles."""
    root, (normal, tumour, test) = out / "camelyon16", slides
    if not (root / "whole").is_file():
        write_camelyon16(
            root, normal=normal, tumour=tumour, test=test, seed=seed + 1000, size_px=(2000, 2400), mimics=True,
            test_tumour=1.0,
        )  # fmt: skip
        write_text(root / "whole", "")
    manifest, *_ = prepare_stage(LAYOUTS, root, out / "manifest.csv")
    tile_slides(tile_demo(), manifest, out / "tiles")
    return manifest, out / "tiles"


def _random(encoder: Path, folder: Path, seed: int) -> Path:
    """Write an encoder like another one whose weights are random, and return its folder."""
    card = read_encoder_card(encoder)
    torch.manual_seed(seed)
    return save_encoder(folder, ViT(card.arch), replace(card, method="none", recipe={}, data={}))


def _colours(manifest: Manifest, tiles: Path, folder: Path) -> Path:
    """Write mean and std of the three colours of each tile as features, and return the folder."""
    from openslide import OpenSlide

    for row in manifest.table.to_dict("records"):
        path, out = slide_file(tiles, row["id"]), slide_file(folder, row["id"])
        if not path.is_file() or out.is_file():
            continue
        grid, found = read_tiles(path), []
        with OpenSlide(manifest.path.parent / row["path"]) as slide:
            for x, y in grid.coords.tolist():
                side = grid.tile_level0_px
                pixels = np.asarray(slide.read_region((x, y), 0, (side, side)).convert("RGB"), np.float32)
                found.append([*pixels.mean(axis=(0, 1)), *pixels.std(axis=(0, 1))])
        write_features(out, np.array(found, np.float32), grid, {"encoder": "mean colour"})
    return folder


if __name__ == "__main__":
    main()
