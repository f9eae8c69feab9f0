"""Balance of an archive: of what there is most, fewer cases; of what is rare, all.

The rule is MetaCLIP's (Xu et al., ICLR 2024): a case has entries (its findings, view, site, scanner, age band); an
entry that `count` cases have is kept with probability p = t / max(count, t), so that about t of them stay; a case stays
if one of its entries keeps it. In place of a random generator a keyed hash of the patient is drawn, which is our own
change: the result does not depend on the order of the cases, a repeated command gives the same one, and an archive that
grows keeps most of what it kept. The cases of a patient share their draw and the rarest entry of all of them, so a
patient stays whole or goes whole.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.errors import DataError, UserError
from ...core.secret import message_code
from ..manifest.cells import UNKNOWN_CELLS, nearest
from ..manifest.columns import MISSING, fact, years
from ..manifest.tables import KEYS, Manifest

FINDINGS = "findings"  # in place of the names of all labels
AGE = "age"
UNKNOWN = "unknown"
BAND_YEARS = 10
MOST_NAMED = 20
DRAWS = 2**53  # all whole numbers below are exact in float64


class Balance(NamedTuple):
    """What balancing keeps.

    Attributes:
        kept: (N,) whether a case stays.
        chance: (N,) with which probability its patient stays.
        entries: A row per entry, the most frequent first: `entry, count, p, kept`.
    """

    kept: np.ndarray
    chance: np.ndarray
    entries: pd.DataFrame


def case_entries(manifest: Manifest, columns: Sequence[str]) -> pd.DataFrame:
    """Return the entries of N cases as `row, entry`; every case has one of each column, of the labels one or more.

    Labels are taken together: a case has those that are 1, else `finding=none`, or `finding=unknown` where no cell is
    known. Ages are in bands of ten years. A cell that says nothing is an entry of its own, `site=unknown`.

    Args:
        manifest: The cases.
        columns: Labels, `findings` for all of them, and other columns, by their names or as of `columns.fact`.

    Raises:
        DataError: There is no such column.
    """
    wanted, labels = [], []
    for name in dict.fromkeys(columns):
        if name == FINDINGS and name not in manifest.table:
            if not manifest.labels:
                raise DataError(f"{manifest.path}: no label column, so there are no {FINDINGS} to balance over.")
            labels += manifest.labels
        elif name in manifest.labels:
            labels.append(name)
        else:
            wanted.append(column_of(manifest, name))
    parts = [_findings(manifest.table[list(dict.fromkeys(labels))])] if labels else []
    for column in dict.fromkeys(wanted):
        cells = _bands(manifest.table[column]) if fact(column) == AGE else words(manifest.table[column])
        parts.append(pd.DataFrame({"row": np.arange(len(cells)), "entry": f"{column}=" + cells.to_numpy(object)}))
    return pd.concat(parts, ignore_index=True)


def column_of(manifest: Manifest, name: str) -> str:
    """Return the column of a manifest that a name means: its own, or the one of that fact (`view`: `View Position`).

    Raises:
        DataError: There is none, or two; or it is the id, path or split.
    """
    table = manifest.table
    usable = [column for column in table if column not in KEYS]
    found = [name] if name in usable else [column for column in usable if fact(column) == name]
    if len(found) > 1:
        raise DataError(f"{manifest.path}: {len(found)} columns say the {name}, {', '.join(found)}: name one of them.")
    if not found:
        there = (
            f"it has {', '.join(usable[:MOST_NAMED])}{', ...' * (len(usable) > MOST_NAMED)}"
            if usable
            else "it has none"
        )
        raise DataError(f"{manifest.path}: no column {name!r}{nearest(name, usable)} beside its keys; {there}.")
    return found[0]


def balanced(entries: pd.DataFrame, patients: Sequence[str], most: int, key: str) -> Balance:
    """Return which cases stay.

    Args:
        entries: Of N cases, as of `case_entries`; each case has at least one.
        patients: N names.
        most: Of an entry, how many cases stay on average (t); more where patients have rarer entries too.
        key: Of the draws.

    Raises:
        UserError: `most` is below 1, or the key is too short.
    """
    if most < 1:
        raise UserError(f"--per-entry {most}: at least 1 case of each entry.")
    of, names = pd.factorize(entries["entry"], sort=True)
    counts = np.bincount(of, minlength=len(names))
    p = most / np.maximum(counts, most)
    rows = entries["row"].to_numpy()
    codes, people = pd.factorize(np.asarray(patients, object))
    chance = np.zeros(len(people))
    np.maximum.at(chance, codes[rows], p[of])
    kept = (np.array([draw(person, key) for person in people]) < chance)[codes]
    table = pd.DataFrame(
        {"entry": names, "count": counts, "p": p, "kept": np.bincount(of[kept[rows]], None, len(names))}
    )
    table = table.sort_values(["count", "entry"], ascending=[False, True], ignore_index=True)
    return Balance(kept, chance[codes], table)


def draw(patient: str, key: str) -> float:
    """Return the draw of a patient, 0 to 1 (1 excluded): the HMAC-SHA256 of the name mod 2^53, over 2^53."""
    return int(message_code(key, os.fsencode(patient)), 16) % DRAWS / DRAWS


def words(cells: pd.Series) -> pd.Series:
    """Return the cells of a column without blanks around them, `unknown` where they say nothing."""
    texts = cells.astype(str).str.strip()
    return texts.mask(texts.str.lower().isin({*UNKNOWN_CELLS, *MISSING}), UNKNOWN)


def _findings(labels: pd.DataFrame) -> pd.DataFrame:
    values = labels.to_numpy(np.float64)
    rows, places = np.nonzero(values == 1)
    without = np.flatnonzero(~(values == 1).any(axis=1))
    state = np.where(np.isnan(values[without]).all(axis=1), UNKNOWN, "none")
    entries = [*np.asarray(labels.columns, object)[places], *state]
    return pd.DataFrame({"row": [*rows, *without], "entry": [f"finding={entry}" for entry in entries]})


def _bands(cells: pd.Series) -> pd.Series:
    numbers = years(cells)
    low = (numbers // BAND_YEARS * BAND_YEARS).astype("Int64")
    bands = low.astype(str) + "-" + (low + BAND_YEARS - 1).astype(str)
    return bands.where(low.notna(), UNKNOWN).astype(object)
