"""The verdict of an acceptance as one page that a head of department reads, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from ..statistics.acceptance import MET, NOT_MET, TOO_FEW, Acceptance, Check
from ..target import Lock, Target
from .formats import many, number
from .metrics_json import plain

HEADINGS = {MET: "Met", NOT_MET: "Not met", TOO_FEW: "Not enough cases"}
NAMES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV"}
_KINDS = {"sensitivity": "positive ", "specificity": "negative ", "ppv": "", "npv": ""}


def acceptance_page(found: Acceptance, target: Target, lock: Lock | None, warnings: Sequence[str], model: str) -> str:
    """Return the page as one self-contained HTML text."""
    from .templating import environment, inlined

    templates = environment()
    templates.filters.update(number=number, many=many, words=check_words)
    return templates.get_template("acceptance.html.j2").render(
        found=found,
        target=target,
        lock=lock,
        warnings=warnings,
        model=model,
        heading=HEADINGS[found.verdict],
        sentences=verdict_sentences(found, target),
        asked=asked_words(found, target),
        frequencies=_frequencies(found, target),
        names=NAMES,
        sha256=target.sha256(),
        css=inlined("report.css"),
    )


def acceptance_json(
    found: Acceptance, target: Target, lock: Lock | None, warnings: Sequence[str], model: str
) -> dict[str, object]:
    """Return what `acceptance.json` holds."""
    return {
        "verdict": found.verdict,
        "sentences": verdict_sentences(found, target),
        "warnings": list(warnings),
        "predictions": model,
        "target": target.plain(),
        "target_sha256": target.sha256(),
        "locked": None if lock is None else lock.date,
        "finding": found.label,
        "threshold": {"value": found.threshold, "source": found.source},
        "requested": found.requested,
        "failed": found.failed,
        "unknown_truth": found.unknown,
        "checks": [plain(asdict(check)) | {"words": check_words(check)} for check in found.checks],
    }


def verdict_sentences(found: Acceptance, target: Target) -> list[str]:
    """Say the verdict, what decided it, and how many more cases are needed."""
    sentences = [f"{HEADINGS[found.verdict]}: {asked_words(found, target)}."]
    decisive = [check for check in found.checks if check.verdict == found.verdict or found.verdict == TOO_FEW]
    for check in decisive:
        if found.verdict != TOO_FEW or check.verdict == TOO_FEW:
            where = f" ({check.group})" if check.group else ""
            sentences.append(f"{NAMES[check.metric]}{where}: {check_words(check)}.")
    if found.failed:
        sentences.append(f"{found.failed:,} of {found.requested:,} requested cases failed; they count as wrong.")
    if found.unknown:
        sentences.append(f"{found.unknown:,} cases have no known truth and do not count.")
    return sentences


def asked_words(found: Acceptance, target: Target) -> str:
    """Return what was asked for: `sensitivity of at least 0.9 for Pneumonia, with 95 % confidence`."""
    least = " and ".join(f"{NAMES[name] if len(name) == 3 else name} of at least {value:g}"
                         for name, value in target.minimum.items())  # fmt: skip
    where = f", also in each group of {' and of '.join(target.subgroups)}" if target.subgroups else ""
    margin = f", less a margin of {target.margin:g}" if target.margin else ""
    at = f", at a prevalence of {100 * target.prevalence:g} %" if target.prevalence is not None else ""
    return f"{least} for {found.label}{margin}{at}, with {100 * target.confidence:g} % confidence{where}"


def check_words(check: Check) -> str:
    """Say what the cases show of one metric, and what is missing."""
    if not check.cases or np.isnan(check.value):
        missing = f"no {_KINDS[check.metric]}case"
        return missing + (f"; about {check.needed:,} are needed" if check.needed else "")
    seen = f"{number(check.value)}"
    if check.hits is not None:
        seen += f" ({check.hits:,} of {many(check.cases, f'{_KINDS[check.metric]}case')})"
    if check.verdict == MET:
        return f"{seen}, and at least {number(check.low)}"
    if check.verdict == NOT_MET:
        return f"{seen}, and at most {number(check.high)}, which is below {check.floor:g}"
    seen += f"; these cases show at least {number(check.low)}, and "
    if check.needed is None:
        return f"{seen}at this rate no number of cases would show {check.floor:g}"
    kind = _KINDS[check.metric]
    whole = f" (about {check.needed_in_all:,} of any kind)" if kind and check.needed_in_all else ""
    return f"{seen}about {check.needed:,} further {kind}cases like these{whole} would show {check.floor:g}"


def _frequencies(found: Acceptance, target: Target) -> str:
    """Say what this does for 1,000 patients at the stated prevalence; empty where it or a rate is not known."""
    rates = {check.metric: check.value for check in found.checks if not check.group}
    if target.prevalence is None or not {"sensitivity", "specificity"} <= set(rates):
        return ""
    if np.isnan(rates["sensitivity"] + rates["specificity"]):
        return ""
    ill = round(1000 * target.prevalence)
    caught, cleared = round(ill * rates["sensitivity"]), round((1000 - ill) * rates["specificity"])
    return (
        f"Of 1,000 patients of whom {ill} have {found.label}, {caught} would be found and {ill - caught} missed; of "
        f"the {1000 - ill} others, {cleared} would be rightly cleared and {1000 - ill - cleared} be false alarms."
    )
