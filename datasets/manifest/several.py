"""Several names in one cell, and several rows of one file: of several readers, or of several boxes."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from .cells import UNKNOWN_CELLS
from .classes import NEGATIVE_WORDS, class_labels
from .columns import POLICIES, policy
from .inventory import note, warn

READERS = ("majority", "any", "all")
_SEPARATORS = re.compile(r"\s*[|;]\s*")
_LIST = re.compile(r"^\[(.*)\]$", re.DOTALL)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"|([^,\s][^,]*)")


def names_in(cell: str) -> list[str]:
    """Return the names in a cell: `A|B`, `A;B`, `['A', 'B']`; one that holds no separator is one name."""
    text = cell.strip()
    inside = _LIST.match(text)
    if inside:
        return [next(filter(None, found), "").strip() for found in _QUOTED.findall(inside[1])]
    return [name for name in _SEPARATORS.split(text) if name]


def column_classes(
    path: Path, table: pd.DataFrame, cells: pd.Series, positive: str | None, column: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the table with the labels of a column of names: classes, or findings where a cell holds several.

    Raises:
        DataError: Too few classes, or `positive` for findings that occur together.
    """
    texts = cells.str.strip()
    known = ~texts.str.lower().isin(UNKNOWN_CELLS) | texts.str.lower().eq("none")
    lists = texts[known].map(names_in)
    if not lists.map(len).gt(1).any() and not texts[known].str.match(_LIST).any():
        names = texts.where(known, "")
        held = names[names.str.contains(r"\w\s*[,/+&]\s*\w", regex=True)]
        if len(held) and names.nunique() > 2:
            warn(
                table,
                f"{path.name}: {column}: cells such as {held.iloc[0]!r} were taken as one class each; if they name "
                "several findings, separate these by | or ;.",
            )
        return class_labels(path, table, names, sorted(set(names) - {""}), positive, f"{column} is {{}}")
    if positive is not None:
        raise DataError(f"{path}: positive={positive} is of two classes; cells of {column} hold several findings.")
    found = sorted({name for names in lists for name in names if not _is_negative(name)})
    hot = np.full((len(table), len(found)), np.nan)
    for row, names in zip(np.flatnonzero(known.to_numpy()), lists, strict=True):
        hot[row] = [name in names for name in found]
    attrs = {**table.attrs, "meaning": {name: f"1 = {column} has {name}, 0 = it has others or none" for name in found}}
    table = pd.concat([table, pd.DataFrame(hot, table.index, found)], axis=1)
    table.attrs = attrs
    note(table, f"{column}: its cells hold several names; each of {', '.join(found)} became a label.")
    return table, tuple(found)


def _is_negative(name: str) -> bool:
    return re.sub(r"[\s-]+", "_", name.lower()) in NEGATIVE_WORDS


def one_row_per_file(
    path: Path,
    table: pd.DataFrame,
    labels: Sequence[str],
    readers: str | None,
    uncertain: str,
    classes: pd.Series | None,
) -> tuple[pd.DataFrame, list[int]]:
    """Return the table with one row per file, and which rows were kept: labels as `readers` says.

    Args:
        path: Named in messages.
        table: With `path`, `patient`, `split` and the labels.
        labels: Their columns.
        readers: `majority`, `any` or `all`; None refuses rows that disagree, and joins equal ones.
        uncertain: What a tie becomes.
        classes: The cells of a column of classes, which must agree.

    Raises:
        DataError: Rows of a file that disagree, and nobody says how they are joined.
    """
    if readers is not None:
        policy("readers", readers, READERS)
    groups = table.groupby("path", sort=False)
    facts = ["patient", "split"] + ([] if classes is None else ["class"])
    checked = table if classes is None else table.assign(**{"class": classes})
    must_agree = facts + ([] if readers else list(labels))
    unlike = checked.groupby("path", sort=False)[must_agree].nunique(dropna=False).gt(1)
    if unlike.to_numpy().any():
        file = unlike.index[unlike.any(axis=1)][0]
        column = unlike.columns[unlike.loc[file]][0]
        row = int(np.flatnonzero(table["path"] == file)[1])
        ways = " or ".join(f"--option readers={way}" for way in READERS)
        remedy = f"Say how readers are joined: {ways}." if column in labels else "Mend the table."
        raise DataError(
            f"{path}: row {row + 2}: {table['id'].iloc[row]!r} stands twice ({int(table['path'].duplicated().sum()):,} "
            f"repeated in all), and its rows differ in {column}. {remedy}"
        )
    kept = [int(rows[0]) for rows in groups.indices.values()]
    result = table.iloc[kept].reset_index(drop=True)
    result.attrs = table.attrs
    if readers:
        for label in labels:
            result[label] = _joined(groups[label], readers, POLICIES[policy("uncertain", uncertain, POLICIES)])
    done = f"joined by {readers}" if readers else "which say the same were joined"
    if len(result) < len(table):
        note(result, f"{len(table) - len(result):,} further rows of the same files {done}.")
    return result, kept


def _joined(values, readers: str, tie: float) -> np.ndarray:
    """Return one value per group of 0, 1 and NaN; NaN where no reader says anything."""
    mean = values.mean().to_numpy(np.float64)
    if readers == "majority":
        joined = np.where(mean == 0.5, tie, mean > 0.5)
    else:
        joined = np.where(mean > 0, 1.0, 0.0) if readers == "any" else np.where(mean == 1, 1.0, 0.0)
    return np.where(np.isnan(mean), np.nan, joined)
