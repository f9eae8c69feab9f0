"""What a test does for so many patients like these, in whole people: what a clinician tells a patient."""

import numpy as np

from ..statistics.failures import AS_WRONG
from ..statistics.results import LabelResult

_SIZES = (100, 1000, 10_000)


def natural_frequencies(label: LabelResult) -> dict | None:
    """Return the counts among 100 patients, or among 1,000 or 10,000 of a rare finding; None without a threshold.

    They follow from sensitivity and specificity at the stated prevalence, else at that of the requested cases; failed
    ones count as wrong.

    Returns:
        `of`, `prevalence`, `with_finding`, `found`, `missed`, `without_finding`, `cleared`, `false_alarms`,
        and `words`.
    """
    ending = AS_WRONG if f"sensitivity{AS_WRONG}" in label.metrics else ""
    sensitivity, specificity = (label.metrics.get(f"{name}{ending}") for name in ("sensitivity", "specificity"))
    if sensitivity is None or specificity is None or np.isnan(sensitivity.value + specificity.value):
        return None
    stated = not np.isnan(label.prevalence)
    prevalence = label.prevalence if stated else _prevalence(label)
    # So many that rounding leaves some with the finding and some without.
    size = next((size for size in _SIZES if size * min(prevalence, 1 - prevalence) >= 2), _SIZES[-1])
    ill = round(size * prevalence)
    found, cleared = round(ill * sensitivity.value), round((size - ill) * specificity.value)
    own = {
        "of": size, "prevalence": prevalence, "with_finding": ill, "found": found, "missed": ill - found,
        "without_finding": size - ill, "cleared": cleared, "false_alarms": size - ill - cleared,
    }  # fmt: skip
    where = f"patients where {100 * prevalence:.3g} % have it" if stated else "patients like these"
    missed, alarms = ("missed or not read", "false alarms or not read") if ending else ("missed", "false alarms")
    return own | {
        "words": f"Of {size:,} {where}, {ill:,} have {label.label}: {found:,} are found and {ill - found:,} {missed}. "
        f"Of the {size - ill:,} without it, {cleared:,} are rightly cleared and {size - ill - cleared:,} are {alarms}."
    }


def _prevalence(label: LabelResult) -> float:
    flow = label.flow
    assert flow is not None, "a label with metrics has cases"
    positive, negative = flow.positive + flow.failed_positive, flow.negative + flow.failed_negative
    return positive / (positive + negative)
