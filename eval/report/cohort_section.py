"""The report's section on who the cases are."""

from typing import Any

from ..statistics.cohort import Cohort, Column, Count, Quartiles
from .section import Section


def cohort_section(found: Cohort) -> Section:
    """Return the section after "Cases", with its contents for the page and for `report.json`."""
    columns = [_plain_column(found, column) for column in found.columns]
    return Section(
        anchor="cohort",
        title="Cohort",
        after="cases",
        content={"cohort": found, "quartiles": quartiles_text, "share": share_text},
        plain={
            "splits": {split: size._asdict() for split, size in zip(found.splits, found.sizes)},
            "columns": columns,
            "left_out": found.left_out,
        },
    )


def quartiles_text(quartiles: Quartiles) -> tuple[str, str]:
    """Return `58 (45–67)` and `0–94`; two en dashes where nothing is recorded."""
    if quartiles.median != quartiles.median:
        return "–", ""
    median, lower, upper, smallest, largest = (f"{value:,.4g}".replace("-", "−") for value in quartiles)
    return f"{median} ({lower}–{upper})", f"{smallest}–{largest}"


def share_text(count: Count, recorded: int) -> str:
    """Return `46.0 %` of the recorded cases; empty where there are none."""
    return f"{100 * count.cases / recorded:.1f} %" if recorded else ""


def _plain_column(found: Cohort, column: Column) -> dict:
    by_split = {}
    for i, split in enumerate(found.splits):
        own: dict[str, Any] = {"recorded": column.recorded[i], "missing": column.missing[i]}
        if column.quartiles:
            own |= column.quartiles[i]._asdict()
        else:
            own["categories"] = {name: counts[i]._asdict() for name, counts in column.categories.items()}
        by_split[split] = own
    return {"column": column.name, "splits": by_split}
