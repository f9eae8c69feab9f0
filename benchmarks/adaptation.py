"""Every method of adapting one encoder, on invented X-rays: macro AUROC on test, trained parameters, seconds, size.

    python benchmarks/adaptation.py [--out runs/adaptation] [--patients 400] [--threads 2]

The demo's encoder is pre-trained once on the training patients. Each method then has the demo's fine-tuning with a
learning rate of its own, set beforehand and not tuned; the last epoch is kept. Repeating the command in its folder
continues; the seconds of a method that was interrupted are those of its last run.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from clinvit.core.files import write_text
from clinvit.datasets.loading.cache import build_cache
from clinvit.datasets.loading.readers import ImageReader
from clinvit.datasets.manifest.tables import Manifest, read_manifest, read_predictions
from clinvit.eval.statistics.results import results
from clinvit.finetune.model import ModelCard, load_card
from clinvit.finetune.recipe import Finetune
from clinvit.finetune.run import finetune
from clinvit.phantoms.radiographs import write_chestxray14
from clinvit.pretrain.run import pretrain
from clinvit.stages.prepare import prepare_stage
from clinvit.tasks.thorax.layouts import LAYOUTS
from clinvit.tasks.thorax.phantoms import COMMON
from clinvit.tasks.thorax.recipes import finetune_tiny, pretrain_tiny

# Peak learning rate, and what else differs from the fine-tuning of `tiny`. Probes see all patches.
PROBE = {"patch_drop": 0.0}
METHODS = {
    "full": (1e-3, {}),
    "knn": (None, {"mode": "knn", **PROBE}),
    "knn, scales 1 2": (None, {"mode": "knn", "scales": (1, 2), **PROBE}),
    "linear": (1e-2, {"mode": "linear", **PROBE}),
    "linear, scales 1 2": (1e-2, {"mode": "linear", "scales": (1, 2), **PROBE}),
    "attentive": (1e-3, {"mode": "attentive", "pool": "attention", **PROBE}),
    "norm": (5e-3, {"mode": "norm"}),
    "bitfit": (5e-3, {"mode": "bitfit"}),
    "lora, rank 8": (2e-3, {"mode": "lora", "lora_rank": 8}),
    "last_blocks, 2 of 6": (1e-3, {"mode": "last_blocks", "last_blocks": 2}),
}
SIZE_PX, SECONDS = 256, "seconds.txt"


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/adaptation"))
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--pretrain-epochs", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    manifest, cache = _phantoms(options.out, options.patients), options.out / "cache"
    recipe = pretrain_tiny()
    recipe = replace(recipe, optim=replace(recipe.optim, epochs=options.pretrain_epochs, warmup_epochs=8))
    encoder = pretrain(recipe, manifest.with_labels(()), options.out / "pretrain", cache)
    for least_px in (0, SIZE_PX):  # no method is charged with decoding the files
        build_cache(manifest.files(), cache, ImageReader(SIZE_PX, least_px))
    rows = []
    for number, (name, (rate, fields)) in enumerate(METHODS.items()):
        run, start = options.out / f"method-{number}", time.perf_counter()
        if not (run / SECONDS).is_file():
            finetune(_recipe(rate, fields, options.epochs), manifest, run, cache, encoder)
            write_text(run / SECONDS, str(time.perf_counter() - start))
        rows.append(_row(name, rate, run))
    print("\n| method | peak rate | macro AUROC (95 % interval) | trained parameters | share | seconds | model, MB |")
    print("|---|---|---|---|---|---|---|", *rows, sep="\n")


def _phantoms(out: Path, patients: int) -> Manifest:
    """Invented X-rays of 256 px: real pixels for the encoder's 128 px at twice the scale."""
    path = out / "manifest.csv"
    if not path.is_file():
        write_chestxray14(out / "raw", patients=patients, size=SIZE_PX, prevalence=COMMON)
        prepare_stage(LAYOUTS, out / "raw", path)
    return read_manifest(path)


def _recipe(rate: float | None, fields: dict, epochs: int) -> Finetune:
    tiny = finetune_tiny()
    optim = replace(tiny.optim, epochs=epochs, warmup_epochs=2)
    if rate is not None:
        optim = replace(optim, base_lr=rate * 256 / optim.batch_size)
    return replace(tiny, optim=optim, data=replace(tiny.data, cache_px=SIZE_PX, labels=tuple(COMMON)), **fields)


def _row(name: str, rate: float | None, run: Path) -> str:
    table, folder = read_predictions(run / "predictions.csv"), run / "model"
    auroc = results({name: table}).models[0].macro["auroc"]
    counts, size = load_card(folder).parameters, (folder / ModelCard.weights_file).stat().st_size
    trained, share = counts["trained"], counts["trained"] / counts["total"]
    shown = "-" if rate is None else f"{rate:g}"
    return (
        f"| {name} | {shown} | {auroc.value:.3f} ({auroc.low:.3f} to {auroc.high:.3f}) | {trained:,} | {share:.1%} | "
        f"{float((run / SECONDS).read_text()):.0f} | {size / 1e6:.1f} |"
    )


if __name__ == "__main__":
    main()
