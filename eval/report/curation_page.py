"""What `clinvit curate` kept of an archive and why the rest went: one page of numbers that a clinician reads."""

from collections.abc import Mapping
from typing import Any

from .formats import many

# What each rule is, in the order in which the rules are asked.
RULES = {
    "view": "another view than those asked for",
    "broken": "the file could not be read",
    "blank": "one grey level: nothing is shown",
    "copy": "the same image, or nearly, as one that stays",
    "unlike the target": "no image of the target list falls into its cluster",
    "balance": "its patient was drawn out, so that frequent findings, views or sites weigh less",
}


def curation_page(facts: Mapping[str, Any], unit: str) -> str:
    """Return the page as one self-contained HTML text; it names no case.

    Args:
        facts: What `curation.json` holds.
        unit: What a case is.
    """
    from .templating import environment, inlined

    templates = environment()
    templates.filters.update(many=many, share=_share)
    return templates.get_template("curation.html.j2").render(
        facts=facts, unit=unit, rules=RULES, css=inlined("report.css")
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
