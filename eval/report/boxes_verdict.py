"""Whether maps may be read as showing where a finding is: one sentence that follows the intervals."""

import numpy as np

from ..localisation.boxes import BASELINES, BoxMetrics
from ..statistics.intervals import Estimate
from .formats import interval, signed

ALL_FINDINGS = -1  # the place of all findings together in the lists of `BoxMetrics`
BASELINE_WORDS = {
    "uniform": "a random place",
    "centre": "the middle of the image",
    "prior": "the usual place (boxes of the other patients)",
}


def localises(found: BoxMetrics) -> bool | None:
    """Return whether the maps point into the boxes more often than each map that knows nothing of the image.

    Judged by the pointing game alone, over all findings: of the three measures only this one cannot be had by a map
    that is merely more or less concentrated. All differences have to exclude 0, so that none needs a correction.

    Returns:
        None where a difference has no interval, for too few patients.
    """
    gains = _gains(found)
    if any(np.isnan(gain.low) for gain in gains.values()):
        return None
    return all(gain.low > 0 for gain in gains.values())


def verdict(found: BoxMetrics) -> str:
    """Return the sentence on one model's maps, over all findings."""
    gains, decided = _gains(found), localises(found)
    share, count = found.metrics["pointing_game"][ALL_FINDINGS].value, found.findings[ALL_FINDINGS]
    hit = f"their maximum lies in a box for {100 * share:.0f} % of {count:,} findings"
    if decided is None:
        reason = next(gain.reason for gain in gains.values() if np.isnan(gain.low))
        return f"Whether these maps show where a finding is cannot be said ({reason}): {hit}; {_against(found)}."
    if decided:
        head = "These maps point at the findings better than maps that know nothing of the image"
        return f"{head}: {hit}; {_against(found)}."
    worse = any(gain.high < 0 for gain in gains.values())
    named = "do worse than" if worse else "are not shown to be better than"
    bases = [base for base, gain in gains.items() if (gain.high < 0 if worse else gain.low <= 0)]
    return (
        f"Do not read these maps as showing where a finding is: they {named} "
        f"{' and '.join(BASELINE_WORDS[base] for base in bases)}; {hit}; {_against(found)}."
    )


def _gains(found: BoxMetrics) -> dict[str, Estimate]:
    return {base: found.gain[base]["pointing_game"][ALL_FINDINGS] for base in BASELINES}


def _against(found: BoxMetrics) -> str:
    """Say what each baseline gets, and the difference with its interval."""
    return ", ".join(
        f"{BASELINE_WORDS[base]} {100 * found.baseline[base]['pointing_game'][ALL_FINDINGS]:.0f} % "
        f"(difference {signed(gain.value, 2)}{_interval(gain)})"
        for base, gain in _gains(found).items()
    )


def _interval(gain: Estimate) -> str:
    return "" if np.isnan(gain.low) else f", {interval(gain, 2, sign=True)}"
