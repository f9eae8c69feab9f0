"""Three hospitals, one model, no shared data: each trains at home from one encoder, only model folders travel.

    python examples/three_hospitals.py [--patients 240] [--epochs 30]

The hospitals are invented and differ in scanner and in how frequent findings are. What is merged is held against each
hospital's own model, on its own test patients, beside a model of all data pooled, which real hospitals cannot have.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from clinvit.cli import main
from clinvit.core.files import write_text
from clinvit.eval import compare
from clinvit.finetune import finetune
from clinvit.phantoms.radiographs import write_chestxray14
from clinvit.pretrain import pretrain
from clinvit.tasks.thorax import recipes
from PIL import Image

FINDINGS = ("Cardiomegaly", "Effusion")
# Of each hospital: gamma of its scanner, and how frequent its findings are in the sick.
HOSPITALS = {"north": (0.7, (0.5, 0.3)), "south": (1.0, (0.3, 0.5)), "west": (1.4, (0.4, 0.4))}


def hospital(name: str, patients: int, seed: int) -> pd.DataFrame:
    """Write a hospital's X-rays and its manifest; return the table."""
    gamma, chance = HOSPITALS[name]
    root = Path("hospitals") / name
    write_chestxray14(root, patients=patients, seed=seed, size=64, prevalence=dict(zip(FINDINGS, chance)))
    for path in root.rglob("*.png"):
        pixels = np.asarray(Image.open(path).convert("L")) / 255
        Image.fromarray((255 * pixels**gamma).round().astype(np.uint8)).save(path)
    run("prepare", "thorax", root, "--out", root / "manifest.csv")
    table = pd.read_csv(root / "manifest.csv", dtype={"patient": str})
    names = {column: name + "-" + table[column].astype(str) for column in ("id", "patient")}
    return table.assign(**names, path=name + "/" + table["path"], site=name)


def run(*words: object) -> None:
    """Run a command as a hospital would."""
    assert main([str(word) for word in words]) == 0, words


def small(recipe, epochs: int):
    """Return a recipe for small images and few epochs."""
    return replace(
        recipe,
        model=replace(recipe.model, size="micro", image_size=64, patch_size=16, class_token=False),
        optim=replace(recipe.optim, epochs=epochs, warmup_epochs=epochs / 10, batch_size=32),
        data=replace(recipe.data, cache_px=64),
        augment=replace(recipe.augment, size=64),
    )


def scores(model: str, manifest: Path, out: Path):
    """Predict a hospital's test patients with a model; return where the table is."""
    run("predict", "thorax", manifest, "--model", Path(model) / "model", "--out", out)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=30)
    asked = parser.parse_args()
    tables = {name: hospital(name, asked.patients, seed) for seed, name in enumerate(HOSPITALS, 1)}
    for name, table in {**tables, "pooled": pd.concat(tables.values())}.items():
        write_text(f"hospitals/{name}.csv", table.to_csv(index=False))
    # A common start: one hospital's images without labels, here the first's.
    base = pretrain(small(recipes.pretrain_tiny(), asked.epochs), data="hospitals/north.csv", out="base")
    tuned = small(recipes.finetune_tiny(), asked.epochs)
    tuned = replace(tuned, data=replace(tuned.data, labels=FINDINGS))
    for name in (*tables, "pooled"):
        finetune(tuned, data=f"hospitals/{name}.csv", out=name, encoder=base)
    for method in ("orthogonal", "average"):
        run(
            "merge",
            "base=base/encoder",
            *(f"{name}={name}/model" for name in tables),
            "--method",
            method,
            "--out",
            method,
        )
    lines = []
    for name in tables:
        cases = Path(f"hospitals/{name}.csv")
        own = scores(name, cases, Path(f"hospitals/{name}-own.csv"))
        for model in ("orthogonal", "average", "pooled"):
            other = scores(model, cases, Path(f"hospitals/{name}-{model}.csv"))
            table = compare(other, own).table()[["auroc", "auroc_low", "auroc_high"]]
            lines.append(
                table.assign(hospital=name, difference=f"{model} minus own").set_index("hospital", append=True)
            )
    table = pd.concat(lines)
    print(table.to_string(float_format="{:+.3f}".format))
    write_text("three_hospitals.csv", table.to_csv())
