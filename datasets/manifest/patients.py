"""Names of patients: none is a blank, and one person under two spellings must not stand in two splits.

Blanks around a name and invisible signs are no other patient, in manifests and predictions alike. `P1` and `p1`, `001`
and `1` may be one person.
"""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from .plain_cells import NOBODY, visible

_MANY = 20  # cases of one patient, and
_SHARE = 0.2  # share of all, from which its name may be a placeholder


def tidy_patients(path: Path, table: pd.DataFrame, fold: bool = False) -> tuple[pd.Series, tuple[str, ...]]:
    """Return the patients of a table, each under one spelling, and sentences on what was put together.

    Args:
        path: What messages call the table.
        table: With `id` and `patient`. Where both are the same, the case is its own patient, whatever its name.
        fold: Whether capitals make no other patient either.

    Raises:
        DataError: A cell is empty or says that the patient is not known.
    """
    cells = table["patient"]
    codes, names = pd.factorize(cells)
    together = "".join(names)  # looked at as one: there may be a million
    tidy_already = together.isascii() and together.isalnum() and all(names)
    plain = pd.Series(names if tidy_already else [visible(name) for name in names], dtype=object)
    nobody = plain.str.casefold().isin(NOBODY).to_numpy()
    wrong = nobody[codes] & ((cells != table["id"]) | (cells.str.strip() == "")).to_numpy()
    if wrong.any():
        row, count = int(wrong.argmax()), int(wrong.sum())
        said = f"is {names[codes[row]]!r}, which names nobody" if plain[codes[row]] else "is empty"
        raise DataError(
            f"{path}: row {row + 2}: the cell 'patient' {said} ({count:,} such cells in all). Fill it in: cases "
            "without a name would count as one patient. Where every case is of another patient, repeat the id there."
        )
    keys = plain.map(lambda name: unicodedata.normalize("NFKC", name).casefold() if fold else name)
    first = dict(zip(keys[::-1], plain[::-1]))
    tidy = keys.map(first).to_numpy(dtype=object)
    note = _together(np.asarray(names, dtype=object), tidy)
    return pd.Series(tidy[codes], index=cells.index), (note,) if note else ()


def doubtful_patients(cells: pd.Series) -> tuple[str, ...]:
    """Return sentences on tidy names that may be one patient under two spellings, or nobody's."""
    sizes, notes = cells.value_counts(), []
    plain = pd.Series([_plain(name) for name in sizes.index], index=sizes.index)
    twice = plain[plain.duplicated(keep=False)].sort_values(kind="stable")
    if len(twice):
        notes.append(
            f"{twice.nunique():,} patients may stand there under two spellings, first {twice.index[0]!r} and "
            f"{twice.index[1]!r}; they count as two. If they are one, spell them alike: intervals are by patient."
        )
    if len(sizes) and sizes.iloc[0] >= max(_MANY, _SHARE * len(cells)):
        notes.append(
            f"{sizes.iloc[0]:,} of {len(cells):,} cases are of patient {sizes.index[0]!r}. If that is a placeholder, "
            "name the patients: intervals are by patient."
        )
    return tuple(notes)


def _together(names: np.ndarray, tidy: np.ndarray) -> str:
    """Say which names were changed, and how many patients had two spellings; empty where none was changed."""
    changed = np.flatnonzero(names != tidy)
    if not len(changed):
        return ""
    merged, first = len(names) - len(set(tidy)), changed[0]
    return (
        f"{len(changed):,} names of patients differ from others by blanks or capitals alone, or have blanks around "
        f"them: first {names[first]!r}, read as {tidy[first]!r}. By that, {merged:,} names became those of other "
        "patients."
    )


def alike_patients(table: pd.DataFrame) -> str | None:
    """Return whether patients of different splits differ by their spelling alone.

    Capitals, signs between words, zeros before a number, or a `.0` that a spreadsheet has put behind one.

    Args:
        table: With `patient` and `split`.

    Returns:
        A sentence for the warnings, or None.
    """
    known = table[["patient", "split"]].drop_duplicates()
    plain = known["patient"].drop_duplicates()
    known = known.assign(plain=known["patient"].map(dict(zip(plain, map(_plain, plain)))))
    spelled = known.groupby("plain", sort=False).agg(patient=("patient", "unique"), split=("split", "nunique"))
    twice = spelled[(spelled["patient"].map(len) > 1) & (spelled["split"] > 1)]
    if twice.empty:
        return None
    first, second = twice["patient"].iloc[0][:2]
    splits = known.drop_duplicates("patient").set_index("patient")["split"]
    return (
        f"{len(twice):,} patients may stand in two splits under two spellings, first {first!r} ({splits[first]}) "
        f"and {second!r} ({splits[second]}). If they are one, spell them alike and split anew (`clinvit prepare "
        "--resplit`)."
    )


def _plain(patient: str) -> str:
    text = unicodedata.normalize("NFKC", patient).casefold().strip()
    text = re.sub(r"(?<=\d)\.0+$", "", text)
    words = re.findall(r"[^\W\d_]+|\d+", text)
    return " ".join(word.lstrip("0") or "0" if word.isdigit() else word for word in words) or text
