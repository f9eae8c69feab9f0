"""What the report's section on drawn findings shows: chosen here, put into words and tables by the template."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..localisation.boxes import MEASURES
from ..localisation.dense import LEAST_IOUS, OVERLAPS, DenseMetrics
from ..localisation.detections import LEAST, MOST, PRECISION_PATIENTS
from ..localisation.froc import RATES
from ..statistics.intervals import Estimate
from .boxes_section import ALL, METHOD_NAMES, NAMES
from .formats import interval, signed
from .metrics_json import estimate_json
from .section import MetricRow, Section

OVERLAP_NAMES = {"iou": "IoU", "dice": "Dice"}
TRUTH = {"boxes": "the boxes that readers drew, filled", "masks": "the masks that readers drew"}


class Against(NamedTuple):
    """What a model draws beside maps of relevance.

    Attributes:
        name: Of the maps, in the report.
        method: How they were made.
        findings: Which both have.
        values: Measure to what the maps get, over all findings of theirs.
        gains: Measure to the difference of what is drawn, paired by finding.
    """

    name: str
    method: str
    findings: int
    values: Mapping[str, float]
    gains: Mapping[str, Estimate]


def dense_section(found: Mapping[str, DenseMetrics], against: Mapping[str, Sequence[Against]]) -> Section:
    """Return the section after "Discrimination".

    Args:
        found: Name of a model to its metrics; at least one.
        against: The same to the maps that it is compared with.
    """
    return Section(
        anchor="dense",
        title="Drawn findings",
        after="results",
        content={
            "models": [
                {
                    "name": name,
                    "found": each,
                    "rows": [_row(each, place) for place in range(len(each.labels) + 1)],
                    "against": against[name],
                    "verdict": verdict(against[name]),
                }
                for name, each in found.items()
            ],
            "overlaps": OVERLAP_NAMES,
            "least": LEAST_IOUS,
            "rates": [f"{rate:g}" for rate in RATES],
            "measures": NAMES,
            "methods": METHOD_NAMES,
            "truth": TRUTH[next(iter(found.values())).target],
        },
        plain={name: _plain(each, against[name]) for name, each in found.items()},
        metrics=[row for name, each in found.items() for row in _metrics(name, each, against[name])],
        methods=_methods(found),
    )


def verdict(against: Sequence[Against]) -> str:
    """Return the sentence on whether what is drawn is nearer to the findings than the best map; '' without maps.

    By each measure the best map is the one that is highest on these very findings, which is to its advantage.
    """
    if not against:
        return ""
    parts = []
    for measure in MEASURES:
        best = max(against, key=lambda each: each.values[measure])
        gain = best.gains[measure]
        if np.isnan(gain.low):
            word = f"no interval ({gain.reason})"
        else:
            word = "better" if gain.low > 0 else "worse" if gain.high < 0 else "not shown to differ"
        ends = "" if np.isnan(gain.low) else f", {interval(gain, 2, sign=True)}"
        name = NAMES[measure]
        named = name[0].lower() + name[1:]
        parts.append(f"{named} {signed(gain.value, 2)}{ends} against {best.name}: {word}")
    return f"Beside the best map of each measure, paired over {against[0].findings:,} findings: {'; '.join(parts)}."


def _label(found: DenseMetrics, place: int) -> str:
    return (*found.labels, ALL)[place]


def _row(found: DenseMetrics, place: int) -> dict[str, Any]:
    curve = found.froc[place]
    return {
        "label": _label(found, place),
        "findings": found.findings[place],
        "images": found.images[place],
        "overlap": [found.overlap[name][place] for name in OVERLAPS],
        "precision": [found.precision[least][place] for least in LEAST_IOUS],
        "froc": curve.score,
        "sensitivities": curve.sensitivities,
    }


def _named(found: DenseMetrics, place: int) -> dict[str, Estimate]:
    """Return the metrics of a label by their key."""
    curve = found.froc[place]
    return (
        {name: found.overlap[name][place] for name in OVERLAPS}
        | {"froc": curve.score}
        | {f"sensitivity_at_{rate:g}_fp": each for rate, each in zip(RATES, curve.sensitivities, strict=True)}
        | {f"ap_{100 * least:.0f}": found.precision[least][place] for least in LEAST_IOUS}
    )


def _metrics(name: str, found: DenseMetrics, against: Sequence[Against]) -> list[MetricRow]:
    rows = []
    for place in range(len(found.labels) + 1):
        label, size = _label(found, place), found.images[place]
        head = name, "" if label == ALL else label
        for metric, estimate in _named(found, place).items():
            rows.append(MetricRow(*head, f"dense_{metric}", estimate, size, found.findings[place]))
    for each in against:
        for measure, gain in each.gains.items():
            key = f"dense_{measure}_minus_maps_of_{each.name}"
            rows.append(MetricRow(name, "", key, gain, each.findings, each.findings))
    return rows


def _plain(found: DenseMetrics, against: Sequence[Against]) -> dict[str, Any]:
    return {
        "truth": found.target,
        "nothing_drawn": found.empty,
        "labels": [
            {
                "label": "" if _label(found, place) == ALL else _label(found, place),
                "findings": found.findings[place],
                "images": found.images[place],
                "patients": found.patients[place],
                "metrics": {name: estimate_json(each) for name, each in _named(found, place).items()},
            }
            for place in range(len(found.labels) + 1)
        ],
        "against_maps": [
            {
                "maps": each.name,
                "method": each.method,
                "findings": each.findings,
                "differences": {measure: estimate_json(gain) for measure, gain in each.gains.items()},
            }
            for each in against
        ],
        "verdict": verdict(against),
    }


def _methods(found: Mapping[str, DenseMetrics]) -> str:
    target = next(iter(found.values())).target
    return (
        f"Drawn findings: probability maps of a dense head, against {TRUTH[target]}. A label of an image counts where "
        "it is known where the finding is, or, by a label of 0, that it is nowhere; a finding that is labelled and not "
        "drawn is left out. IoU and Dice: of the pixels at or above the threshold that gave the best Dice on the "
        "validation images, mean over findings. A detection is a local maximum of the map with a probability of "
        f"{LEAST:g} or more, at most {MOST} in an image, with the box around the connected region at least half as "
        "high. FROC: a finding is found where a maximum lies in it; the score is the mean sensitivity at "
        f"{', '.join(f'{rate:g}' for rate in RATES)} false positives per image (of all findings together: per image "
        "and finding). Average precision: detections by falling probability, a box right where it overlaps one of "
        "the truth that is still free by so much, all points of the curve; of all findings their mean. Intervals are "
        f"by patient; those of average precision are bias-corrected, and given from {PRECISION_PATIENTS} patients "
        "with the finding on."
    )
