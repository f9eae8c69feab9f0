"""What the report's section on boxes shows: chosen here, put into words and tables by the template."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import markupsafe
import numpy as np

from ..localisation.boxes import BASELINES, MEASURES, OVERLAPS, BoxedFinding, BoxMetrics
from ..localisation.overlay import over_image, with_boxes
from ..localisation.position_prior import GRID
from ..statistics.intervals import Estimate
from ..statistics.reservations import FEW
from .boxes_verdict import localises, verdict
from .images import jpeg_uri
from .metrics_json import estimate_json
from .plots import MODELS, MUTED, row_axes, svg_style, svg_text
from .section import MetricRow, Section

ALL = "All findings"
MOST_EXAMPLES = 8
PRIORS = ("centre", "prior")  # baselines to which the table of differences goes
NAMES = {"pointing_game": "Pointing game", "energy": "Energy in the box", "iou": "Mean IoU"}
METHOD_NAMES = {
    "gradient": "relevance",
    "grad_cam": "Grad-CAM",
    "attention": "attention rollout",
    "dense": "dense head",
}
METHOD_WORDS = {
    "gradient": "gradient-weighted attention (Chefer et al. 2021)",
    "grad_cam": "Grad-CAM (Selvaraju et al. 2017)",
    "attention": "attention rollout (Abnar & Zuidema 2020), the same map for every finding",
    "dense": "the probabilities that a dense head draws (ViTDet’s pyramid, IML-ViT’s head)",
}


def boxes_section(
    found: Mapping[str, BoxMetrics],
    places: Mapping[str, int],
    findings: Sequence[BoxedFinding],
    image: Callable[[str], np.ndarray | None] | None = None,
) -> Section:
    """Return the section after "Discrimination".

    Args:
        found: Name of a model, or of a model and its further method of maps, to its metrics; at least one.
        places: The same to its place among all models of the report, which decides its colour.
        findings: Those that the first model's metrics are of, in that order, for the examples.
        image: Case id to its image, (h, w) or (h, w, 3), or None if there is none; without it no examples.
    """
    first_name, first = next(iter(found.items()))
    return Section(
        anchor="boxes",
        title="Boxes",
        after="results",
        content={
            "models": [{"name": name, "place": places[name], "found": each} for name, each in found.items()],
            "rows": [_row(found, label) for label in (*first.labels, ALL)],
            "overlaps": [(f"{least:g}", _overlap(found, f"iou_at_{least:g}")) for least in OVERLAPS],
            "measures": NAMES,
            "plot": markupsafe.Markup(_plot(found, places)),
            "examples": [] if image is None else _examples(first, findings, image),
            "first": first_name,
            "verdicts": {name: verdict(each) for name, each in found.items()},
            "against": [{"measure": NAMES[measure], "rows": _against(found, measure)} for measure in MEASURES],
            "marked": any(
                shown[measure][place].marked
                for each in found.values()
                for shown in (each.metrics, *each.gain.values())
                for measure in MEASURES
                for place in range(len(each.labels) + 1)
            ),
        },
        plain={name: _plain(each) for name, each in found.items()},
        metrics=[metric for name, each in found.items() for metric in _metrics(name, each)],
        methods=_methods(found),
    )


def _places(found: BoxMetrics) -> dict[str, int]:
    return {label: place for place, label in enumerate((*found.labels, ALL))}


def _row(found: Mapping[str, BoxMetrics], label: str) -> dict[str, Any]:
    """Return one label's row: of each model with findings of it, how many, its measures and the baselines'."""
    models = []
    for name, each in found.items():
        place = _places(each).get(label)
        if place is not None:
            shown = [
                (each.metrics[measure][place], [each.baseline[base][measure][place] for base in BASELINES])
                for measure in MEASURES
            ]
            models.append({"name": name, "findings": each.findings[place], "shown": shown})
    return {"label": label, "models": models}


def _overlap(found: Mapping[str, BoxMetrics], name: str) -> list[tuple[Estimate, list[float]]]:
    return [(each.metrics[name][-1], [each.baseline[base][name][-1] for base in BASELINES]) for each in found.values()]


def _against(found: Mapping[str, BoxMetrics], measure: str) -> list[dict[str, Any]]:
    """Return a measure over all findings, beside that of the priors, and the paired differences to them."""
    return [
        {
            "name": name,
            "maps": METHOD_NAMES[each.method],
            "value": each.metrics[measure][-1],
            "bases": [(each.baseline[base][measure][-1], each.gain[base][measure][-1]) for base in PRIORS],
        }
        for name, each in found.items()
    ]


def _examples(
    found: BoxMetrics, findings: Sequence[BoxedFinding], image: Callable[[str], np.ndarray | None]
) -> list[dict[str, Any]]:
    """Return, of the most frequent labels, the finding with the median energy: neither the best nor the worst."""
    by_frequency = sorted(range(len(found.labels)), key=lambda place: -found.findings[place])[:MOST_EXAMPLES]
    shown = []
    for place in sorted(by_frequency):
        rows = [row for row, each in enumerate(findings) if each.label == found.labels[place]]
        row = sorted(rows, key=lambda row: (found.each[row, 1], findings[row].id))[len(rows) // 2]
        each, pixels = findings[row], image(findings[row].id)
        if pixels is None:
            continue
        laid = over_image(pixels, each.map)
        scale = np.tile([laid.shape[1] / each.map.width_px, laid.shape[0] / each.map.height_px], 2)
        shown.append(
            {
                "label": each.label,
                "id": each.id,
                "hit": found.each[row, 0] > 0,
                "energy": found.each[row, 1],
                "iou": found.each[row, 2],
                "uri": jpeg_uri(with_boxes(laid, each.boxes * scale)),
            }
        )
    return shown


def _plot(found: Mapping[str, BoxMetrics], places: Mapping[str, int]) -> str:
    """Draw the pointing game by label: a mark with interval per model, grey ones for the baselines."""
    labels = list(dict.fromkeys(label for each in found.values() for label in (*each.labels, ALL) if label != ALL))
    labels.append(ALL)
    pitch = 13 + 8 * len(found)
    with svg_style("boxes"):
        figure, axes, texts = row_axes(labels, len(labels) * pitch + 38)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
        axes.set_xlabel("share of findings with the maximum in the box", fontsize=11)
        for i, (name, each) in enumerate(found.items()):
            colour, marker = MODELS[places[name] % len(MODELS)], "osD^"[places[name] % 4]
            for label, place in _places(each).items():
                y = labels.index(label) + (i - (len(found) - 1) / 2) * 9 / pitch
                estimate = each.metrics["pointing_game"][place]
                axes.hlines(y, estimate.low, estimate.high, color=colour, lw=1.5)
                axes.plot(estimate.value, y, marker=marker, ms=5, color=colour, mec=colour, clip_on=False)
                uniform, centre, prior = (each.baseline[base]["pointing_game"][place] for base in BASELINES)
                axes.plot(uniform, y, marker="|", ms=8, mew=1.5, color=MUTED, clip_on=False)
                axes.plot(centre, y, marker="o", ms=6, mfc="none", mec=MUTED, mew=1.1, clip_on=False)
                axes.plot(prior, y, marker="x", ms=5, mew=1.3, color=MUTED, clip_on=False)
        alt = (
            "Pointing game by finding, with 95 % intervals and what a random place, the middle and the usual place "
            "get; a table follows."
        )
        return svg_text(figure, "boxes", alt, texts)


def _metrics(name: str, found: BoxMetrics) -> list[MetricRow]:
    decided = localises(found)
    shown = Estimate(float("nan") if decided is None else float(decided), reason=verdict(found))
    rows = [MetricRow(name, "", "boxes_localises", shown, found.findings[-1], found.findings[-1])]
    for label, place in _places(found).items():
        head, size = (name, "" if label == ALL else label), found.findings[place]
        for metric, estimates in found.metrics.items():
            rows.append(MetricRow(*head, f"boxes_{metric}", estimates[place], size, size))
        for base in BASELINES:
            for metric, values in found.baseline[base].items():
                chance = Estimate(float(values[place]))
                rows.append(MetricRow(*head, f"boxes_{metric}_of_a_{base}_map", chance, size, size))
            for metric, estimates in found.gain[base].items():
                rows.append(MetricRow(*head, f"boxes_{metric}_minus_{base}", estimates[place], size, size))
    return rows


def _plain(found: BoxMetrics) -> dict[str, Any]:
    return {
        "maps": found.method,
        "localises": localises(found),
        "verdict": verdict(found),
        "findings_without_map": found.without_map,
        "findings_with_an_empty_map": found.empty,
        "labels": [
            {
                "label": "" if label == ALL else label,
                "findings": found.findings[place],
                "patients": found.patients[place],
                "metrics": {name: estimate_json(estimates[place]) for name, estimates in found.metrics.items()},
                "baselines": {
                    base: {name: float(values[place]) for name, values in found.baseline[base].items()}
                    for base in BASELINES
                },
                "minus_baselines": {
                    base: {name: estimate_json(estimates[place]) for name, estimates in found.gain[base].items()}
                    for base in BASELINES
                },
            }
            for label, place in _places(found).items()
        ],
    }


def _methods(found: Mapping[str, BoxMetrics]) -> str:
    made = "; ".join(dict.fromkeys(METHOD_WORDS[each.method] for each in found.values()))
    return (
        f"Boxes: maps by {made}. A finding is one label in one image, with one box or several. Pointing game (Zhang "
        "et al. 2018): the middle of the highest cell of the map lies in a box, without tolerance; ties count by their "
        "share. Energy (Wang et al. 2020): share of the map’s sum that lies in the boxes. IoU: of the box around "
        "the connected region of the maximum, down to half its height, with the box of the finding; T(IoU) as "
        "Wang et al. 2017, "
        "but by this one rule for the region, whose share of the height is fixed and chosen on no box. "
        "The uniform map prefers no place; the central one is a Gaussian in the "
        "middle of the image with a standard deviation of a quarter of its sides; both on the grid of the "
        "model’s own map. The usual place is the mean of the boxes of all other patients, the finding’s own left out, "
        f"in shares of the image’s sides on {GRID} x {GRID} cells, of the same finding where {FEW} others or more have "
        "it, else of all findings; of its maxima, those within one patient of the highest tie. "
        "Differences to them are paired by finding, with intervals by patient. Maps are said to point at findings only "
        "where the pointing game over all findings is better than that of each of the three, by intervals that "
        "exclude 0."
    )
