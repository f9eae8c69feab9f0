"""The confusion matrix as an image: a drawing with numbers, or one pixel per cell where classes are many."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..statistics.metrics import ratio
from .images import data_uri
from .plots import GRID, INK, MODELS, MUTED, axes_px, short, svg_style, svg_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def confusion_matrix(counts: np.ndarray, labels: Sequence[str], name: str, alt: str) -> str:
    """Draw up to about 20 classes: the number of cases and its share of the row in each cell.

    Args:
        counts: (L, L) cases by truth (rows) and decision (columns).
        labels: L names.
        name: Of the plot, unique on the page.
        alt: What it shows, in words.
    """
    classes, left, right = len(labels), 136, 92  # px
    width, row = (920, 36) if matrix_is_wide(labels) else (560, 44)
    cell = min(110, (width - left - right) / classes)
    flat = max(len(short(label)) for label in labels) * 6.3 < cell  # whether column names fit side by side
    top = 40 if flat else 116
    with svg_style(name):
        figure, axes = axes_px(
            width, top + classes * row + 4, left=left, right=width - left - classes * cell, top=top, bottom=4
        )
        axes.set(xlim=(0, classes), ylim=(classes, 0))
        axes.spines[:].set_visible(False)
        texts = {f"@{i}@": short(label) for i, label in enumerate(labels)}
        places = np.arange(classes) + 0.5
        axes.set_yticks(places, list(texts), fontsize=11, color=INK)
        axes.set_xticks(places, list(texts), fontsize=11, color=INK)
        axes.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False)
        if not flat:
            for text in axes.get_xticklabels():
                text.set(rotation=40, rotation_mode="anchor", ha="left", va="bottom")
        axes.text(-0.06, 1 + 22 / (classes * row), "truth ↓   decision →", transform=axes.transAxes, ha="right",
                  fontsize=10, color=MUTED)  # fmt: skip
        _cells(axes, counts, size=11 if matrix_is_wide(labels) else 12.5)
        return svg_text(figure, name, alt, texts)


def matrix_is_wide(labels: Sequence[str]) -> bool:
    """Return whether the confusion matrix of these labels takes the page's whole width."""
    return len(labels) > 6


def confusion_image(counts: np.ndarray) -> str:
    """Draw (L, L) cases of many classes as one pixel per cell, without numbers: a PNG as `data:` URI.

    The opacity is the square root of the share of the row, so that a rare confusion can be seen; the colour is one
    that shows on light and on dark paper.
    """
    from PIL import Image

    share = np.nan_to_num(ratio(counts, counts.sum(axis=1, keepdims=True)))
    pixels = np.empty((*counts.shape, 4), dtype=np.uint8)
    pixels[:, :, :3] = (48, 132, 196)
    pixels[:, :, 3] = np.rint(255 * np.sqrt(share))
    return data_uri(Image.fromarray(pixels), "PNG", optimize=True)


def _cells(axes: "Axes", counts: np.ndarray, size: float) -> None:
    """Colour by share of the row, the number of cases and that share; the diagonal (right decisions) is framed."""
    from matplotlib.patches import Rectangle

    totals, centred = counts.sum(axis=1), partial(axes.text, ha="center", va="center")
    for (row, column), count in np.ndenumerate(counts):
        share = count / totals[row] if totals[row] else 0.0
        # At most half opaque: the ink stays readable on it, on light and on dark paper.
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=MODELS[0], alpha=round(share / 2, 3), lw=0))
        if count:
            percent = f"{100 * share:.0f} %" if share >= 0.005 else "<1 %"
            centred(column + 0.5, row + 0.34, f"{count:,}", fontsize=size)
            centred(column + 0.5, row + 0.72, percent, fontsize=size - 2)
        else:
            centred(column + 0.5, row + 0.5, "0", fontsize=size - 2, color=MUTED)
    for i, total in enumerate(totals):
        axes.text(len(totals) + 0.08, i + 0.5, f"n = {total:,}", fontsize=10, color=MUTED, va="center")
        axes.add_patch(Rectangle((i, i), 1, 1, fill=False, edgecolor=INK, lw=1, clip_on=False))
    axes.hlines(range(len(totals) + 1), 0, len(totals), color=GRID, lw=0.6, zorder=0, clip_on=False)
