"""The answer to a question with a margin, in one sentence."""

import numpy as np

from ..statistics.margins import REFUTED, SHOWN, MarginTest
from ..statistics.questions import EQUIVALENCE
from .formats import interval, p_value, signed

_NAMES = {"auroc": "AUROC", "average_precision": "average precision"}


def margin_sentence(first: str, other: str, found: MarginTest) -> str:
    """Say what was asked, and whether the cases show it."""
    question = found.question
    metric = _NAMES.get(question.name, question.name) + (f" for {found.label}" if found.label else "")
    both = question.question == EQUIVALENCE
    who = f"Equivalence of {first} and {other}" if both else f"Non-inferiority of {first} to {other}"
    asked = f"{who} in {metric} with a margin of {question.margin:g}"
    if not found.verdict:
        why = found.difference.reason or "there is no interval"
        return f"{asked}: no verdict ({why})."
    ci = f"difference {signed(found.difference.value)}, 95 % CI {interval(found.difference, 3, sign=True)}"
    if found.verdict == SHOWN:
        return f"{asked}: shown ({ci}; p {_p(found.p)})."
    if found.verdict == REFUTED:
        beyond = "the models differ by more" if both else f"{first} is worse by more"
        return f"{asked}: refuted, {beyond} ({ci})."
    more = (
        "with this difference no number of cases would show it"
        if found.needed is None
        else f"about {found.needed:,} further cases like these are needed"
    )
    return f"{asked}: not shown ({ci}); {more}."


def margin_plain(found: MarginTest) -> dict:
    """Return the same for `report.json`, less the difference itself."""
    return {
        "question": found.question.question,
        "metric": found.question.name,
        "label": found.label,
        "margin": found.question.margin,
        "verdict": found.verdict,
        "p": None if np.isnan(found.p) else found.p,
        "needed": found.needed,
    }


def _p(p: float) -> str:
    shown = p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"
