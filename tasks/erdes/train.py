"""The ocular-ultrasound task as a script to copy and change: pre-train, two models, the cascade, a report.

    python -m clinvit.tasks.erdes.train DATA OUT

DATA is a manifest.csv (or its folder), OUT a folder for the runs. Repeating the command continues.
"""

import sys
from dataclasses import replace
from pathlib import Path

from clinvit.stages import evaluate as reporting
from clinvit.stages import stages
from clinvit.tasks.erdes.cascade import cascade_of_runs
from clinvit.tasks.erdes.recipes import finetune_tiny, pretrain_tiny


def main(data: Path, out: Path) -> None:
    """Pre-train on the training clips, fine-tune for detachment and for the macula, evaluate the cascade."""
    encoder = stages.pretrain_stage(pretrain_tiny(), data, out / "pretrain")
    recipe = finetune_tiny()
    # Change whatever you like; `clinvit finetune erdes --help` explains the options.
    for name, label in (("detachment", "non_rd_vs_rd"), ("macula", "macula_detached_vs_intact")):
        one = replace(recipe, data=replace(recipe.data, labels=(label,)))
        stages.finetune_stage(one, data, out / name, encoder=encoder)
    cascade_of_runs(out / "detachment", out / "macula", out / "cascade.csv")
    report = reporting.evaluate_stage({"cascade": out / "cascade.csv"}, out / "report", data=data)
    print(*report.headline, sep="\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
