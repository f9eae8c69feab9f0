"""Models by speed and AUROC, for the page of `compress`: the area of a mark is the size of the file."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..statistics.intervals import Estimate
from .plots import GRID, INK, MODELS, axes_px, short, svg_style, svg_text

_WIDTH, _HEIGHT = 520, 300  # px
_LARGEST = 26.0  # px, the mark of the largest file


class Speed(NamedTuple):
    """One model.

    Attributes:
        name: Of it.
        rate: Cases a second.
        bytes: Of its file.
        auroc: With its interval.
    """

    name: str
    rate: float
    bytes: int
    auroc: Estimate


def speed_plot(models: Sequence[Speed], name: str, alt: str) -> str:
    """Draw AUROC over speed.

    Args:
        models: Those that have an AUROC; others leave no mark.
        name: Of the plot, unique on the page.
        alt: What it shows, in words.
    """
    largest = max(model.bytes for model in models)
    with svg_style(name):
        figure, axes = axes_px(_WIDTH, _HEIGHT, left=58, right=120, top=12, bottom=40)
        texts = {}
        axes.grid(color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        for place, model in enumerate(models):
            value, low, high = model.auroc.value, model.auroc.low, model.auroc.high
            if np.isnan(value):
                continue
            side = _LARGEST * np.sqrt(model.bytes / largest)
            axes.plot([model.rate] * 2, [low, high], color=MODELS[0], lw=1.5)
            axes.plot([model.rate], [value], marker="o", ms=max(side, 4), mfc=MODELS[0], mec=INK, mew=0.6, alpha=0.7)
            texts[f"@{place}@"] = short(model.name, 24)
            axes.annotate(
                f"@{place}@", (model.rate, value), (side / 2 + 4, 3), textcoords="offset points", fontsize=10.5
            )
        ticks = axes.get_yticks()
        texts |= {f"@{100 + place}@": f"{tick:.3g}" for place, tick in enumerate(ticks)}  # digits of a plot are cut
        axes.set_yticks(ticks, [f"@{100 + place}@" for place in range(len(ticks))])
        texts |= {f"@{len(models)}@": "cases a second on one thread", f"@{len(models) + 1}@": "macro AUROC, validation"}
        axes.set_xlim(left=0)
        axes.set_xlabel(f"@{len(models)}@", fontsize=11)
        axes.set_ylabel(f"@{len(models) + 1}@", fontsize=11)
        axes.yaxis.set_label_coords(-0.14, 0.5)  # what stands in for the numbers is longer than they are
        axes.tick_params(labelsize=10.5)
        return svg_text(figure, name, alt, texts)
