"""The predictions of a cross-validation's models as one: their tables, their maps, and what stands beside them."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import DataError, UserError
from ..core.files import write_json, written_aside
from ..datasets.images.image_maps import case_file
from ..datasets.manifest.cells import write_csv
from ..datasets.manifest.tables import read_csv, read_predictions
from .explain import ATTENTION_MAPS, EXPLANATIONS, MAPS
from .facts import beside, facts_beside

FOLDS = "folds"  # in the facts beside a table: the models, fold by fold
FOLD = "fold"  # column of a table
_AGREED = ("labels", "what_one_means", "exclusive", "targets", "aggregation", "of", "precision")


def joined_folds(tables: Sequence[Path], out: Path, split: str | None) -> Path:
    """Write the tables of several folds' models as one, with their facts and the maps of its cases beside it.

    Args:
        tables: Predictions of each fold.
        out: The table to write.
        split: Split that a fold's model is scored on; rows of others are left out, as those that it was chosen on are
            the test rows of another fold. None for tables that hold nothing else: their rows become the split test.

    Raises:
        DataError: A patient or a case is scored in several folds, or the tables have other columns of scores.
    """
    parts = [_own(path, split) for path in tables]
    _refuse_shared(tables, parts)
    _refuse_other_labels(tables)
    whole = pd.concat([part.assign(fold=str(n)) for n, part in enumerate(parts, 1)], ignore_index=True).fillna("")
    write_csv(out, whole if split else whole.assign(split="test"))
    write_json(beside(out, "model"), _facts(tables))
    for path, part in zip(tables, parts, strict=True):
        for kind in (MAPS, ATTENTION_MAPS):
            _copy_maps(Path(path).parent / EXPLANATIONS / kind, out.parent / EXPLANATIONS / kind, part["id"].tolist())
    return out


def models_of_folds(predictions: Path) -> frozenset[str]:
    """Return the SHA-256 of the weights of the folds' models of a joined table; empty of any other table."""
    return frozenset(str(each["sha256"]) for each in facts_beside(predictions).get(FOLDS, ()) if "sha256" in each)


def _own(path: Path, split: str | None) -> pd.DataFrame:
    table = read_csv(path)
    for column in ("id", "patient", "split"):
        if column not in table:
            raise DataError(f"{path}: no column {column!r}: no table of predictions.")
    if split is None:
        return table
    found = table[table["split"] == split].reset_index(drop=True)
    if not len(found):
        raise DataError(f"{path}: no row with split {split!r}: nothing that this fold's model is scored on.")
    return found


def _refuse_shared(tables: Sequence[Path], parts: Sequence[pd.DataFrame]) -> None:
    first: dict[tuple[str, str], Path] = {}
    for path, part in zip(tables, parts, strict=True):
        for what in ("patient", "id"):
            for name in part[what].unique():
                other = first.setdefault((what, name), path)
                if other != path:
                    raise DataError(
                        f"{path}: the {'case' if what == 'id' else what} {name!r} is scored there and in {other}: "
                        "folds keep patients apart. Give each fold's held-out patients alone."
                    )


def _refuse_other_labels(tables: Sequence[Path]) -> None:
    names = [tuple(read_predictions(path, targets=True).labels) for path in tables]
    for path, own in zip(tables, names, strict=True):
        if own != names[0]:
            raise DataError(f"{path}: scores of {', '.join(own)}; {tables[0]} has {', '.join(names[0])}.")


def _facts(tables: Sequence[Path]) -> dict[str, Any]:
    """Return the facts of the joined table: what all folds agree on, what each model has seen, and the models.

    Thresholds and calibration are each fold's own: they stand with the models.
    """
    facts = [facts_beside(path) for path in tables]
    agreed = {key: facts[0][key] for key in _AGREED if key in facts[0]}
    if other := [key for key, value in agreed.items() if any(each.get(key) != value for each in facts)]:
        raise UserError(
            f"{tables[0]} and the other folds differ in {', '.join(other)}: models of one recipe are joined."
        )
    models = [
        {key: each[key] for key in ("model", "sha256", "thresholds", "calibration") if key in each}
        | {"table": Path(path).name}
        for path, each in zip(tables, facts, strict=True)
    ]
    said: dict[str, Any] = agreed | {"model": f"cross-validation of {len(tables)} folds", FOLDS: models}
    seen = [each["seen"].get("test") for each in facts if "seen" in each]
    if len(seen) == len(facts) and all(seen):
        said["seen"] = {"test": _summed(seen)}
    return said


def _summed(seen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return counts of all folds; None where one is unknown, True where it is so of one."""
    found: dict[str, Any] = {}
    for key in seen[0]:
        values = [each.get(key) for each in seen]
        if any(value is None for value in values):
            found[key] = None
        else:
            found[key] = any(values) if isinstance(values[0], bool) else sum(values)
    return found


def _copy_maps(source: Path, to: Path, cases: Sequence[str]) -> None:
    if not source.is_dir() or source.resolve() == to.resolve():
        return
    for case in cases:
        file = case_file(source, case, ".h5")
        if file.is_file():
            with written_aside(case_file(to, case, ".h5")) as aside:
                shutil.copyfile(file, aside)
