"""Pre-training on an archive as it is, and on what `clinvit curate` keeps of it, at the same numbers of steps.

    python benchmarks/curated.py [--patients 150] [--steps 100 200 400] [--seeds 2] [--out runs/curated]

Invented X-rays of 64 px. The archive holds, besides its images, four copies (another brightness, compressed again,
under other patient numbers) of every image of each third patient, blank images and broken files, and few bedside
images. It is curated without and with `--balance findings,view`. A micro ViT is pre-trained for each number of steps,
with its whole schedule; its frozen features are probed (logistic regression) on other patients, half of whom it learns
from. Differences are paired, means over the seeds; 95 % intervals are of 2,000 resampled test patients and do not hold
what another archive would change.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from clinvit.cli import main
from clinvit.datasets.manifest.tables import Manifest
from clinvit.eval.statistics.metrics import auroc
from clinvit.phantoms.radiographs import write_chestxray14
from clinvit.stages.case_features import feature_maker, features_of
from clinvit.stages.data import open_manifest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FINDINGS = ("Cardiomegaly", "Effusion", "Mass", "Pneumothorax")
BATCH, RESAMPLES = 32, 2000
MODEL = [
    "--model.size", "micro", "--model.image_size", 64, "--model.patch_size", 8, "--model.class_token", "false",
    "--augment.size", 64, "--data.cache_px", 64, "--optim.batch_size", BATCH,
]  # fmt: skip


def run(*words: object) -> None:
    """Run a command as users do."""
    assert main([str(word) for word in words]) == 0, words


def write_archive(patients: int) -> None:
    """Write the archive and its manifest: images, copies, blank images and broken files."""
    write_chestxray14("archive", patients=patients, seed=1, size=64, bedside=(0.1, 0.05))
    run("prepare", "thorax", "archive", "--out", "archive/manifest.csv")
    table, rng = pd.read_csv("archive/manifest.csv", dtype=str).assign(split="train"), np.random.default_rng(0)
    rows = [table]
    often = set(sorted(table["patient"].unique())[::3])
    for _, row in table[table["patient"].isin(often)].iterrows():
        pixels = np.asarray(Image.open(Path("archive") / row["path"]).convert("L"), float)
        for number in range(4):
            name = f"copies/{row['id']}-{number}.jpg"
            write_image(name, pixels + rng.uniform(-3, 3), quality=92)
            other = {column: f"{row[column]}-{number}" for column in ("id", "patient")}
            rows.append(row.to_frame().T.assign(**other, path=name))
    for number in range(len(table) // 4):
        name = f"odd/{number}.png"
        write_image(name, np.full((64, 64), rng.uniform(0, 255)))
        if number % 4 == 0:
            (Path("archive") / name).write_bytes(b"cut off")
        odd = table.iloc[[0]].assign(
            id=f"odd-{number}", path=name, patient=f"odd-{number}", **dict.fromkeys(FINDINGS, "0")
        )
        rows.append(odd)
    pd.concat(rows).to_csv("archive/manifest.csv", index=False)


def write_image(name: str, pixels: np.ndarray, **options: int) -> None:
    """Write grey values below the archive."""
    path = Path("archive") / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(path, **options)


def scores(encoder: Path, labelled: Manifest, learned: np.ndarray) -> np.ndarray:
    """Return the (N, findings) scores of the images that are not learned from, by a probe of an encoder's features."""
    features, _ = features_of(feature_maker(encoder), labelled)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    truth = labelled.table[list(FINDINGS)].to_numpy(float)
    return np.stack(
        [probe.fit(features[learned], each[learned]).predict_proba(features[~learned])[:, 1] for each in truth.T],
        axis=1,
    )


def macro(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the (variants,) macro AUROC of (variants, seeds, N, findings) scores, means over the seeds."""
    shape = found.shape
    columns = np.moveaxis(found, 2, 0).reshape(shape[2], -1)
    each = auroc(np.tile(truth, (1, shape[0] * shape[1])), columns)
    return np.nanmean(each.reshape(shape[0], -1), axis=1)


def compared(labelled: Manifest, learned: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the macro AUROC of each variant, and (RESAMPLES, variants) of resampled test patients."""
    test = labelled.table[~learned].reset_index(drop=True)
    truth, groups = test[list(FINDINGS)].to_numpy(float), list(test.groupby("patient").indices.values())
    draw, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = np.concatenate([groups[each] for each in draw.integers(0, len(groups), len(groups))])
        drawn.append(macro(truth[rows], found[:, :, rows]))
    return macro(truth, found), np.array(drawn)


def interval(value: float, drawn: np.ndarray, sign: str = "") -> str:
    """Return a value and its interval in words."""
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def report(steps: list[int], names: list[str], values: np.ndarray, drawn: np.ndarray) -> None:
    """Print scores, paired differences at equal steps, and where the whole archive's last score is reached.

    Args:
        steps: S numbers of steps, rising.
        names: V archives, the whole one first.
        values: (S, V) macro AUROC.
        drawn: (S, V, RESAMPLES) of resampled patients.
    """
    print("| steps | archive | macro AUROC | minus the whole archive |\n|---|---|---|---|")
    for row, count in enumerate(steps):
        for place, name in enumerate(names):
            score = interval(values[row, place], drawn[row, place])
            gain = (
                interval(values[row, place] - values[row, 0], drawn[row, place] - drawn[row, 0], "+") if place else ""
            )
            print(f"| {count} | {name} | {score} | {gain} |")
    for place, name in enumerate(names[1:], 1):
        reached = [count for count, value in zip(steps, values[:, place], strict=True) if value >= values[-1, 0]]
        words = f"after {reached[0]} steps" if reached else "not"
        print(
            f"{name}: reaches the whole archive's score after {steps[-1]} steps ({values[-1, 0]:.3f}) {words}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=150)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/curated"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.out)
    write_archive(asked.patients)
    write_chestxray14("labelled", patients=2 * asked.patients, seed=2, size=64)
    run("prepare", "thorax", "labelled", "--out", "labelled/manifest.csv")
    labelled = open_manifest(Path("labelled/manifest.csv"))
    learned = labelled.table["patient"].map(lambda name: int(name) % 2 == 0).to_numpy()
    run("curate", "thorax", "archive", "--out", "curated")
    run("curate", "thorax", "archive", "--out", "balanced", "--balance", "findings,view", "--per-entry", 60)
    archives = {"whole": "archive", "curated": "curated", "and balanced": "balanced"}
    values, drawn, start = [], [], time.process_time()
    for count in asked.steps:
        found = []
        for place in archives.values():
            images, each = len(pd.read_csv(f"{place}/manifest.csv")), []
            for seed in range(asked.seeds):
                out = f"{place}-{count}-{seed}"
                epochs = max(2, round(count / (images // BATCH)))
                length = ["--optim.epochs", epochs, "--optim.warmup_epochs", max(1, epochs // 10)]
                more = [*MODEL, *length, "--run.max_bad", 0.2, "--run.seed", seed, "--data", place, "--out", out]
                run("pretrain", "thorax", "--recipe", "tiny", *more)
                each.append(scores(Path(out) / "encoder", labelled, learned))
            found.append(each)
            print(f"{place}: {images} images, {epochs} epochs, {epochs * (images // BATCH)} steps", flush=True)
        value, resampled = compared(labelled, learned, np.array(found))
        values.append(value)
        drawn.append(resampled.T)
        report(asked.steps[: len(values)], list(archives), np.array(values), np.array(drawn))
    print(f"{len(labelled.table)} labelled images; {time.process_time() - start:.0f} s of CPU for training and probes")
