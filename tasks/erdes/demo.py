"""The ocular-ultrasound demo: invented clips in the tree of ERDES, all the way to a cascade and its report."""

import time
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ...core.files import write_text
from ...datasets.quality.check import check_manifest
from ...datasets.video.clips import read_grey_clip
from ...phantoms.ocular import write_erdes
from ...stages import evaluate as reporting
from ...stages.finetune import finetune_stage
from ...stages.prepare import prepare_stage
from ...stages.pretrain import pretrain_stage
from .cascade import cascade_of_runs
from .layouts import LAYOUTS
from .recipes import finetune_demo, finetune_demo_cnn, pretrain_demo

CLIPS = 360
DETACHED, MACULA = "non_rd_vs_rd", "macula_detached_vs_intact"


def demo(out: Path, seed: int = 0, clips: int = CLIPS) -> dict:
    """Run the demo: invented clips, check, pre-training, fine-tuning with it, without it, of a CNN; cascade, reports.

    Args:
        out: Folder to write. Repeating the command continues there.
        seed: Seed of the phantoms and the training.
        clips: Invented clips.

    Returns:
        The metrics of the report on detachment.
    """
    started = time.monotonic()
    root, data = out / "erdes", out / "manifest.csv"

    _step(1, f"inventing {clips} ocular ultrasound clips, laid out like ERDES")
    # The file `whole` is written last: a demo that was killed before it starts the tree again.
    if not (root / "whole").is_file():
        with tqdm(total=clips, unit="clip", disable=None) as bar:
            write_erdes(root, clips=clips, seed=seed, size_px=128, seconds=(0.8, 2.0), progress=lambda *_: bar.update())
        write_text(root / "whole", "")

    _step(2, "reading them as a data set that was downloaded, writing manifest.csv, checking it")
    manifest, notes, warnings, _ = prepare_stage(LAYOUTS, root, data)
    found = check_manifest(manifest, read_grey_clip, files=50, cache_px=pretrain_demo().data.cache_px)
    for text in [*notes, *found.facts, *warnings, *found.warnings]:
        print(f"      {text}")

    _step(3, "masked pre-training on the clips, without labels (VideoMAE V2: tubes and running cells)")
    pre = pretrain_demo()
    encoder = pretrain_stage(replace(pre, run=replace(pre.run, seed=seed)), data, out / "pretrain")
    runs = {
        "pretrained": (finetune_demo(), DETACHED, encoder),
        "scratch": (finetune_demo(), DETACHED, None),
        "unetplusplus": (finetune_demo_cnn(), DETACHED, None),
        "macula": (finetune_demo(), MACULA, encoder),
    }
    texts = {
        "pretrained": "retinal detachment: fine-tuning from the pre-trained encoder",
        "scratch": "retinal detachment: the same model from scratch",
        "unetplusplus": "retinal detachment: a 3-D convolutional network, UNet++",
        "macula": "macula, among detachments: fine-tuning from the pre-trained encoder",
    }
    for number, (name, (recipe, label, start)) in enumerate(runs.items(), 4):
        _step(number, texts[name])
        recipe = replace(recipe, data=replace(recipe.data, labels=(label,)), run=replace(recipe.run, seed=seed))
        finetune_stage(recipe, data, out / name, encoder=start)

    _step(8, "evaluating: detachment by three models, then the cascade of two")
    predictions = {name: out / name / "predictions.csv" for name in ("pretrained", "scratch", "unetplusplus")}
    title = "Invented eyes: retinal detachment"
    metrics = reporting.evaluate_stage(predictions, out / "report", data=data, title=title).to_dict()
    cascade_of_runs(out / "pretrained", out / "macula", out / "cascade.csv")
    outcome = reporting.evaluate_stage(
        {"cascade": out / "cascade.csv"},
        out / "cascade-report",
        data=data,
        title="Invented eyes: detachment, then macula",
        steps={"detachment": out / "pretrained/predictions.csv", "macula": out / "macula/predictions.csv"},
    ).to_dict()
    print(f"\n{' '.join(metrics['headline'])}\nCascade: {' '.join(outcome['headline'])}\n{outcome['steps']['verdict']}")
    print(f"Took {(time.monotonic() - started) / 60:.1f} minutes. Look at:")
    for page in ("report/report.html", "cascade-report/report.html", "pretrain/reconstructions.png"):
        print(f"  {(out / page).resolve()}")
    return metrics


def _step(number: int, text: str) -> None:
    print(f"[{number}/8] {text}", flush=True)
