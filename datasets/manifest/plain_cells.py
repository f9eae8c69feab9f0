"""Cells of tables one by one, without pandas: what is empty, what names nobody, what may have been meant."""

import difflib
import unicodedata
from collections.abc import Iterable

# Every way to write an empty cell, in lower case.
UNKNOWN_CELLS = (
    "", "nan", "na", "n/a", "n.a.", "#n/a", "#nv", "<na>", "none", "null", "(null)", "\\n", "-", "--", "\u2013",
    "\u2014", ".", "?",
)  # fmt: skip
NOBODY = frozenset([*UNKNOWN_CELLS, "<na>", "nat", "#n/a", "unknown", "missing", "not recorded", "-", "--", "?", "."])
DECIMAL_COMMA = r"^([+-]?\d+),(\d+)$"


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ' (did you mean 'x'?)' where something alike exists, else ''."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def visible(name: str) -> str:
    """Return a name without blanks around it, with one between its words, and without invisible signs."""
    words = "".join(sign for sign in name if unicodedata.category(sign) != "Cf").split()
    return " ".join(words)
