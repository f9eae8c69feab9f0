"""The thorax task as a script to copy and change: pre-train, fine-tune, report.

    python -m clinvit.tasks.thorax.train DATA OUT

DATA is a manifest.csv (or its folder), OUT a folder for the runs. Repeating the command continues.
"""

import sys
from dataclasses import replace
from pathlib import Path

from clinvit.stages import evaluate as reporting
from clinvit.stages import stages
from clinvit.tasks.thorax.recipes import finetune_tiny, pretrain_tiny


def main(data: Path, out: Path) -> None:
    """Pre-train on the training images, fine-tune from that encoder, evaluate on the test split."""
    pretraining = pretrain_tiny()
    # Change whatever you like; `clinvit pretrain thorax --help` explains the options.
    pretraining = replace(pretraining, optim=replace(pretraining.optim, epochs=50))
    encoder = stages.pretrain_stage(pretraining, data, out / "pretrain")
    stages.finetune_stage(finetune_tiny(), data, out / "finetune", encoder=encoder)
    report = reporting.evaluate_stage({"model": out / "finetune" / "predictions.csv"}, out / "report", data=data)
    print(*report.headline, sep="\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
