"""What a learning curve goes along, in words: labels, unlabelled images, pixels or weights."""

from dataclasses import dataclass
from typing import Any

from .formats import many

LABELS, IMAGES, SIZE, MODEL = "labels", "images", "size", "model"
_HOW_LABELS = (
    "One recipe was trained on {values} of the labelled patients; a share holds all smaller ones of its seed, with "
    "each finding in about the proportion of the whole. Validation and test stay whole at every size: their labels are "
    "needed too. The number of epochs is the same at every size."
)
_HOW_IMAGES = (
    "One recipe was pre-trained without labels on {values} of the training patients; a share holds all smaller ones of "
    "its seed. Each encoder was then fine-tuned on all labels by one recipe. The number of epochs is the same at every "
    "size, so that more images are more steps too."
)
_HOW_SIZE = (
    "One recipe was trained with images of {values} px on a side, with the same patches, so that there are more of "
    "them; all else stays as it is."
)
_HOW_MODEL = "One recipe was trained with networks of the sizes {values}; all else stays as it is."


@dataclass(frozen=True)
class LearningAxis:
    """Words of one axis.

    Attributes:
        title: Of the page.
        heading: Of its first section.
        thing: What there is more of, after a number.
        further: The same beyond what was tried.
        most: Heading of the metrics at the largest value.
        how: How it was measured; `{values}` are those that were tried.
    """

    title: str
    heading: str
    thing: str
    further: str
    most: str
    how: str

    def size(self, count: int, unit: str) -> str:
        """Return a value of the axis in words."""
        return many(count, unit) if self.most == "All labels" else f"{count:,} {self.thing}"


def learning_axis(asked: Any) -> LearningAxis:
    """Return the words of the axis that was asked for (`along` and `unit` of the stage's `Asked`)."""
    unit, units = asked.unit, f"{asked.unit}s"
    return {
        LABELS: LearningAxis(
            "What more labels are worth", "Label efficiency", f"labelled {units}", units, "All labels", _HOW_LABELS
        ),
        IMAGES: LearningAxis(
            f"What more unlabelled {units} are worth", "Pre-training", f"unlabelled {units} in pre-training",
            f"unlabelled {units}", f"All {units}", _HOW_IMAGES,
        ),
        SIZE: LearningAxis(
            f"What larger {units} are worth", "Size of the input", f"px of the {unit}'s side", "px", "Largest",
            _HOW_SIZE,
        ),
        MODEL: LearningAxis(
            "What a larger network is worth", "Size of the network", "weights of the network", "weights", "Largest",
            _HOW_MODEL,
        ),
    }[asked.along]  # fmt: skip
