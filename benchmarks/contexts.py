"""A head that infers the view beside a plain one, where in training bedside images are of the sick.

    python benchmarks/contexts.py [--patients 400] [--out runs/contexts]

Invented X-rays: in training 9 of 10 images with a finding are AP, 1 of 10 without; in the test set half of both. Both
heads stand on one frozen encoder, pre-trained on the training images without labels.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
from clinvit.cli import main
from clinvit.core.files import write_text
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.eval import compare
from clinvit.eval.evaluation import STANDARD
from clinvit.eval.inputs import open_predictions
from clinvit.eval.statistics.groups import manifest_columns
from clinvit.eval.statistics.paired_groups import paired_groups
from clinvit.finetune import finetune
from clinvit.phantoms.radiographs import write_chestxray14
from clinvit.pretrain import pretrain
from clinvit.tasks.thorax import recipes

FINDINGS = ("Cardiomegaly", "Effusion")
CHANCE = dict.fromkeys(FINDINGS, 0.45)
PARTS = {"learn": (0.9, 0.1), "new": (0.5, 0.5)}


def images(name: str, patients: int, seed: int) -> pd.DataFrame:
    """Write one part of the images; return its table."""
    write_chestxray14(name, patients=patients, seed=seed, size=64, prevalence=CHANCE, bedside=PARTS[name])
    assert main(["prepare", "thorax", name, "--out", f"{name}/manifest.csv"]) == 0
    table = pd.read_csv(f"{name}/manifest.csv", dtype=str)
    ids = {column: f"{name}-" + table[column] for column in ("id", "patient")}
    split = table["split"].where(table["split"] == "val", "train") if name == "learn" else "test"
    return table.assign(**ids, path=name + "/" + table["path"], split=split)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs/contexts"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.out)
    parts = [images(name, asked.patients, seed) for seed, name in enumerate(PARTS, 1)]
    write_text("manifest.csv", pd.concat(parts).to_csv(index=False))
    pre, fine = recipes.pretrain_demo(), recipes.finetune_demo()
    base = pretrain(
        replace(
            pre, model=replace(pre.model, image_size=64, patch_size=16), augment=replace(pre.augment, size=64),
            data=replace(pre.data, cache_px=64), optim=replace(pre.optim, epochs=30, warmup_epochs=3),
        ),
        data="manifest.csv", out="base",
    )  # fmt: skip
    plain = replace(
        fine, mode="linear", patch_drop=0.0, model=replace(fine.model, image_size=64, patch_size=16, drop_path=0.0),
        augment=replace(fine.augment, size=64), data=replace(fine.data, cache_px=64, labels=FINDINGS),
        optim=replace(fine.optim, epochs=40, warmup_epochs=4, layer_decay=1.0, weight_decay=0.0, batch_size=64),
    )  # fmt: skip
    heads = {
        "plain": plain,
        "posterior": replace(plain, contexts=("view",)),
        "balanced": replace(plain, contexts=("view",), context_mix="balanced"),
    }
    for name, recipe in heads.items():
        finetune(recipe, data="manifest.csv", out=name, encoder=base)
    columns = manifest_columns(read_manifest("manifest.csv"))
    tables = {name: open_predictions(name, name) for name in heads}
    for name in ("posterior", "balanced"):
        rows, worst = paired_groups(tables[name], tables["plain"], columns, ["view"], STANDARD)
        print(f"\n{name} minus plain, all test images")
        print(
            compare(name, "plain")
            .table()[["auroc", "auroc_low", "auroc_high"]]
            .to_string(float_format="{:+.3f}".format)
        )
        for row in rows:
            gap = row.test.difference
            print(
                f"{row.label}, {row.group}: {row.second:.3f} to {row.first:.3f}, difference {gap.value:+.3f} "
                f"({gap.low:+.3f} to {gap.high:+.3f}), p {row.adjusted:.2g} by Holm"
            )
        for each in worst:
            print(
                f"{each.label}, worst view: {each.second:.3f} ({each.second_group}) to {each.first:.3f} "
                f"({each.first_group})"
            )
