"""The thorax demo: many invented chest X-rays and few labels, with and without pre-training, down to a report."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...core.files import write_text
from ...datasets.images.radiographs import read_grey
from ...datasets.manifest.tables import Manifest, read_manifest, write_manifest
from ...datasets.quality.check import check_manifest
from ...phantoms.radiographs import write_chestxray14
from ...stages import evaluate as reporting
from ...stages.finetune import finetune_stage
from ...stages.prepare import prepare_stage
from ...stages.pretrain import pretrain_stage
from .labels import CHESTXRAY14
from .layouts import LAYOUTS
from .recipes import finetune_demo, finetune_demo_scratch, pretrain_demo

PATIENTS = 1200
LABELLED = (50, 100, 200)  # training images whose labels are used
SIZE_PX = 96
# Chance in a sick patient. What changes the anatomy or the lung's texture; what is only a bright spot is left out.
FINDINGS = {
    "Cardiomegaly": 0.4, "Effusion": 0.4, "Emphysema": 0.35, "Pneumothorax": 0.4, "Atelectasis": 0.4, "Fibrosis": 0.4,
}  # fmt: skip
MODELS = ("pretrained", "scratch")


def demo(out: Path, seed: int = 0, patients: int = PATIENTS, labelled: tuple[int, ...] = LABELLED) -> dict:
    """Run the demo: invented X-rays, pre-training on all of them, fine-tuning on few labels, with it and from scratch.

    Args:
        out: Folder to write. Repeating the command continues there.
        seed: Seed of the phantoms, of who is labelled, and of the training.
        patients: Invented patients, about two images each.
        labelled: Training images whose labels are used, rising; the report is on the last.

    Returns:
        The metrics of the report.
    """
    started, of = time.monotonic(), len(labelled) + 4
    root, data = out / "ChestX-ray14", out / "manifest.csv"

    _step(1, of, f"inventing chest X-rays of {patients:,} patients, laid out like ChestX-ray14")
    # The file `whole` is written last: a demo that was killed before it starts the tree again.
    if not (root / "whole").is_file():
        with tqdm(total=patients, unit="patient", disable=None) as bar:
            write_chestxray14(
                root, patients=patients, seed=seed, size=SIZE_PX, prevalence=FINDINGS, progress=lambda *_: bar.update()
            )
        write_text(root / "whole", "")

    _step(2, of, "reading them as a data set that was downloaded, writing manifest.csv, checking it")
    _, notes, warnings, _ = prepare_stage(LAYOUTS, root, data)
    manifest = read_manifest(data, tuple(FINDINGS))
    found = check_manifest(manifest, read_grey, files=50, cache_px=pretrain_demo().data.cache_px)
    for text in [*notes, *found.facts, *warnings, *found.warnings]:
        print(f"      {text}")

    _step(3, of, f"masked pre-training on {len(manifest.rows('train')):,} images, without labels")
    encoder = pretrain_stage(_seeded(pretrain_demo(), seed), data, out / "pretrain")

    tables = {}
    recipes = {"pretrained": (finetune_demo(), encoder), "scratch": (finetune_demo_scratch(), None)}
    for number, count in enumerate(labelled, 4):
        few, images = labelled_part(manifest, count, seed, out / f"labelled-{count}.csv")
        _step(number, of, f"{images} labelled images: fine-tuning from the encoder, and the same model from scratch")
        for name, (recipe, start) in recipes.items():
            folder = out / f"labelled-{count}" / name
            finetune_stage(_seeded(recipe, seed), few, folder, encoder=start)
            tables.setdefault(images, {})[name] = folder / "predictions.csv"

    _step(of, of, "evaluating all on the same test patients")
    title = "Invented chest X-rays, few labels: pre-trained or from scratch"
    most = tables[max(tables)]
    metrics = reporting.evaluate_stage(most, out / "report", data=data, title=title, efficiency=tables).to_dict()
    print(f"\n{' '.join(metrics['headline'])}")
    print(f"{'labelled images':>15}  {'pretrained':>10}  {'scratch':>10}  difference of macro AUROC")
    for row in metrics["efficiency"]["steps"]:
        one, other, gain = (row[key] for key in ("first", "second", "gain"))
        ends = "no interval" if gain["low"] is None else f"{gain['low']:+.3f} to {gain['high']:+.3f}"
        print(f"{row['cases']:>15}  {one['value']:>10.3f}  {other['value']:>10.3f}  {gain['value']:+.3f} ({ends})")
    print(metrics["efficiency"]["verdict"])
    print(f"Took {(time.monotonic() - started) / 60:.1f} minutes. Look at:")
    print(f"  {(out / 'report' / 'report.html').resolve()}")
    print(f"  {(out / 'pretrain' / 'reconstructions.png').resolve()}")
    return metrics


def labelled_part(manifest: Manifest, images: int, seed: int, path: Path) -> tuple[Path, int]:
    """Write a manifest whose training images are those of the first patients in an order that the seed decides.

    More images hold all the patients of fewer. Validation and test stay whole.

    Args:
        manifest: All cases.
        images: Least number of training images that keep their labels (or all there are).
        seed: Of the order.
        path: The manifest to write, in the folder of the other.

    Returns:
        `path`, and how many training images it holds.
    """
    table = manifest.table
    train = table[table["split"] == "train"]
    counts = train["patient"].value_counts().sort_index()
    order = counts.iloc[np.random.default_rng((seed, 1)).permutation(len(counts))]
    chosen = order.index[: int(np.searchsorted(order.cumsum(), images)) + 1]
    kept = table[(table["split"] != "train") | table["patient"].isin(chosen)]
    kept = kept.drop(columns=[label for label in CHESTXRAY14 if label not in manifest.labels], errors="ignore")
    write_manifest(path, kept, manifest.labels, manifest.meaning)
    return path, int(train["patient"].isin(chosen).sum())


def _seeded(recipe, seed: int):
    return replace(recipe, run=replace(recipe.run, seed=seed))


def _step(number: int, of: int, text: str) -> None:
    print(f"[{number}/{of}] {text}", flush=True)
