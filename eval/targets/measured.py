"""Metrics of one model with their resamples, and the difference of two models under the same ones."""

from dataclasses import dataclass, replace

import numpy as np

from ..statistics.intervals import Estimate, estimates
from ..statistics.resampling import Drawn


@dataclass(frozen=True)
class Measured:
    """M metrics.

    Attributes:
        names: M keys.
        values: (M,) on the cases themselves.
        drawn: The same in the resamples.
        reasons: M texts: why a value is NaN, where it is.
        few: M numbers of patients that decide how far an interval is believed.
        exact: Estimates that are not the bootstrap's.
    """

    names: tuple[str, ...]
    values: np.ndarray
    drawn: Drawn
    reasons: tuple[str, ...]
    few: tuple[int, ...]
    exact: dict[str, Estimate]

    def estimates(self) -> dict[str, Estimate]:
        """Return the metrics with their intervals."""
        return dict(zip(self.names, estimates(self.values, self.drawn, self.reasons, self.few))) | self.exact

    def minus(self, other: "Measured") -> tuple[dict[str, Estimate], dict[str, float]]:
        """Return the differences from another model on the same cases under the same resamples, and their p.

        The p is twice the smaller share of the resamples on one side of zero, never below 2 / (R + 1).
        """
        both = [name for name in self.names if name in other.names]
        here, there = [self.names.index(name) for name in both], [other.names.index(name) for name in both]
        drawn = Drawn(
            self.drawn.resampled[:, here] - other.drawn.resampled[:, there],
            None
            if self.drawn.left_out is None or other.drawn.left_out is None
            else self.drawn.left_out[:, here] - other.drawn.left_out[:, there],
            self.drawn.jackknife,
        )
        gap = replace(
            self, names=tuple(both), values=self.values[here] - other.values[there], drawn=drawn,
            reasons=tuple(self.reasons[i] or other.reasons[j] for i, j in zip(here, there)),
            few=tuple(min(self.few[i], other.few[j]) for i, j in zip(here, there)), exact={},
        )  # fmt: skip
        return gap.estimates(), {name: _two_sided_p(drawn.resampled[:, k]) for k, name in enumerate(both)}


def nothing(names: tuple[str, ...], reason: str) -> Measured:
    """Return metrics that are all undefined, for one reason."""
    count = len(names)
    drawn = Drawn(np.full((2, count), np.nan), None, None)
    return Measured(names, np.full(count, np.nan), drawn, (reason,) * count, (0,) * count, {})


def _two_sided_p(draws: np.ndarray) -> float:
    drawn = draws[~np.isnan(draws)]
    side = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (1 + side) / (1 + len(drawn)))) if len(drawn) else float("nan")
