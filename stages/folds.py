"""Cross-validation by patient: as many models as folds, each scored on patients that it has not seen."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..core.errors import UserError
from ..datasets.manifest.splits import patient_folds
from ..datasets.manifest.tables import Manifest, Survival, read_csv, write_csv
from .data import open_manifest
from .finetune import finetune_stage

FOLDS = "folds.csv"
FEWEST = 3  # one to train on, one to choose on, one to score


def finetune_folds(recipe, data: Path | Manifest, out: Path, folds: int, *, seed: int = 0, **inputs) -> Path:
    """Train and score every fold; return the predictions of all cases.

    All cases of the manifest are dealt out by patient, stratified by their labels, whatever their split there. For fold
    k the model is trained on the others but fold k + 1, on which its epoch, thresholds and calibration are chosen. Runs
    lie in `out/fold_1`, ...; repeating the command goes on.

    Args:
        recipe: The resolved recipe.
        data: Manifest or its folder.
        out: Gets a run folder per fold, `folds.csv` (`id,patient,fold`), and `predictions.csv`: each case once, scored
            by the model that has seen none of its patient, with split test.
        folds: At least 3.
        seed: Of the folds.
        inputs: Further arguments of `finetune_stage`.

    Raises:
        UserError: Too few folds, or `out` holds others.
        DataError: Fewer patients than folds, or what a single training refuses.
    """
    from ..engine.run_folder import rank

    if folds < FEWEST:
        raise UserError(f"{folds} folds: from {FEWEST} on there is one to train on, one to choose on and one to score.")
    manifest, out = open_manifest(data, recipe.data.labels), Path(out)
    if timed := [each.name for each in manifest.kinds if isinstance(each, Survival)]:
        raise UserError(
            f"--folds: the times at which {timed[0]} is predicted would differ from fold to fold: train once."
        )
    fold = patient_folds(manifest.table, manifest.labels, folds, seed)
    if rank() == 0:
        _claim(out, manifest.table[["id", "patient"]].assign(fold=(fold + 1).astype(str)))
    for number in range(folds):
        if rank() == 0:
            print(f"fold {number + 1} of {folds}: {int((fold == number).sum()):,} cases are held out", flush=True)
        splits = fold.map({number: "test", (number + 1) % folds: "val"}).fillna("train")
        own = replace(manifest, table=manifest.table.assign(split=splits))
        finetune_stage(recipe, own, out / f"fold_{number + 1}", **inputs)
    if rank() == 0:
        write_csv(out / "predictions.csv", _held_out(manifest, out, folds))
    return out / "predictions.csv"


def _claim(out: Path, table: pd.DataFrame) -> None:
    """Write which case is in which fold; refuse a folder that holds other folds."""
    path = out / FOLDS
    if path.is_file():
        if not read_csv(path).equals(table.astype(str)):
            raise UserError(f"{path}: holds other folds or cases. Choose another --out, or remove that folder.")
        return
    if (out / "recipe.yaml").is_file():
        raise UserError(f"{out}: holds a run that is no cross-validation. Choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_csv(path, table)


def _held_out(manifest: Manifest, out: Path, folds: int) -> pd.DataFrame:
    """Return the rows of all folds' held-out cases, in the order of the manifest."""
    parts = [read_csv(out / f"fold_{number + 1}" / "predictions.csv") for number in range(folds)]
    table = pd.concat([part[part["split"] == "test"] for part in parts], ignore_index=True).fillna("")
    return table.set_index("id").loc[manifest.table["id"]].reset_index()
