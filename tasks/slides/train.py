"""Train on whole slides, from slide files to heat maps and a report, in one file: copy it, change what you like.

    python -m clinvit.tasks.slides.train manifest.csv --out runs/slides --aggregator dsmil

Tiles, encoder, features, aggregator, report stand in this order. Repeating the command continues.
"""

from dataclasses import replace
from pathlib import Path

from clinvit.datasets import read_manifest
from clinvit.datasets.slides.settings import Tiling
from clinvit.engine.recipe import Run
from clinvit.eval import Evaluation
from clinvit.finetune import finetune
from clinvit.mil.extract import extract
from clinvit.mil.extract_recipe import Extract
from clinvit.mil.recipe import Mil
from clinvit.pretrain import pretrain
from clinvit.stages.evaluate import EXPLANATIONS, evaluate_stage
from clinvit.stages.slides.predict import Request, predict_slides
from clinvit.stages.slides.tile import tile_slides
from clinvit.tasks.slides.recipes import mil_tiny, pretrain_tiny
from jsonargparse import auto_cli


def main(
    data: Path,
    out: Path = Path("runs/slides"),
    encoder: str | None = None,
    tile_um: float = 112.0,
    tile_px: int = 224,
    aggregator: str = "gated_attention",
    epochs: int | None = None,
    max_bad: float = 0.01,
    resamples: int = 2000,
    unit: str | None = None,
    seed: int = 0,
) -> None:
    """Go from slides to heat maps: tiles, DINO, features, an aggregator of bags, a report.

    Args:
        data: The manifest (`clinvit prepare slides` makes one).
        out: Folder of the runs and the report.
        encoder: Encoder folder, checkpoint or timm:NAME; without, DINO is pre-trained on the slides' own tiles.
        tile_um: Side of a tile, microns.
        tile_px: Side of a tile, pixels.
        aggregator: `mean`, `max`, `attention`, `gated_attention`, `dsmil`, `transmil`, `clam_sb`, ...
        epochs: Of the aggregator; the small recipe's without.
        max_bad: Share of training slides that may have no features.
        resamples: Of the bootstrap by patient.
        unit: `patient` or `case`, to score these by the largest score of their slides; none scores slides.
        seed: Of everything random.
    """
    manifest = read_manifest(data)
    tiles, features, run = out / "tiles", out / "features", out / "mil"
    tile_slides(Tiling(tile_um=tile_um, tile_px=tile_px), read_manifest(data, ()), tiles)
    if encoder is None:
        recipe = pretrain_tiny()
        recipe = replace(recipe, run=replace(recipe.run, seed=seed))
        encoder = str(pretrain(recipe, data=data, out=out / "dino", tiles=tiles).path)
    extract(Extract(), read_manifest(data, ()), tiles, features, encoder)

    optim = mil_tiny().optim if epochs is None else replace(mil_tiny().optim, epochs=epochs)
    run_settings = Run(seed=seed, max_bad=max_bad)
    recipe = Mil(aggregator=aggregator, standardise=True, select="last", optim=optim, run=run_settings)
    finetune(recipe, data=data, out=run, features=features, unit=unit)

    # The same slides once more, for their heat maps; the report holds these against outlines, where there are some.
    predict_slides(
        Request(run / "model", [str(manifest.path)], run / "predictions.csv", features, maps=run / EXPLANATIONS)
    )
    evaluation = Evaluation(resamples=resamples)
    print(evaluate_stage({aggregator: run / "predictions.csv"}, out / "report", data=data, evaluation=evaluation))


if __name__ == "__main__":
    auto_cli(main)
