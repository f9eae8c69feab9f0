"""Features on the sphere beside plain `--mode norm`, on sites that training has not seen.

    python benchmarks/sphere.py [--patients 160] [--epochs 20] [--seeds 2] [--out runs/sphere]

Invented X-rays of three sites with other scanners and other frequencies of findings. Each site in turn is left out
(`--folds site`), every variant starts from one encoder that was pre-trained on all images without labels, and is
compared with the plain one on the same images, paired.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from clinvit.cli import main
from clinvit.core.files import write_text
from clinvit.eval import compare
from clinvit.phantoms.radiographs import write_chestxray14
from PIL import Image

FINDINGS = ("Cardiomegaly", "Effusion")
# Of each site: gamma of its scanner, and how frequent its findings are in the sick.
SITES = {"north": (0.7, (0.5, 0.3)), "south": (1.0, (0.3, 0.5)), "west": (1.4, (0.4, 0.4))}
SPHERE = ["--head_norm", "l2"]
TERMS = [*SPHERE, "--alignment", 0.1, "--uniformity", 0.5]
VARIANTS = {"length 1": SPHERE, "with alignment, uniformity": TERMS, "and slerp": [*TERMS, "--slerp", 1]}


def site(name: str, patients: int, seed: int) -> pd.DataFrame:
    """Write a site's X-rays; return its table."""
    gamma, chance = SITES[name]
    write_chestxray14(name, patients=patients, seed=seed, size=64, prevalence=dict(zip(FINDINGS, chance, strict=True)))
    for path in Path(name).rglob("*.png"):
        pixels = np.asarray(Image.open(path).convert("L")) / 255
        Image.fromarray((255 * pixels**gamma).round().astype(np.uint8)).save(path)
    run("prepare", "thorax", name, "--out", f"{name}/manifest.csv")
    table = pd.read_csv(f"{name}/manifest.csv", dtype=str)
    names = {column: f"{name}-" + table[column] for column in ("id", "patient")}
    return table.assign(**names, path=name + "/" + table["path"], site=name)


def run(*words: object) -> None:
    """Run a command as users do."""
    assert main([str(word) for word in words]) == 0, words


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/sphere"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.out)
    parts = [site(name, asked.patients, seed) for seed, name in enumerate(SITES, 1)]
    write_text("manifest.csv", pd.concat(parts).to_csv(index=False))
    small = [
        "--model.size", "micro", "--model.image_size", 64, "--model.patch_size", 16, "--model.class_token", "false",
        "--augment.size", 64, "--data.cache_px", 64, "--optim.epochs", asked.epochs, "--optim.warmup_epochs", 2,
        "--optim.batch_size", 32, "--data", "manifest.csv",
    ]  # fmt: skip
    run("pretrain", "thorax", "--recipe", "tiny", *small, "--out", "base")
    norm = ["--encoder", "base/encoder", "--mode", "norm", "--patch_drop", 0, "--optim.layer_decay", 1,
            "--data.labels", f"[{','.join(FINDINGS)}]", "--folds", "site"]  # fmt: skip
    for seed in range(asked.seeds):
        runs = {name: f"{seed}-{place}" for place, name in enumerate(("plain", *VARIANTS))}
        for name, out in runs.items():
            more = VARIANTS.get(name, [])
            run("finetune", "thorax", "--recipe", "tiny", *small, *norm, *more, "--run.seed", seed, "--out", out)
        for name in VARIANTS:
            table = compare(runs[name], runs["plain"]).table()[["auroc", "auroc_low", "auroc_high"]]
            print(f"\nseed {seed}, {name}, minus plain\n{table.to_string(float_format='{:+.3f}'.format)}", flush=True)
