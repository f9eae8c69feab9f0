"""Reporting checklists as a table of the report: what the run knows is filled, the rest is for the authors."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.errors import UserError
from ...datasets.manifest.tables import nearest
from ..statistics.results import ModelResult, Results
from .checklist_items import AUTHORS, CHECKLISTS
from .context import Context
from .formats import many
from .section import Section

FOR_THE_AUTHORS = "for the authors"
_MOST = 12  # labels named


class Item(NamedTuple):
    """One item of a checklist: its number, what is asked, the answer, and whether all of it was found."""

    number: str
    asked: str
    answer: str
    whole: bool


def checked_facts(facts: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return what the authors say, as text by key.

    Raises:
        UserError: A key is unknown, or its value is no text, number or list of these.
    """
    found = {}
    for key, value in facts.items():
        if key not in AUTHORS:
            known = ", ".join(AUTHORS)
            raise UserError(f"{name}: unknown fact {str(key)!r}{nearest(str(key), list(AUTHORS))}: one of {known}.")
        own = value if isinstance(value, list) else [value]
        if any(isinstance(each, list | dict) for each in own):
            raise UserError(f"{name}: the fact {key!r} is neither a text nor a list of texts.")
        text = "; ".join(str(each).strip() for each in own if each is not None)
        if text:
            found[key] = text
    return found


def checklists_section(found: Results, context: Context, sections: Sequence[Section]) -> Section:
    """Return the section at the end of the page.

    Args:
        found: The results.
        context: With the facts of the authors, and what the models were made of.
        sections: The other sections, which some items are answered by.
    """
    known = run_facts(found, context, sections) | dict(context.facts)
    lists = {name: [_item(row, known) for row in rows] for name, rows in CHECKLISTS.items()}
    shown = _said_once(lists)
    missing = {key: words for key, words in AUTHORS.items() if key not in known}
    return Section(
        anchor="checklists",
        title="Checklists",
        after="provenance",
        content={"lists": shown, "missing": missing},
        plain={
            "facts": known,
            "for_the_authors": list(missing),
            "lists": {name: [item._asdict() for item in items] for name, items in lists.items()},
        },
    )


def _said_once(lists: Mapping[str, Sequence[Item]]) -> dict[str, list[Item]]:
    """Return the items with an answer that an earlier one has as a reference to that, for the page."""
    first: dict[str, str] = {}
    found: dict[str, list[Item]] = {}
    for name, items in lists.items():
        found[name] = []
        for item in items:
            where = first.setdefault(item.answer, f"as {name}, {item.number}")
            again = item.answer != FOR_THE_AUTHORS and where != f"as {name}, {item.number}"
            found[name].append(item._replace(answer=where) if again else item)
    return found


def _item(row: tuple[str, str, str], known: Mapping[str, str]) -> Item:
    number, asked, keys = row
    answers = [known[key] for key in keys.split() if key in known]
    open_ones = [AUTHORS[key] for key in keys.split() if key not in known and key in AUTHORS]
    if open_ones and answers:
        answers.append(f"{FOR_THE_AUTHORS}: {', '.join(open_ones)}")
    return Item(number, asked, ". ".join(answers) if answers else FOR_THE_AUTHORS, bool(answers) and not open_ones)


def run_facts(found: Results, context: Context, sections: Sequence[Section]) -> dict[str, str]:
    """Return what the evaluation knows, as text by fact; what it does not know is not there."""
    first, settings = found.models[0], found.evaluation
    there = {section.anchor: section for section in sections}
    facts = {
        "splits": "; ".join(f"{row['split']}: {many(row['cases'], 'case')} of {many(row['patients'], 'patient')}"
                            for row in found.splits),
        "disjoint": "by patient: no patient of the table is in two splits (checked)",
        "flow": f"{first.requested:,} requested, {len(first.table):,} scored, {len(first.failed):,} failed (Cases)",
        "missing": f"{sum(row['unknown'] for row in found.truths):,} truths unknown, which count for no metric of that "
                   f"label; {len(first.failed):,} failed cases, whose bounds are given",
        "failures": f"{many(len(first.failed), 'case')} failed; each is listed with its reason (Failed cases)",
        "imbalance": _imbalance(found),
        "measures": "AUROC, average precision, Brier score; sensitivity, specificity, predictive values, likelihood "
                    "ratios at the threshold; calibration in the large and slope; net benefit",
        "uncertainty": f"95 % intervals by patient, {settings.resamples:,} resamples ({settings.interval}), seed "
                       f"{settings.seed}; none with too few patients (Methods)",
        "output": "a score from 0 to 1 per label; a case is predicted positive at or above the threshold",
        "performance": "Discrimination, Operating points and Calibration, with intervals",
        "wrong": "the most wrong cases are shown (Most wrong cases)",
        "counts": "true and false positives and negatives of each label (Operating points)",
        "audit": "every score stands in the table of predictions, every metric in report.json",
        "meaning": "; ".join(f"{label}: {words}" for label, words in context.meaning.items() if words),
        "thresholds": _thresholds(first),
        **_provenance(context.provenance.get(first.name, {})),
    }  # fmt: skip
    pointers = {
        "subgroups": ("subgroups", "by group, each against all others (Subgroups)"),
        "fairness": ("fairness", "gaps in sensitivity, false-positive rate and calibration between groups (Fairness)"),
        "sites": ("sites", "each site, their mean and a prediction for a further one (Sites)"),
        "cohort": ("cohort", "by split (Cohort)"),
        "readers": ("readers", "readers of the same cases (Readers)"),
        "maps": ("boxes", "maps held against annotated boxes (Boxes)"),
        "abstention": ("abstention", "what is left to the reader (Left to the reader)"),
    }
    facts |= {key: words for key, (anchor, words) in pointers.items() if anchor in there}
    if "seen" in there:
        own = there["seen"].content
        facts["leaks"] = " ".join(own["warnings"] or own["sentences"].get(first.name, []))
    return {key: words for key, words in facts.items() if words}


def _imbalance(found: Results) -> str:
    rows = found.truths[:_MOST]
    words = "; ".join(f"{row['label']} {row['positive']:,} of {row['positive'] + row['negative']:,}" for row in rows)
    return f"positive: {words}" + (f"; and {len(found.truths) - _MOST} more" if len(found.truths) > _MOST else "")


def _thresholds(model: ModelResult) -> str:
    rows = [row for row in model.labels if row.detailed and not np.isnan(row.point.threshold)]
    words = "; ".join(f"{row.label} {row.point.threshold:.3g}, {row.point.source}" for row in rows[:_MOST])
    return words + (f"; and {len(rows) - _MOST} more (Operating points)" if len(rows) > _MOST else "")


def _provenance(own: Mapping[str, Any]) -> dict[str, str]:
    """Return what is known of how the model was made."""
    facts = {}
    if own.get("network"):
        facts["network"] = str(own["network"])
    if own.get("recipe"):
        facts["training"] = "every setting stands under recipe (Provenance)"
        facts["preparation"] = "as the recipe and the card of the model say (Provenance)"
    if own.get("versions"):
        facts["versions"] = ", ".join(f"{name} {version}" for name, version in dict(own["versions"]).items())
    data = own.get("data")
    if isinstance(data, Mapping) and data.get("recalibrated"):
        facts["recalibration"] = f"recalibrated on {data['recalibrated'].get('table', 'another site')}"
    if own.get("start"):
        facts["initial"] = str(own["start"])
    return facts
