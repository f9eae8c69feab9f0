"""The scaling of human-like MAEs, printed and fitted: Orhan 2023 (arXiv 2308.03712), results of its public code.

Masked autoencoders were pre-trained on parts of human-like video (SAYCam and others), 0.5 to 5,000 hours, and
fine-tuned on 2 % of ImageNet. The results of all 78 models are public; the law is fitted to them here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...core.ranges import check_ranges, within
from ...stages.reproduce.small import SCALE, Scale, small
from ...stages.reproduce.table import Measure, Metric, Row, Table

if TYPE_CHECKING:
    from ...eval.statistics.intervals import Estimate
    from ...stages.reproduce.work import Work

HOURS = np.repeat([0.5, 5, 50, 500, 5000], [3, 3, 3, 3, 1])  # three parts of each length, and the whole
# Parameters and image side in px: top-1 and top-5 in per cent, in the order of HOURS.
POINTS = {
    # ViT-S/14
    (22_004_584, 224): (
        "14.33 13.876 12.708 15.14 17.694 15.212 18.682 21.12 19.76 26.728 23.412 23.796 27.57",
        "32.144 31.42 29.046 33.58 37.596 33.496 39.506 43.376 40.85 52.196 46.35 47.134 52.658",
    ),
    # ViT-B/14
    (86_475_496, 224): (
        "14.996 14.918 14.31 16.024 17.216 16.732 22.53 23.636 22.22 32.308 28.322 29.376 33.65",
        "33.196 32.476 31.298 34.63 37.178 35.606 44.572 45.93 43.93 58.178 52.914 54.534 59.718",
    ),
    # ViT-L/14
    (304_203_752, 224): (
        "15.552 15.428 13.562 18.318 15.226 18.09 24.658 25.142 23.086 33.018 29.82 31.412 37.322",
        "33.654 33.2 30.002 37.67 33.52 37.128 46.9 48.124 44.904 59.142 53.91 56.244 64.184",
    ),
    # ViT-H/14
    (632_045_800, 224): (
        "18.916 19.118 18.344 20.322 21.394 19.18 26.202 28.036 24.9 36.502 31.222 34.404 39.574",
        "38.724 39.056 37.82 40.772 42.69 39.136 49.192 51.316 47.464 62.772 56.556 60.106 66.9",
    ),
    # ViT-H/14, 448 px
    (633_028_840, 448): (
        "23.402 22.554 21.848 25.886 26.276 25.498 32.644 32.962 30.692 37.464 35.86 38.104 43.972",
        "45.098 44.054 42.674 48.634 49.154 48.194 57.658 57.67 54.96 63.338 62.06 64.202 71.108",
    ),
    # ViT-H/14, 476 px
    (633_197_800, 476): (
        "22.806 23.822 23.442 26.61 27.432 24.886 31.434 33.42 31.768 38.318 36.182 37.108 44.114",
        "44.98 45.956 45.398 49.416 51.114 47.506 56.14 58.374 56.848 64.932 62.306 63.44 71.064",
    ),
}


@dataclass(frozen=True)
class Extrapolation:
    """Where the fitted law is read: by default where the paper expects human performance.

    Attributes:
        hours: Hours of video.
        parameters: Of the network.
        image_px: Side of the images, pixels.
    """

    hours: float = field(default=20_000.0, metadata=within(0, exclude="low"))
    parameters: float = field(default=2.5e9, metadata=within(0, exclude="low"))
    image_px: float = field(default=952.0, metadata=within(0, exclude="low"))

    def __post_init__(self):
        check_ranges(self)


@small.register
def _(recipe: Extrapolation, scale: Scale = SCALE) -> Extrapolation:
    """Return it as it is: nothing is trained."""
    return recipe


def points(column: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the (78,) results in per cent, and their factors by name.

    Args:
        column: 0 for top-1, 1 for top-5.
    """
    metric = np.concatenate([np.array(results[column].split(), dtype=float) for results in POINTS.values()])
    parameters, px = (np.repeat(np.array(values, dtype=float), len(HOURS)) for values in zip(*POINTS, strict=True))
    return metric, {"hours": np.tile(HOURS, len(POINTS)), "parameters": parameters, "image_px": px}


def fitted(column: int, at: Extrapolation) -> "Mapping[str, Estimate]":
    """Return the table's metrics of top-1 (0) or top-5 (1)."""
    from ...eval.statistics.scaling_law import fit_scaling_law

    law = fit_scaling_law(*points(column))
    slopes = {f"log_{name}": law.slope(name) for name in law.factors}
    predicted = law.predicted({name: getattr(at, name) for name in law.factors})
    return {"intercept": law.intercept()} | slopes | {"r2": law.explained(), "predicted": predicted}


def top1(work: "Work") -> "Mapping[str, Estimate]":
    """Return the law of the top-1 accuracy."""
    return fitted(0, work.recipe)


def top5(work: "Work") -> "Mapping[str, Estimate]":
    """Return the law of the top-5 accuracy."""
    return fitted(1, work.recipe)


HUMANLIKE = Table(
    name="scaling/humanlike",
    title="Human-like MAEs: accuracy on ImageNet by hours of video, parameters and pixels",
    source="Orhan, arXiv 2308.03712; results of its public code (eminorhan/humanlike-vits 7a66e95). The paper's own "
    "coefficients are not known to us",
    task="images",
    data="",
    layout="folder",
    metrics=(
        Metric("intercept", "Intercept", 3, "per cent; accuracy = intercept + the sum of slope x ln(factor)"),
        Metric("log_hours", "Slope of ln(hours)", 3, "points of accuracy for e times the hours of video"),
        Metric("log_parameters", "Slope of ln(parameters)", 3, "points of accuracy for e times the parameters"),
        Metric("log_image_px", "Slope of ln(pixels)", 3, "points of accuracy for e times the image's side"),
        Metric("r2", "R squared", 3, "share of the variance that the law explains"),
        Metric(
            "predicted", "Predicted, per cent", 1,
            "at 20,000 hours, 2.5e9 parameters and 952 px (--hours, --parameters, --image_px), with the interval of "
            "the mean",
        ),
    ),
    rows=(
        Row("top1", "Top-1", (Measure("humanlike-top1", Extrapolation, top1),), {}),
        Row("top5", "Top-5", (Measure("humanlike-top5", Extrapolation, top5),), {}),
    ),
    notes=(
        "Nothing is trained here: the law is fitted by least squares to the 78 published results, each the best epoch "
        "of its log. The paper trained for 48 hours on four A100 per model.",
        "The paper names 20,000 hours, 2.5e9 parameters and 952 px as the place of roughly human accuracy: four times "
        "the hours and the parameters and twice the pixels of the largest model, so that the form of the law decides.",
        "Intervals are Student's, of 74 degrees of freedom; models of one part of the video are not quite independent.",
    ),
)  # fmt: skip
