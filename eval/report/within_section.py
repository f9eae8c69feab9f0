"""The report's section on two models within groups of cases: where each is worst, and who is better in which."""

from collections.abc import Mapping, Sequence

from ..statistics.paired_groups import PairedGroup, WorstGroup
from .metrics_json import estimate_json, plain
from .section import MetricRow, Section

METHODS = (
    "Within groups: the models are compared on the cases of each group by DeLong’s paired test, summed by patient. p "
    "is adjusted by Holm over all groups and findings; with fewer than 10 patients in a class there is none. The "
    "worst group of a model is the one with its smallest AUROC among those with enough patients; having been chosen "
    "by that, it has no interval."
)


def within_section(first: str, found: Mapping[str, tuple[Sequence[PairedGroup], Sequence[WorstGroup]]]) -> Section:
    """Return the section after "Calibration".

    Args:
        first: Name of the first model.
        found: Name of each other model to what was found of both.
    """
    rows = [(other, row) for other, (groups, _) in found.items() for row in groups]
    return Section(
        anchor="within",
        title="Within groups",
        after="calibration",
        content={"first": first, "found": found},
        plain={
            "first": first,
            "groups": [
                {
                    "other": other, "column": row.column, "group": row.group, "label": row.label, "cases": row.cases,
                    "patients": row.patients, "first_auroc": plain(row.first), "other_auroc": plain(row.second),
                    "difference": estimate_json(row.test.difference), "p": plain(row.test.p),
                    "p_holm": plain(row.adjusted),
                }
                for other, row in rows
            ],
            "worst": [
                {
                    "other": other, "column": row.column, "label": row.label, "first_auroc": row.first,
                    "first_group": row.first_group, "other_auroc": row.second, "other_group": row.second_group,
                }
                for other, (_, worst) in found.items()
                for row in worst
            ],
        },
        metrics=[
            MetricRow(
                f"{first} - {other}", row.label, f"within_{row.column}={row.group}_auroc_difference".lower(),
                row.test.difference, row.cases,
            )
            for other, row in rows
        ],
        methods=METHODS,
    )  # fmt: skip
