"""Rules for thresholds: how one is chosen on validation cases, or the cut-off that a protocol has locked."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...core.errors import UserError

ALL = ""  # the key of a rule for all labels that have none of their own
DEFAULT = "youden"
_SHARE = r"0?\.\d+|1(?:\.0*)?"
_COST = r"(\d+\.?\d*|\.\d+)"
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"


class Rule(NamedTuple):
    """A threshold rule, read.

    Attributes:
        kind: `youden`, `sensitivity`, `specificity`, `cost` or `fixed`.
        level: The share or the threshold.
        missed, alarm: Costs of a missed case and of a false alarm.
        prevalence: For the cost; NaN is that of the validation cases.
    """

    kind: str
    level: float = float("nan")
    missed: float = float("nan")
    alarm: float = float("nan")
    prevalence: float = float("nan")


def parse_rule(rule: str) -> Rule:
    """Read a rule as `operating_points.choose` takes it.

    Raises:
        UserError: It is none.
    """
    if rule == "youden":
        return Rule("youden")
    if re.fullmatch(_NUMBER, rule, re.IGNORECASE):
        if not 0 <= float(rule) <= 1:
            raise UserError(f"threshold {rule}: scores are probabilities, so a cut-off lies within 0..1, such as 0.31.")
        return Rule("fixed", float(rule))
    named = re.fullmatch(rf"(sensitivity|specificity)=({_SHARE})", rule)
    if named and float(named[2]) > 0:
        return Rule(named[1], float(named[2]))
    cost = re.fullmatch(rf"cost={_COST}:{_COST}(?:@(0?\.\d+))?", rule)
    if cost and float(cost[1]) > 0 and float(cost[2]) > 0 and (cost[3] is None or float(cost[3]) > 0):
        prevalence = float("nan") if cost[3] is None else float(cost[3])
        return Rule("cost", missed=float(cost[1]), alarm=float(cost[2]), prevalence=prevalence)
    raise UserError(
        f"threshold rule {rule!r}: use `youden`, `sensitivity=0.9`, `specificity=0.9` (any share up to 1), `cost=10:1` "
        "(a missed case costs ten false alarms), `cost=10:1@0.02` (at a prevalence of 2 %), or a cut-off such as "
        "`0.31`; for one finding `Effusion=0.31`."
    )


def read_rules(texts: Sequence[str]) -> str | dict[str, str] | None:
    """Read what was written for thresholds: rules for all labels or for one, `LABEL=RULE`, also with commas between.

    Returns:
        None of no text, the rule where one is for all labels, else rules by label (`ALL` for the others).

    Raises:
        UserError: A rule is none, or two are for the same label.
    """
    found: dict[str, str] = {}
    for text in texts:
        for label, rule in _pairs(text):
            if label in found:
                whose = f"{label!r}" if label else "all findings"
                raise UserError(f"--threshold: two rules for {whose}, {found[label]} and {rule}. Name one.")
            found[label] = rule
    return found.get(ALL) if not found or set(found) == {ALL} else found


def rules_of(rule: str | float | Mapping[str, str | float] | None) -> dict[str, str]:
    """Return rules by label, `ALL` for those without one of their own; empty where none was asked for.

    Raises:
        UserError: One is no rule.
    """
    if rule is None:
        return {}
    by_label = rule if isinstance(rule, Mapping) else {ALL: rule}
    found = {label: own if isinstance(own, str) else f"{own:.10g}" for label, own in by_label.items()}
    for own in found.values():
        parse_rule(own)
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return label and rule of each part between commas; a part without a rule is the beginning of a label."""
    found, begun = [], ""
    for part in text.split(","):
        begun = f"{begun},{part}" if begun else part
        pair = _pair(begun.strip())
        if pair is not None:
            found.append(pair)
            begun = ""
    if begun or not found:
        label, sign, rule = begun.strip().rpartition("=")
        known = not sign or label in ("sensitivity", "specificity", "cost")
        parse_rule(begun.strip() if known else rule)  # raises with what is wrong
        raise UserError(f"--threshold {text!r}: write RULE, or LABEL=RULE,LABEL=RULE.")
    return found


def _pair(text: str) -> tuple[str, str] | None:
    """Return label and rule; the rule is the longest ending that is one."""
    places = [-1, *(i for i, sign in enumerate(text) if sign == "=")]
    for place in places:
        rule = text[place + 1 :].strip()
        try:
            parse_rule(rule)
        except UserError:
            continue
        return text[: max(place, 0)].strip(), rule
    return None
