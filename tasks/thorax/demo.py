"""The thorax demo: invented chest X-rays in the layout of ChestX-ray14, all the way to a report."""

import time
from dataclasses import replace
from pathlib import Path

from ...datasets.phantoms.radiographs import write_chestxray14
from ...files import write_text
from .. import stages
from .labels import MEANING
from .layouts import to_manifest
from .recipes import finetune_tiny, pretrain_tiny

PATIENTS = 400


def demo(out: Path, seed: int = 0) -> None:
    """Phantoms -> check -> manifest -> pre-train -> fine-tune with and without the encoder -> report of both.

    Args:
        out: Folder to write. Repeating the command continues there.
        seed: Of the phantoms and the training.
    """
    started = time.monotonic()
    root, manifest = out / "ChestX-ray14", out / "manifest.csv"

    _step(1, f"inventing chest X-rays of {PATIENTS} patients in the layout of ChestX-ray14")
    # The mark stands only when the tree is whole: a demo killed here starts it again.
    if not (root / "whole").is_file():
        write_chestxray14(root, patients=PATIENTS, seed=seed, size=256)
        write_text(root / "whole", "")
    _step(2, "looking at them as a data set that was downloaded, and writing manifest.csv")
    table, labels = to_manifest(root)
    stages.write_prepared(table, labels, root, manifest)

    _step(3, "masked pre-training without labels")
    pre = pretrain_tiny()
    stages.pretrain_stage(replace(pre, run=replace(pre.run, seed=seed)), manifest, out / "pretrain")
    fine = finetune_tiny()
    fine = replace(fine, run=replace(fine.run, seed=seed))
    _step(4, "fine-tuning from the pre-trained encoder")
    stages.finetune_stage(
        fine, manifest, out / "pretrained", encoder=out / "pretrain" / "encoder", meaning=MEANING
    )
    _step(5, "fine-tuning the same model from scratch")
    stages.finetune_stage(fine, manifest, out / "scratch", meaning=MEANING)

    _step(6, "evaluating both on the test patients")
    predictions = {name: out / name / "predictions.csv" for name in ("pretrained", "scratch")}
    figures = stages.evaluate_stage(
        predictions, out / "report", data=manifest, title="Invented chest X-rays: pre-trained or from scratch",
        meaning=MEANING,
    )  # fmt: skip
    print(f"\n{' '.join(figures['headline'])}")
    print(f"Took {(time.monotonic() - started) / 60:.1f} minutes. Look at:")
    print(f"  {(out / 'report' / 'report.html').resolve()}")
    print(f"  {(out / 'pretrain' / 'reconstructions.png').resolve()}")


def _step(number: int, text: str) -> None:
    print(f"[{number}/6] {text}", flush=True)
