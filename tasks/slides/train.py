"""The slides task as a script to copy and change: tiles, DINO, features, an aggregator, heat maps, a report.

    python -m clinvit.tasks.slides.train DATA OUT

DATA is a manifest.csv (or its folder), OUT a folder for the runs. Repeating the command continues.
"""

import sys
from pathlib import Path

from clinvit.mil.extract import extract
from clinvit.stages import evaluate as reporting
from clinvit.stages import stages
from clinvit.stages.slides.predict import Request, predict_slides
from clinvit.stages.slides.tile import tile_slides
from clinvit.tasks.slides.recipes import extract_standard, mil_tiny, pretrain_tiny, tile_demo


def main(data: Path, out: Path) -> None:
    """Go from slides to heat maps with the small recipes."""
    manifest = stages.open_manifest(data, labels=())
    tiles, features, run = out / "tiles", out / "features", out / "mil"
    tile_slides(tile_demo(), manifest, tiles)
    encoder = stages.pretrain_stage(pretrain_tiny(), data, out / "dino", tiles=tiles)
    extract(extract_standard(), manifest, tiles, features, str(encoder))
    # Change whatever you like; `clinvit finetune slides --help` explains the options.
    model = stages.finetune_stage(mil_tiny(), data, run, features=features)
    wanted = Request(model, [str(manifest.path)], run / "predictions.csv", features, maps=run / reporting.EXPLANATIONS)
    predict_slides(wanted)
    report = reporting.evaluate_stage({"mil": run / "predictions.csv"}, out / "report", data=data)
    print(*report.headline, sep="\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
