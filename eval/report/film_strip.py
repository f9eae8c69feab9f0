"""A clip's film strip above what each frame adds to a score, as a PNG."""

import io
from typing import TYPE_CHECKING

import numpy as np

from .plots import matplotlib_defaults, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_THUMBNAILS, _ACCENT, _BLUE = 8, "#c4500a", "#0b62a4"
_LEFT, _WIDTH = 0.095, 0.885  # of the strip and the curve below it, as shares of the figure


def frame_importance_plot(
    times_s: np.ndarray,
    importance: np.ndarray,
    frames: np.ndarray,
    title: str,
    label: str,
    fps: float | None = None,
    what: str = "log-odds",
) -> bytes:
    """Draw a film strip above the importance of each frame over time, as a PNG of 1200 x 600 px.

    The most important window is marked: the neighbouring frames that share the value farthest from 0, which were
    blanked together.

    Args:
        times_s: (T,) rising, when each frame begins.
        importance: (T,) change of the log-odds of `label` when the frame (with its window) is blanked. Where it falls,
            the frame spoke for the label.
        frames: (T, H, W) uint8; up to 8 are shown, the most important one among them.
        title: Heading, such as the clip's id.
        label: What the log-odds are of.
        fps: Frame rate of the clip, for the axis and the length of a single frame.
        what: Changes where it is not the log-odds.
    """
    import matplotlib
    from matplotlib.figure import Figure

    times_s, importance = np.asarray(times_s, dtype=np.float64), np.asarray(importance, dtype=np.float64)
    assert len(times_s) == len(importance) == len(frames) > 0
    step = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1 / (fps or 1)
    edges = np.append(times_s, times_s[-1] + step)
    peak = _peak(importance)
    settings = {"font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}
    with matplotlib.rc_context(matplotlib_defaults() | settings):
        figure = Figure(figsize=(12, 6), dpi=100)
        figure.text(_LEFT, 0.955, short(title, 64), fontsize=17, fontweight="bold", va="center")
        figure.text(_LEFT, 0.905, short(label, 100), fontsize=13, color="#5d6670", va="center")
        _film_strip(figure, edges, frames, peak)
        axes = figure.add_axes((_LEFT, 0.115, _WIDTH, 0.395))
        _importance_curve(axes, edges, importance, peak, what)
        axes.set_xlabel("time (s)" if fps is None else f"time (s), {fps:g} frames per second")
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _peak(importance: np.ndarray) -> slice | None:
    """Return the neighbouring frames that share the value farthest from 0; None where nothing changes."""
    size = np.abs(np.nan_to_num(importance))
    place = int(size.argmax())
    if size[place] == 0:
        return None
    other = np.flatnonzero(~np.isclose(importance, importance[place]))
    before, after = other[other < place], other[other > place]
    return slice(before[-1] + 1 if len(before) else 0, after[0] if len(after) else len(importance))


def _film_strip(figure: "Figure", edges: np.ndarray, frames: np.ndarray, peak: slice | None) -> None:
    """Draw thumbnails above the times at which they were taken, each from the middle of its share of the clip."""
    shown = min(_THUMBNAILS, len(frames))
    middles = edges[0] + (np.arange(shown) + 0.5) / shown * (edges[-1] - edges[0])
    places = np.clip(np.searchsorted(edges, middles, side="right") - 1, 0, len(frames) - 1)
    if peak is not None and not any(peak.start <= place < peak.stop for place in places):
        best = (peak.start + peak.stop - 1) // 2
        places[np.abs(places - best).argmin()] = best
    width = _WIDTH / shown
    for i, place in enumerate(places):
        axes = figure.add_axes((_LEFT + i * width, 0.605, width - 0.006, 0.265), anchor="S")
        axes.imshow(frames[place], cmap="gray", vmin=0, vmax=255)
        important = peak is not None and peak.start <= place < peak.stop
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=_ACCENT if important else "#c9cdcb", linewidth=3.5 if important else 1)
        axes.set_xlabel(f"{edges[place]:.2f} s", labelpad=3, color=_ACCENT if important else "black")


def _importance_curve(axes: "Axes", edges: np.ndarray, importance: np.ndarray, peak: slice | None, what: str) -> None:
    important = np.zeros(len(importance), dtype=bool)
    important[peak or slice(0)] = True
    colours = np.where(important, _ACCENT, _BLUE)
    axes.bar(edges[:-1], importance, np.diff(edges), align="edge", color=colours, alpha=0.3)
    axes.stairs(importance, edges, baseline=None, color=_BLUE, lw=2)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xlim(edges[0], edges[-1])
    axes.margins(y=0.08)
    axes.set_ylabel(f"change of {short(what, 30)} when\nthese frames are blanked")
    axes.yaxis.set_label_coords(-0.062, 0.5)
    if peak is None:
        axes.set_ylim(-1, 1)
        return
    start, stop = edges[peak.start], edges[peak.stop]
    axes.axvspan(start, stop, color=_ACCENT, alpha=0.1, lw=0, zorder=0)
    middle = ((start + stop) / 2 - edges[0]) / (edges[-1] - edges[0])
    axes.text(
        np.clip(middle, 0.17, 0.83),
        1.03,
        f"most important: {start:.2f}–{stop:.2f} s ({importance[peak.start]:+.2f})".replace("-", "−"),
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        color=_ACCENT,
        fontweight="bold",
    )
