"""What the report's section on localisation shows: chosen here, put into words and tables by the template."""

from collections.abc import Mapping
from typing import Any

import markupsafe
import numpy as np

from ..localisation.froc import RATES, Froc
from ..localisation.tiles import Localisation
from ..statistics.intervals import Estimate
from .plots import DASHES, GRID, MODELS, axes_px, svg_style, svg_text

MOST_SLIDES = 200  # listed on the page; report.json lists all
NAMES = {
    "froc": "FROC score",
    **{f"sensitivity_at_{rate:g}": f"Sensitivity at {rate:g} per slide" for rate in RATES},
    "tile_auroc": "Tile AUROC, all tiles together",
    "tile_auroc_mean": "Tile AUROC, mean over slides",
    "dice": "Dice, all tiles together",
    "dice_mean": "Dice, mean over slides with tumour",
}
_LEFT = 0.125  # of the curve's axis, false positives per slide
_STEPS = 160  # points at which a curve is drawn


def localisation_section(
    found: Mapping[str, Localisation], places: Mapping[str, int], pages: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the section's contents; None without any.

    Args:
        found: Model name to its localisation.
        places: Model name to its place among all models of the report, which decides its colour.
        pages: Slide id to the address of its page.
    """
    if not found:
        return None
    own = {name: localisation_metrics(each) for name, each in found.items()}
    score = "; ".join(f"{name} {each.froc.score.value:.3f}" for name, each in found.items())
    drawn = {places[name]: each.froc for name, each in found.items() if each.froc.lesions}
    first_name, first = next(iter(found.items()))
    return {
        "models": [{"name": name, "place": places[name], "found": each} for name, each in found.items()],
        "first": first_name,
        "rows": [(words, [metrics[key] for metrics in own.values()]) for key, words in NAMES.items()],
        "curve": markupsafe.Markup(froc_plot(drawn, "froc", f"FROC curve. Score: {score}.")) if drawn else "",
        "slides": first.slides[:MOST_SLIDES],
        "left_out": max(0, len(first.slides) - MOST_SLIDES),
        "pages": pages,
        "marked": any(estimate.marked for metrics in own.values() for estimate in metrics.values()),
    }


def localisation_metrics(found: Localisation) -> dict[str, Estimate]:
    """Return all metrics of a model by the keys of `NAMES`."""
    at_rates = zip(RATES, found.froc.sensitivities)
    return {
        "froc": found.froc.score,
        **{f"sensitivity_at_{rate:g}": estimate for rate, estimate in at_rates},
        **found.metrics,
    }


def undefined_localisation(model: str, found: Localisation) -> dict[tuple[str, str, str], list[str]]:
    """Return what is NaN, by model, "localisation" and reason; single slides are not listed."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for key, estimate in localisation_metrics(found).items():
        if np.isnan(estimate.value):
            lines.setdefault((model, "localisation", estimate.reason), []).append(key)
    return lines


def froc_plot(curves: Mapping[int, Froc], name: str, alt: str) -> str:
    """Draw sensitivity over false positives per slide (logarithmic), one line per model; the score's rates dotted.

    Args:
        curves: Place of the model among all (its colour) to its curve.
        name: Of the plot, unique on the page.
        alt: What it shows, in words.
    """
    rates = np.geomspace(_LEFT, RATES[-1], _STEPS)
    with svg_style(name):
        figure, axes = axes_px(400, 240, left=36, right=10, top=8, bottom=34)
        axes.set_xscale("log", base=2)
        axes.set(xlim=(_LEFT, RATES[-1]), ylim=(0, 1), yticks=[0, 0.5, 1])
        axes.set_xticks(RATES, ["¼", "½", *(f"{rate:g}" for rate in RATES[2:])])
        axes.set_xticks([], minor=True)
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.tick_params(labelsize=11)
        axes.grid(axis="x", color=GRID, lw=0.8, ls=(0, (1, 2)))
        axes.set_axisbelow(True)
        for place, curve in curves.items():
            values = np.interp(rates, curve.fps_per_slide, curve.sensitivity)
            colour = MODELS[place % len(MODELS)]
            axes.plot(rates, values, color=colour, lw=1.8, ls=DASHES[place % len(DASHES)], clip_on=False)
            axes.plot(
                RATES, [e.value for e in curve.sensitivities], color=colour, mec=colour, ls="none", marker="o", ms=4
            )
        axes.set_xlabel("false positives per slide", fontsize=11)
        axes.set_ylabel("sensitivity for lesions", fontsize=11)
        return svg_text(figure, name, alt, {})
