"""Cross-validation by patient or by site: a model for each fold, scored on patients that it has not seen."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import DataError, UserError
from ..datasets.manifest.cells import nearest
from ..datasets.manifest.splits import patient_folds
from ..datasets.manifest.tables import KEYS, Manifest, Survival, read_csv, write_csv
from ..eval.statistics.groups import texts
from .data import open_manifest
from .finetune import finetune_stage

FOLDS = "folds.csv"
FEWEST = 3  # one to train on, one to choose on, one to score
MOST_SITES = 50  # each is a training
CHOOSING = 10  # one in so many patients chooses where nobody has the split val


@dataclass(frozen=True)
class Fold:
    """One training of a cross-validation.

    Attributes:
        name: What is held out, for the first line.
        held: (N,) whether each case is scored in it.
        split: (N,) of the cases.
    """

    name: str
    held: np.ndarray
    split: pd.Series


def finetune_folds(recipe, data: Path | Manifest, out: Path, folds: int | str, *, seed: int = 0, **inputs) -> Path:
    """Train and score every fold; return the predictions of all cases.

    With a number all cases of the manifest are dealt out by patient, stratified by their labels, whatever their split
    there. For fold k the model is trained on the others but fold k + 1, on which its epoch, thresholds and calibration
    are chosen. With a column, such as `site`, the cases of each of its values are held out in turn (leave one site
    out); of the others those with the split val choose, or a tenth of the patients where there are none, and all the
    rest are trained on. Runs lie in `out/fold_1`, ...; repeating the command goes on.

    Args:
        recipe: The resolved recipe.
        data: Manifest or its folder.
        out: Gets a run folder per fold, `folds.csv` (`id,patient,fold`), and `predictions.csv`: each case once, scored
            by the model that has seen none of its patient, with split test.
        folds: At least 3, or a column of the manifest.
        seed: Of the folds.
        inputs: Further arguments of `finetune_stage`.

    Raises:
        UserError: Too few folds, no such column, or `out` holds others.
        DataError: Fewer patients than folds, a patient at two sites, or what a single training refuses.
    """
    from ..engine.run_folder import rank

    if isinstance(folds, int) and folds < FEWEST:
        raise UserError(f"{folds} folds: from {FEWEST} on there is one to train on, one to choose on and one to score.")
    manifest, out = open_manifest(data, recipe.data.labels), Path(out)
    if timed := [each.name for each in manifest.kinds if isinstance(each, Survival)]:
        raise UserError(
            f"--folds: the times at which {timed[0]} is predicted would differ from fold to fold: train once."
        )
    parts = _dealt(manifest, folds, seed) if isinstance(folds, int) else _by_value(manifest, folds, seed)
    fold = np.argmax([part.held for part in parts], axis=0) + 1
    if rank() == 0:
        _claim(out, manifest.table[["id", "patient"]].assign(fold=fold.astype(str)))
    for number, part in enumerate(parts, start=1):
        if rank() == 0:
            named = f"{part.name}: " if part.name else ""
            print(f"fold {number} of {len(parts)}: {named}{int(part.held.sum()):,} cases are held out", flush=True)
        own = replace(manifest, table=manifest.table.assign(split=part.split))
        finetune_stage(recipe, own, out / f"fold_{number}", **inputs)
    if rank() == 0:
        write_csv(out / "predictions.csv", _held_out(manifest, out, len(parts)))
    return out / "predictions.csv"


def _dealt(manifest: Manifest, folds: int, seed: int) -> list[Fold]:
    fold = patient_folds(manifest.table, manifest.labels, folds, seed)
    return [
        Fold("", (fold == k).to_numpy(), fold.map({k: "test", (k + 1) % folds: "val"}).fillna("train"))
        for k in range(folds)
    ]


def _by_value(manifest: Manifest, column: str, seed: int) -> list[Fold]:
    """Return a fold for each value of a column.

    Raises:
        UserError: No such column, or values that make no sites.
        DataError: A case without a value, a patient with two, or a fold whose training has nothing to learn.
    """
    table, where = manifest.table, f"{manifest.path}: --folds {column}"
    free = [name for name in table.columns if name not in (*KEYS, *manifest.labels)]
    if column not in free:
        known = f" It has {', '.join(free)}." if free else " It has none but those of the cases and their labels."
        raise UserError(f"{where}: the manifest has no such column{nearest(column, free)}.{known}")
    cells = texts(table[column])
    if unknown := int((cells == "").sum()):
        raise DataError(f"{where}: nothing is recorded for {unknown:,} of {len(table):,} cases. Fill it in.")
    values = sorted(cells.unique())
    if not 2 <= len(values) <= MOST_SITES:
        raise UserError(f"{where}: {len(values):,} values; from 2 to {MOST_SITES} can be held out, one at a time.")
    several = cells.groupby(table["patient"]).nunique()
    if (several > 1).any():
        raise DataError(
            f"{where}: {int((several > 1).sum()):,} patients are at several, first {several[several > 1].index[0]!r}: "
            "a model would be tried on patients that it has seen. Leave them out, or name them by site."
        )
    return [_without(manifest, cells == value, value, where, seed) for value in values]


def _without(manifest: Manifest, held: pd.Series, value: str, where: str, seed: int) -> Fold:
    """Return the fold that holds one value out; see `_by_value`."""
    rest = manifest.table[~held]
    val = (rest["split"] == "val").to_numpy()
    if not val.any():
        parts = min(CHOOSING, rest["patient"].nunique())
        val = (patient_folds(rest, manifest.labels, parts, seed) == 0).to_numpy()
    split = pd.Series("test", index=manifest.table.index)
    split.loc[rest.index] = np.where(val, "val", "train")
    learned = manifest.table.loc[split == "train"]
    for label in manifest.labels:
        if learned[label].dropna().nunique() < 2:
            raise DataError(
                f"{where}: without {value} no training case differs in {label!r}: nothing to learn. Leave the label "
                "out (--data.labels), or the site."
            )
    return Fold(value, held.to_numpy(), split)


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
