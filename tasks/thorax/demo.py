"""The thorax demo: invented chest X-rays in the layout of ChestX-ray14, all the way to a report."""

import time
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ...core.files import write_text
from ...datasets.images.radiographs import read_grey
from ...datasets.quality.check import check_manifest
from ...phantoms.radiographs import write_chestxray14
from ...stages import evaluate as reporting
from ...stages.finetune import finetune_stage
from ...stages.prepare import prepare_stage
from ...stages.pretrain import pretrain_stage
from .layouts import LAYOUTS
from .recipes import finetune_demo, pretrain_demo


def demo(out: Path, seed: int = 0, patients: int = 400) -> dict:
    """Run the demo: invented X-rays, check, pre-training, fine-tuning with and without the encoder, a report of both.

    Args:
        out: Folder to write. Repeating the command continues there.
        seed: Seed of the phantoms and the training.
        patients: Invented patients, about two images each.

    Returns:
        The metrics of the report.
    """
    started = time.monotonic()
    root, data = out / "ChestX-ray14", out / "manifest.csv"

    _step(1, f"inventing chest X-rays of {patients} patients, laid out like ChestX-ray14")
    # The file `whole` is written last: a demo that was killed before it starts the tree again.
    if not (root / "whole").is_file():
        with tqdm(total=patients, unit="patient", disable=None) as bar:
            write_chestxray14(root, patients=patients, seed=seed, size=256, progress=lambda *_: bar.update())
        write_text(root / "whole", "")

    _step(2, "reading them as a data set that was downloaded, writing manifest.csv, checking it")
    manifest, notes, warnings, _ = prepare_stage(LAYOUTS, root, data)
    found = check_manifest(manifest, read_grey, files=50, cache_px=pretrain_demo().data.cache_px)
    for text in [*notes, *found.facts, *warnings, *found.warnings]:
        print(f"      {text}")

    _step(3, "masked pre-training, without labels")
    pre, fine = pretrain_demo(), finetune_demo()
    pretrain_stage(replace(pre, run=replace(pre.run, seed=seed)), data, out / "pretrain")
    fine = replace(fine, run=replace(fine.run, seed=seed))
    _step(4, "fine-tuning from the pre-trained encoder")
    finetune_stage(fine, data, out / "pretrained", encoder=out / "pretrain" / "encoder")
    _step(5, "fine-tuning the same model from scratch")
    finetune_stage(fine, data, out / "scratch")

    _step(6, "evaluating both on the test patients")
    predictions = {name: out / name / "predictions.csv" for name in ("pretrained", "scratch")}
    title = "Invented chest X-rays: pre-trained or from scratch"
    metrics = reporting.evaluate_stage(predictions, out / "report", data=data, title=title).to_dict()
    print(f"\n{' '.join(metrics['headline'])}")
    print(f"Took {(time.monotonic() - started) / 60:.1f} minutes. Look at:")
    print(f"  {(out / 'report' / 'report.html').resolve()}")
    print(f"  {(out / 'pretrain' / 'reconstructions.png').resolve()}")
    return metrics


def _step(number: int, text: str) -> None:
    print(f"[{number}/6] {text}", flush=True)
