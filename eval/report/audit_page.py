"""What an audit before a release found: one page of numbers that a data protection officer reads, and JSON."""

from dataclasses import asdict
from typing import Any

from ..statistics.identification import FALSE_MATCHES, Identification
from ..statistics.intervals import Estimate
from .formats import many, number
from .metrics_json import plain

# Above this a stranger finds patients again often enough to say so first; below the second, it is not shown.
LINKS, CHANCE = 0.5, 0.5


def sentences(found: Any) -> list[str]:
    """Say what was found, the worst first: re-identification, membership, the hospital.

    Args:
        found: A `Released` of the stage.
    """
    said = [_linked_sentence(found.trained or found.frozen, found.attack if found.trained else "")]
    if found.member is not None:
        said.append(_member_sentence(found.member))
    if found.shadow is not None:
        said.append(_member_sentence(found.shadow, "the model's losses beside those of heads that never saw the case"))
    for column, (probe, values) in found.probes.items():
        said.append(_probe_sentence(column, probe, values))
    for (label, column), index in found.robustness.items():
        said.append(
            f"Robustness index of {label} against {column}: {_words(index.index)} (0.5 is no preference, 1 sees the "
            f"finding alone; k = {index.neighbours})."
        )
    said.append(_text_sentence(found.text))
    return said


def _text_sentence(text: Any) -> str:
    if text.why:
        return f"Whether text is burned into the pixels was not looked at: {text.why}."
    failed = f"; {text.failed:,} more could not be read" if text.failed else ""
    looked = f"Of {many(text.looked, 'image')} read for text (of {text.of:,}{failed})"
    if not text.with_text:
        return f"{looked} none has text other than markers of side and view in its pixels."
    who = ", ".join(f"{field} in {count:,}" for field, count in text.person.items())
    return f"{looked} {text.with_text:,} {'has' if text.with_text == 1 else 'have'} text in the pixels; " + (
        f"it says who the patient is: {who}." if who else "none of it is in the header or the manifest as patient."
    )


def _linked_sentence(found: Identification, attack: str) -> str:
    how = f"{attack} (on other patients)" if attack else "the features as they are"
    if not found.queries:
        return "Whether patients are found again cannot be said: no patient has two images."
    return (
        f"By {how}, the most similar other image is one of the same patient for {_words(found.precision_at_1)} of "
        f"{found.queries:,} images; pairs of one patient are told from pairs of two with AUROC {_words(found.auroc)}."
    )


def _member_sentence(member: Estimate, by: str = "the model's losses") -> str:
    if member.low is not None and member.low == member.low and member.low > CHANCE:
        return f"Who was trained on can be told from {by}: AUROC {_words(member)}."
    if member.value != member.value:
        return f"Membership by {by}: not computed ({member.reason})."
    return f"Membership by {by}: AUROC {_words(member)}; 0.5 tells nothing."


def _probe_sentence(column: str, probe: Estimate, values: int) -> str:
    if probe.value != probe.value:
        return f"{column}: not probed ({probe.reason})."
    return f"{column} is read from the features with balanced accuracy {_words(probe)}; chance is {1 / values:.2f}."


def _words(found: Estimate) -> str:
    """Return a value with its interval, or with the reason why there is none."""
    if found.value != found.value:
        return f"not computed ({found.reason})"
    if found.low is None or found.low != found.low:
        return number(found.value, 2)
    return f"{number(found.value, 2)} ({number(found.low, 2)} to {number(found.high, 2)})"


def audit_json(found: Any, facts: dict) -> dict:
    """Return what `audit.json` holds: numbers of groups, no id and no name."""
    known = {
        "images": found.images, "patients": found.patients, "failed": found.failed, "negatives_share": found.groups,
        "features": plain(asdict(found.frozen)),
        "head": None if found.trained is None else plain(asdict(found.trained)), "attack": found.attack,
        "by_time": {
            column: {name: plain(asdict(each)) for name, each in bins.items()} for column, bins in found.by_time.items()
        },
        "probes": {name: plain(asdict(probe)) | {"values": values} for name, (probe, values) in found.probes.items()},
        "robustness": [
            {"finding": label, "column": column, "index": plain(asdict(index.index)), "neighbours": index.neighbours,
             "accuracy": index.accuracy, "counted": index.counted}
            for (label, column), index in found.robustness.items()
        ],
        "membership": None if found.member is None else plain(asdict(found.member)) | {"members": found.members},
        "shadow": None if found.shadow is None else plain(asdict(found.shadow)),
        "burned_text": {
            "images_read": found.text.looked, "of": found.text.of, "failed": found.text.failed,
            "with_text": found.text.with_text, "kinds": found.text.kinds, "person": found.text.person,
            "not_looked_at": found.text.why,
        },
        "notes": found.notes, "sentences": sentences(found),
    }  # fmt: skip
    return facts | known


def _by(found: Any) -> list[tuple[str, Identification | None]]:
    return [(found.attack, found.trained), ("the features as they are", found.frozen)]


def audit_page(found: Any, facts: dict) -> str:
    """Return the page as one self-contained HTML text."""
    from .templating import environment, inlined

    templates = environment()
    templates.filters.update(number=number, many=many, words=_words)
    return templates.get_template("audit.html.j2").render(
        found=found,
        facts=facts,
        sentences=sentences(found),
        identification=[(name, each) for name, each in _by(found) if each is not None],
        false_matches=FALSE_MATCHES,
        css=inlined("report.css"),
    )  # fmt: skip
