"""Contexts of a manifest: the combinations of some columns' values that training cases are from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import DataError, UserError
from ..datasets.manifest.columns import fact
from ..datasets.manifest.tables import Manifest, nearest
from ..eval.statistics.groups import texts
from ..eval.statistics.resampling import PatientBootstrap
from ..eval.statistics.reservations import FEW
from .recipe import Finetune

LEAST = 20  # training cases of a context
MOST = 64


def contexts_of(recipe: Finetune, manifest: Manifest) -> dict[str, Any]:
    """Return what a card holds of its contexts: columns, values, cases, which offsets there are; empty without any.

    A context is a combination of values that at least 20 training cases have. Cases of the others, and those of which
    a value is not recorded, train what is shared.

    Raises:
        UserError: A column is missing.
        DataError: There are fewer than two contexts, or too many.
    """
    if not recipe.contexts:
        return {}
    if manifest.kinds:
        raise UserError(f"contexts are for findings, not for {', '.join(each.name for each in manifest.kinds)}.")
    columns = [_column(name, manifest) for name in recipe.contexts]
    train = manifest.rows(*recipe.data.splits)
    values = _values(train.table, columns)
    counts = pd.Series(values).value_counts()
    known = sorted(value for value, count in counts.items() if count >= LEAST and "" not in value)
    where = f"{manifest.path}: {', '.join(columns)}"
    if len(known) < 2:
        found = ", ".join(f"{' '.join(value) or 'not recorded'} ({count})" for value, count in counts.head(5).items())
        raise DataError(
            f"{where}: {len(known)} context with {LEAST} training cases or more ({found}): nothing to tell apart."
        )
    if len(known) > MOST:
        raise DataError(f"{where}: {len(known)} contexts, more than {MOST}: name fewer columns.")
    usable = [_usable(train, values, value) for value in known]
    return {
        "columns": columns, "values": [list(value) for value in known], "cases": [int(counts[each]) for each in known],
        "other_cases": int(len(train) - counts[known].sum()), "usable": usable, "rank": recipe.context_rank,
        "mix": recipe.context_mix,
    }  # fmt: skip


def context_rows(contexts: dict[str, Any], table: pd.DataFrame) -> np.ndarray:
    """Return (N,) the place of each case's context, -1 where it is of none.

    Args:
        contexts: Of a card.
        table: Of the manifest.
    """
    places = {tuple(value): place for place, value in enumerate(contexts["values"])}
    return np.array([places.get(value, -1) for value in _values(table, contexts["columns"])])


def context_words(contexts: dict[str, Any], labels: Sequence[str]) -> list[str]:
    """Return what is said of the contexts before a training."""
    named = [" ".join(value) for value in contexts["values"]]
    found = ", ".join(f"{name} {count:,}" for name, count in zip(named, contexts["cases"]))
    lines = [f"contexts by {', '.join(contexts['columns'])}: {found} training cases"]
    if contexts["other_cases"]:
        lines.append(
            f"note: {contexts['other_cases']:,} training cases are of no context (nothing recorded, or fewer than "
            f"{LEAST} alike): they train what is shared"
        )
    for name, row in zip(named, contexts["usable"]):
        if missing := [label for label, there in zip(labels, row) if not there]:
            few = f"fewer than {FEW} patients with it or without it"
            lines.append(f"note: {name}: {', '.join(missing)} judged by what is shared ({few})")
    return lines


def _column(name: str, manifest: Manifest) -> str:
    """Return the column of a name, or the one that holds the fact of this name."""
    have = [str(column) for column in manifest.table.columns]
    if name in have and name not in ("id", "path", "patient", "split", *manifest.labels):
        return name
    same = [column for column in have if fact(column) == name]
    if len(same) == 1:
        return same[0]
    more = [column for column in have if column not in ("id", "path", "patient", "split", *manifest.labels)]
    known = f": {', '.join(more)}" if more else ""
    raise UserError(f"contexts: {manifest.path} has no such column {name!r}{nearest(name, more)}{known}.")


def _values(table: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(texts(table[column]) for column in columns), strict=True))


def _usable(train: Manifest, values: list[tuple[str, ...]], value: tuple[str, ...]) -> list[int]:
    """Return by label whether enough patients with it and without it are of a context."""
    rows = np.array([each == value for each in values])
    few = PatientBootstrap(train.table["patient"][rows]).smaller_class(train.truth(train.labels)[rows])
    return (few >= FEW).astype(int).tolist()
