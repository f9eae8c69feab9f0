"""Patients under two spellings: `P1` and `p1`, `001` and `1` may be one person, who must not stand in two splits."""

import re
import unicodedata

import pandas as pd


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
