"""Differences between two models, one line per finding, for the report's section on comparisons."""

from collections.abc import Sequence

import numpy as np

from ..statistics.intervals import Estimate
from .plots import MODELS, MUTED, PAPER, row_axes, svg_style, svg_text

_LEAST = 0.05  # the axis shows at least so much on either side of 0


def difference_forest(
    labels: Sequence[str], rows: Sequence[Estimate], filled: Sequence[bool], axis: str, name: str, alt: str
) -> str:
    """Draw differences with their intervals around a line at 0.

    Args:
        labels: L names, top to bottom.
        rows: L differences; an undefined one leaves its line empty.
        filled: Whether each mark is filled.
        axis: What the differences are of.
        name: Of the plot, unique on the page.
        alt: What it shows, in words.
    """
    ends = [abs(end) for e in rows for end in (e.value, e.low, e.high) if not np.isnan(end)]
    reach = 1.06 * max([*ends, _LEAST])
    with svg_style(name):
        figure, axes, texts = row_axes(labels, 21 * len(labels) + 42, bottom=38)
        axes.set_xlim(-reach, reach)
        axes.locator_params(axis="x", nbins=6)
        axes.axvline(0, color=MUTED, lw=0.9, ls=(0, (1, 2)))
        axes.hlines(range(len(rows)), [e.low for e in rows], [e.high for e in rows], color=MODELS[0], lw=1.5)
        for y, (estimate, full) in enumerate(zip(rows, filled)):
            face = MODELS[0] if full else PAPER
            axes.plot([estimate.value], [y], marker="o", ms=6, mfc=face, mec=MODELS[0], mew=1.4, clip_on=False)
        texts[f"@{len(labels)}@"] = axis
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}".replace("-", "−") if round(value, 9) else "0")
        axes.set_xlabel(f"@{len(labels)}@", fontsize=11)
        return svg_text(figure, name, alt, texts)
