"""The report's drawings as inline SVG: small, transparent, with text as text and colours from the page's CSS.

Matplotlib draws with stand-in colours and stand-in texts; both are exchanged in the finished SVG: colours for
CSS variables (so dark mode and print need no second drawing), texts for the labels, escaped by us (so no
label is ever read as mathematics, as markup, or as a glyph that a font lacks).
"""

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from ..statistics.calibration import Calibration
from ..statistics.curve_bands import POINTS, Band
from ..statistics.intervals import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#000001", "#000002", "#000003", "#000004"
MODELS = ("#000011", "#000012", "#000013", "#000014")  # then they repeat, with other dashes
DASHES = ((0, ()), (0, (4, 1.6)), (0, (1, 1.4)), (0, (5, 1.5, 1, 1.5)))
MARKS = "osD^"  # a model's mark, where it has one
Line = tuple[np.ndarray, np.ndarray]  # x and y of its points
Point = tuple[float, float]  # x and y; NaN where there is none
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    stand_in: f"model-{i + 1}" for i, stand_in in enumerate(MODELS)
}
_STYLE = {
    "svg.fonttype": "none",
    "path.simplify": True,
    "font.size": 8.5,
    "axes.linewidth": 0.8,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelpad": 2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "text.usetex": False,
}
# Ids that Matplotlib gives to the parts of a figure; those that we give, and those of what is used again, are others.
_OWN_IDS = r' id="(figure|axes|patch|line2d|text|[xy]tick|matplotlib\.axis|\w+Collection|legend)_\d+"'
_PANEL = (150, 146)  # px
_LARGE = (300, 284)  # px, of the one panel that the page begins with
_HISTOGRAM = 46  # px under a calibration panel
_BARS = 20  # of a histogram of scores
_FINEST = 150  # curve points are rounded to this fraction of the panel's side, which no eye can tell


def roc_panel(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    bands: Sequence[Band | None],
    points: Sequence[Point],
    name: str,
    alt: str,
    *,
    large: bool = False,
) -> str:
    """Draw ROC curves of M models for one label, with their bands; "" if none has both classes.

    Args:
        curves: M pairs of truth (N,) and score (N,).
        bands: M bands; None where there is none.
        points: M operating points, 1 - specificity and sensitivity; NaN where a model has no threshold.
        name: Of the plot, unique on the page.
        alt: What it shows, in words.
        large: Draw it to be looked at alone.
    """
    lines: list[Line | None] = []
    for truth, score in curves:
        known = ~np.isnan(truth)
        if len(np.unique(truth[known])) == 2:
            lines.append(_thinned(*roc_curve(truth[known], score[known])[:2]))
        else:
            lines.append(None)
    names = ("1 − specificity", "sensitivity")
    return _curves_panel(lines, bands, points, ([0, 1], [0, 1]), names, name, alt, large)


def pr_panel(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    bands: Sequence[Band | None],
    points: Sequence[Point],
    name: str,
    alt: str,
) -> str:
    """Draw precision over recall as the steps that average precision sums; dotted is the prevalence.

    The arguments are those of `roc_panel`; the operating points are sensitivity and PPV.
    """
    lines: list[Line | None] = []
    prevalence = 0.0
    for truth, score in curves:
        known = ~np.isnan(truth)
        if len(np.unique(truth[known])) == 2:
            precision, recall, _ = precision_recall_curve(truth[known], score[known], drop_intermediate=True)
            # Between two recalls the step has the precision of the higher one (both arrays fall in recall).
            lines.append(_thinned(np.repeat(recall[::-1], 2)[1:-1], np.repeat(precision[-2::-1], 2)))
            prevalence = truth[known].mean()
        else:
            lines.append(None)
    return _curves_panel(lines, bands, points, ([0, 1], [prevalence] * 2), ("recall", "precision"), name, alt)


def calibration_panel(
    calibrations: Sequence[Calibration], curves: Sequence[tuple[np.ndarray, np.ndarray]], name: str, alt: str
) -> str:
    """Draw the flexible curve with its band, and the observed share over the mean score by bins.

    Perfect calibration is dotted. Where there is no curve, the bins have intervals and are joined by a line.

    Below it stand the scores: a histogram of the positive cases upwards and of the negative ones downwards, each as
    shares of its own class; scores beyond the axis are in the last bar.

    Args:
        calibrations: Of M models.
        curves: M pairs of truth (N,) and score (N,).
        name: Of the plot, unique on the page.
        alt: What it shows, in words.
    """
    if not any(len(own.cases) for own in calibrations):
        return ""
    highest = max(max(*own.mean_score, *(e.value for e in own.observed)) for own in calibrations if len(own.cases))
    side = next(side for side in (0.1, 0.2, 0.5, 1) if highest <= side)  # rare findings would hide in a corner
    with svg_style(name):
        figure, axes, below = _square_with_strip(side)
        axes.plot([0, side], [0, side], color=MUTED, lw=0.8, ls=(0, (1, 2)))
        for i, own in enumerate(calibrations):
            colour, dashes = MODELS[i % len(MODELS)], DASHES[i % len(DASHES)]
            _calibration(axes, own, side, colour, dashes, i)
        axes.set_ylabel("observed share")
        _scores_by_truth(below, curves, side)
        return svg_text(figure, name, alt, {})


def _calibration(axes: "Axes", own: Calibration, side: float, colour: str, dashes: tuple, model: int) -> None:
    """Draw the calibration of one model."""
    observed, curve = [estimate.value for estimate in own.observed], own.curve
    marks: dict[str, Any] = {"color": colour, "marker": "o", "ms": 2.6, "clip_on": False}
    if not len(curve.score):
        low, high = ([getattr(e, end) for e in own.observed] for end in ("low", "high"))
        # One path with gaps: a line each would repeat its style.
        x, ends = (np.repeat(own.mean_score, 3), np.column_stack([low, high, np.full(len(low), np.nan)]).ravel())
        axes.plot(x, ends, color=colour, lw=1, alpha=0.45)
        axes.plot(own.mean_score, observed, lw=1.3, ls=dashes, **marks)
        return
    axes.plot(own.mean_score, observed, ls="none", **marks)
    x, *lines = (each[::2] for each in (curve.score, curve.observed, curve.low, curve.high))  # enough for a small panel
    middle, low, high = (np.minimum(line, side) for line in lines)
    axes.fill_between(x, low, high, color=colour, alpha=0.16, lw=0).set_gid(f"calibration-band-{model}")
    axes.plot(x, middle, color=colour, lw=1.5, ls=dashes, gid=f"calibration-curve-{model}")


def _scores_by_truth(axes: "Axes", curves: Sequence[tuple[np.ndarray, np.ndarray]], side: float) -> None:
    """Draw histograms of scores, positive cases upwards, negative ones downwards."""
    edges = np.linspace(0, side, _BARS + 1)
    highest = {1: 0.0, 0: 0.0}
    for i, (truth, score) in enumerate(curves):
        for kind, sign in ((1, 1), (0, -1)):
            own = np.clip(score[truth == kind], 0, side)
            if not len(own):
                continue
            share = np.histogram(own, edges)[0] / len(own)
            highest[kind] = max(highest[kind], share.max())
            lines = axes.stairs(
                sign * share, edges, color=MODELS[i % len(MODELS)], fill=len(curves) == 1, lw=1, alpha=0.75
            )
            lines.set_gid(f"scores-{('negative', 'positive')[kind]}-{i}")
    axes.axhline(0, color=MUTED, lw=0.8)
    axes.set_ylim(-1.05 * (highest[0] or 1), 1.05 * (highest[1] or 1))
    for words, place in (("pos.", 0.75), ("neg.", 0.25)):
        axes.text(-0.03, place, words, transform=axes.transAxes, ha="right", va="center", fontsize=7.5, color=MUTED)


def forest(
    labels: Sequence[str], counts: Sequence[str], rows: Sequence[Sequence[Estimate]], name: str, alt: str
) -> str:
    """Draw AUROCs with intervals: one line per label and in it one mark per model.

    A mark is hollow where its estimate has a reservation (too few patients); where it has no interval, that is said.

    Args:
        labels: L names, top to bottom.
        counts: L texts beside the names: how many positive cases.
        rows: M models, L estimates each; an undefined one leaves its line empty.
        name: Of the plot, unique on the page.
        alt: What it shows, in words.
    """
    models = len(rows)
    pitch = 13 + 8 * models
    ends = [end for row in rows for e in row for end in (e.value, e.low) if not np.isnan(end)]
    left = max(0.0, np.floor(min([*ends, 0.5]) * 10) / 10)
    with svg_style(name):
        figure, axes, texts = row_axes(labels, len(labels) * pitch + 52, left=186, top=18)
        axes.set_xlim(left, 1)
        axes.set_xticks(np.arange(1, left - 0.01, -0.1 if left >= 0.4 else -0.2))
        axes.axvline(0.5, color=MUTED, lw=0.8, ls=(0, (1, 2)))
        axes.set_xlabel("AUROC (95 % interval)", fontsize=11)
        axes.tick_params(axis="y", pad=50)
        beside = axes.get_yaxis_transform()
        for y, count in enumerate(counts):
            stand_in = f"@{len(labels) + y}@"
            texts[stand_in] = count
            axes.text(-0.02, y, stand_in, transform=beside, ha="right", va="center", fontsize=11, color=MUTED)
        axes.text(-0.02, -0.75, "positive", transform=beside, ha="right", va="bottom", fontsize=10, color=MUTED)
        for i, row in enumerate(rows):
            colour, offset = MODELS[i % len(MODELS)], (i - (models - 1) / 2) * 9 / pitch
            for y, estimate in enumerate(row):
                _mark(axes, estimate, y + offset, colour, MARKS[i % len(MARKS)], f"row{y}-model{i}")
        return svg_text(figure, name, alt, texts)


def _mark(axes: "Axes", estimate: Estimate, y: float, colour: str, marker: str, gid: str) -> None:
    """Draw one estimate of a forest plot with its interval; hollow where it is not to be trusted."""
    if np.isnan(estimate.value):
        return
    alone, kind = np.isnan(estimate.low), "hollow" if estimate.marked else "filled"
    if not alone:
        axes.hlines(y, estimate.low, estimate.high, color=colour, lw=1.5, ls=(0, (2, 1.5)) if estimate.marked else "-")
    face = PAPER if estimate.marked else colour
    axes.plot(
        [estimate.value], [y], marker=marker, ms=5, mfc=face, mec=colour, mew=1.3, clip_on=False, gid=f"{kind}-{gid}"
    )
    if alone:
        low, high = axes.get_xlim()
        right = estimate.value > (low + high) / 2
        at = estimate.value + (-0.035 if right else 0.035) * (high - low)
        axes.text(at, y, "no interval", ha="right" if right else "left", va="center", fontsize=9.5, color=MUTED)


def _curves_panel(
    lines: Sequence[Line | None],
    bands: Sequence[Band | None],
    points: Sequence[Point],
    reference: tuple,
    axis_names: tuple[str, str],
    name: str,
    alt: str,
    large: bool = False,
) -> str:
    if all(line is None for line in lines):
        return ""
    with svg_style(name):
        figure, axes = _large_square() if large else _square()
        axes.plot(*reference, color=MUTED, lw=0.8, ls=(0, (1, 2)))
        for i, band in enumerate(bands):
            if band is not None:
                axes.fill_between(POINTS, *band, color=MODELS[i % len(MODELS)], alpha=0.16, lw=0)
        for i, line in enumerate(lines):
            if line is not None:
                axes.plot(*line, color=MODELS[i % len(MODELS)], lw=1.5, ls=DASHES[i % len(DASHES)], clip_on=False)
        for i, (x, y) in enumerate(points):
            if not np.isnan(x + y):
                axes.plot(
                    [x], [y], marker=MARKS[i % len(MARKS)], ms=7 if large else 5, color=MODELS[i % len(MODELS)],
                    mec=PAPER, mew=1, clip_on=False, zorder=5, gid=f"operating-point-{i}",
                )  # fmt: skip
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
        return svg_text(figure, name, alt, {})


def _thinned(x: np.ndarray, y: np.ndarray) -> Line:
    """Return the curve on a raster of 1/150, without repeated points and points inside a straight stretch."""
    points = np.rint(np.column_stack([x, y]) * _FINEST)
    points = points[np.concatenate([[True], (np.diff(points, axis=0) != 0).any(axis=1)])]
    if len(points) > 2:
        before, after = points[1:-1] - points[:-2], points[2:] - points[1:-1]
        turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
        points = points[np.concatenate([[True], turns, [True]])]
    return tuple(points.T / _FINEST)


def _square(side: float = 1) -> "tuple[Figure, Axes]":
    figure, axes = axes_px(*_PANEL, left=29, right=6, top=6, bottom=27)
    _three_ticks(axes, side)
    return figure, axes


def _large_square() -> "tuple[Figure, Axes]":
    figure, axes = axes_px(*_LARGE, left=36, right=8, top=8, bottom=30)
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks)
    axes.grid(color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _square_with_strip(side: float) -> "tuple[Figure, Axes, Axes]":
    """Return a panel and, under it, a low one over the same scores."""
    width, height = _PANEL[0], _PANEL[1] + _HISTOGRAM
    figure, axes = axes_px(width, height, left=29, right=6, top=6, bottom=27 + _HISTOGRAM)
    _three_ticks(axes, side)
    axes.set_xticklabels([])
    below = figure.add_axes((29 / width, 27 / height, 1 - 35 / width, (_HISTOGRAM - 8) / height))
    _three_ticks(below, side)
    below.set(yticks=[], xlabel="score")
    below.spines[["left", "bottom"]].set_visible(False)
    return figure, axes, below


def _three_ticks(axes: "Axes", side: float) -> None:
    ticks = [0, side / 2, side]
    axes.set(xlim=(0, side), ylim=(0, side), xticks=ticks, yticks=ticks)
    names = [f"{tick:g}".removeprefix("0") or "0" for tick in ticks]
    axes.set_xticklabels(names)
    axes.set_yticklabels(names)


def axes_px(width: float, height: float, *, left: float, right: float, top: float, bottom: float):
    """Return a figure of so many px with one pair of axes inside the margins (px)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    return figure, figure.add_axes(box)


def row_axes(
    labels: Sequence[str], height: float, *, left: float = 136, top: float = 4, bottom: float = 34, longest: int = 20
) -> "tuple[Figure, Axes, dict[str, str]]":
    """Return a figure with one row per label, top to bottom, and the labels by their stand-ins for `svg_text`."""
    figure, axes = axes_px(400, height, left=left, right=14, top=top, bottom=bottom)
    texts = {f"@{i}@": short(label, longest) for i, label in enumerate(labels)}
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), list(texts), fontsize=11.5, color=INK)
    axes.tick_params(axis="x", labelsize=11)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    return figure, axes, texts


def svg_style(name: str):
    """Set Matplotlib's own defaults and our settings, within a `with` block only."""
    import matplotlib

    return matplotlib.rc_context(matplotlib_defaults() | _STYLE | {"svg.hashsalt": name})


def matplotlib_defaults() -> dict:
    """Return Matplotlib's own settings, whatever the user's are."""
    import matplotlib

    return {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}


def short(label: str, longest: int = 20) -> str:
    """Return the label, cut at its end where it is too long."""
    return label if len(label) <= longest else label[: longest - 1] + "…"


def _style_once(marks: re.Match[str]) -> str:
    """Return a group of marks with the style that all share written at the group."""
    styles = set(re.findall(r' style="([^"]*)"', marks[2]))
    if "style" in (marks[1] or "") or len(styles) != 1:
        return marks[0]
    style = styles.pop()
    return f'<g{marks[1] or ""} style="{style}">' + marks[2].replace(f' style="{style}"', "") + "</g>"


def svg_text(figure: "Figure", name: str, alt: str, texts: dict[str, str]) -> str:
    """Return the figure as an `<svg>` element: labelled, coloured by CSS, ids made unique by `name`."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>|<defs>\s*</defs>", "", svg, flags=re.S)
    box = svg.split('viewBox="', 1)[1].split('"', 1)[0]
    svg = svg[svg.index(">") + 1 :]
    svg = re.sub(_OWN_IDS, "", svg)  # nothing points at these
    svg = svg.replace("<g/>", "")
    svg = re.sub(r"\bid=\"", f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    svg = re.sub(r"(\d+\.\d)\d+", r"\1", svg)  # a tenth of a px is less than anybody sees
    # Further points of a line need no letter.
    svg = re.sub(r'M [^A-Za-z"]+(?:L [^A-Za-z"]+)+', lambda line: line[0].replace("L ", ""), svg)
    svg = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", svg)
    svg = svg.replace("stroke-dasharray: ; stroke-dashoffset: 0; ", "")
    svg = re.sub(r"<g( [^>]*)?>\s*((?:<use [^>]*/>\s*)+)</g>", _style_once, svg)
    svg = re.sub(r"(font(?:-family)?: [^;\"']*?)'[^;\"]*", r"\1var(--sans)", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    svg = re.sub("@\\d+@", lambda found: html.escape(texts[found[0]]), svg)
    # The words come in last, so that nothing in them is taken for a colour, a number or a stand-in.
    return f'<svg class="plot" role="img" aria-label="{html.escape(alt)}" viewBox="{box}" stroke-linejoin="round">{svg}'
