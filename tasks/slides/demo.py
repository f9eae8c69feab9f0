"""The slides demo: invented H&E slides in the tree of Camelyon16, all the way to heat maps and a report."""

import time
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ...core.files import write_text
from ...datasets.slides.check import check_slides
from ...mil.extract import extract
from ...phantoms.slides import write_camelyon16
from ...stages import evaluate as reporting
from ...stages.finetune import finetune_stage
from ...stages.prepare import prepare_stage
from ...stages.pretrain import pretrain_stage
from ...stages.slides.predict import Request, predict_slides
from ...stages.slides.tile import tile_slides
from .layouts import LAYOUTS
from .recipes import extract_demo, mil_demo, mil_demo_attention, pretrain_demo, tile_demo

NORMAL, TUMOUR, TEST = 18, 18, 14
STEPS = 8
SEES = 0.7  # tile AUROC below which heat maps are not worth looking at


def demo(out: Path, seed: int = 0, slides: tuple[int, int, int] = (NORMAL, TUMOUR, TEST)) -> dict:
    """Run the demo: invented slides, tiles, DINO, features, two aggregators, heat maps, a report with FROC.

    Args:
        out: Folder to write. Repeating the command continues there.
        seed: Seed of the phantoms and the training.
        slides: Invented slides: normal and with tumour for training, and for the test.

    Returns:
        The metrics of the report.
    """
    started = time.monotonic()
    root, data = out / "camelyon16", out / "manifest.csv"
    normal, tumour, test = slides

    _step(1, f"inventing {sum(slides)} slides, laid out like Camelyon16; one has no scale")
    # The file `whole` is written last: a demo that was killed before it starts the tree again.
    if not (root / "whole").is_file():
        with tqdm(total=sum(slides), unit="slide", disable=None) as bar:
            write_camelyon16(
                root, normal=normal, tumour=tumour, test=test, seed=seed, size_px=(4000, 4400),
                progress=lambda *_: bar.update(),
            )  # fmt: skip
        write_text(root / "whole", "")

    _step(2, "reading them as a data set that was downloaded, writing manifest.csv, checking it")
    manifest, notes, warnings, _ = prepare_stage(LAYOUTS, root, data)
    found = check_slides(manifest, files=20)
    for text in [*notes, *found.facts, *warnings, *found.warnings]:
        print(f"      {text}")

    _step(3, "finding tissue, laying a grid of tiles")
    tiles, features = out / "tiles", out / "features"
    _counted(tile_slides(tile_demo(), manifest, tiles))

    _step(4, "DINO on the training slides' tiles, without labels, straight from the slides")
    pre = pretrain_demo()
    encoder = pretrain_stage(replace(pre, run=replace(pre.run, seed=seed)), data, out / "dino", tiles=tiles)

    _step(5, "features of every tile of every slide")
    _counted(extract(extract_demo(), manifest, tiles, features, str(encoder)))

    _step(6, "two aggregators, from one label per slide")
    runs = {"self_vit_mil": mil_demo(), "gated_attention": mil_demo_attention()}
    for name, recipe in runs.items():
        recipe = replace(recipe, run=replace(recipe.run, seed=seed))
        finetune_stage(recipe, data, out / name, features=features)

    _step(7, "heat maps of the validation and test slides")
    predictions = {name: out / name / "predictions.csv" for name in runs}
    for name, table in predictions.items():
        maps = out / name / reporting.EXPLANATIONS
        predict_slides(Request(out / name / "model", [str(data)], table, features, maps=maps, splits=("val", "test")))

    _step(8, "evaluating: slides, tiles, lesions")
    title = "Invented slides: metastases"
    metrics = reporting.evaluate_stage(predictions, out / "report", data=data, title=title).to_dict()
    print(f"\n{' '.join(metrics['headline'])}")
    for model in metrics["models"]:
        where = model["localisation"]
        print(
            f"{model['model']}: tile AUROC {where['metrics']['tile_auroc']['value']:.2f}, FROC score "
            f"{where['froc']['score']['value']:.2f}"
        )
        if where["metrics"]["tile_auroc"]["value"] < SEES:
            print("      Its heat maps do not show the tumour, whatever the AUROC of slides: it had few to learn from.")
    print(f"Took {(time.monotonic() - started) / 60:.1f} minutes. Look at:")
    shown = sorted((out / "gated_attention" / reporting.EXPLANATIONS).glob("test_*.html"))
    for page in (out / "report/report.html", *shown[:2], out / "dino/attention.png"):
        print(f"  {page.resolve()}")
    return metrics


def _counted(table) -> None:
    counts = table["status"].value_counts()
    print(f"      {counts.get('ok', 0)} slides, {int(table['tiles'].sum())} tiles")
    for reason in table.loc[table["status"] == "failed", "reason"]:
        print(f"      failed: {reason}")


def _step(number: int, text: str) -> None:
    print(f"[{number}/{STEPS}] {text}", flush=True)
