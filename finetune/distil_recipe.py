"""The recipe of a distillation: that of a fine-tuning, and what the student learns from its teachers."""

from dataclasses import dataclass, field, fields
from typing import Any

from ..core.errors import UserError
from ..core.ranges import within
from .recipe import Finetune

MOST_VIEWS = 256  # the number of a view stands in the last byte of its seed
# What changes the images or the targets of a batch: what the teachers said of the views would not be of these.
LEFT_OUT: dict[str, Any] = {"mixup": 0.0, "cutmix": 0.0, "erase": 0.0, "label_smoothing": 0.0}


@dataclass(frozen=True)
class Distil(Finetune):
    """A student that learns from the labels and from teachers, who have seen stored views of every case.

    The loss is alpha x loss(labels) + (1 - alpha) x T^2 x loss(mean of the teachers' probabilities at temperature T) +
    beta x mean over the teachers of (1 - cosine of their features and the student's, projected). Labels that nobody
    knows are in the second term alone.

    Attributes:
        views: Stored views of each case, of which each step takes one.
        alpha: Share of the labels.
        temperature: T, of teachers and student.
        beta: Weight of the features; 0 leaves them out.
    """

    views: int = field(default=8, metadata=within(1, MOST_VIEWS))
    alpha: float = field(default=0.5, metadata=within(0, 1))
    temperature: float = field(default=1.0, metadata=within(0, 100, exclude="low"))
    beta: float = field(default=1.0, metadata=within(0))

    def __post_init__(self):
        super().__post_init__()
        for name, off in LEFT_OUT.items():
            if getattr(self, name) != off:
                raise UserError(f"{name} {getattr(self, name):g}: teachers answer to unchanged views: set it to 0.")
        for name in ("contexts", "alignment", "uniformity", "slerp"):
            if getattr(self, name):
                raise UserError(f"{name} is of a fine-tuning without teachers: leave it out.")
        if self.mode == "knn":
            raise UserError("mode 'knn' trains nothing: a student needs another.")


def distilling(recipe: Finetune) -> tuple[Distil, list[str]]:
    """Return the distillation of a recipe for fine-tuning, and what of it was left out, in words."""
    left_out = [f"{name} {getattr(recipe, name):g}" for name, off in LEFT_OUT.items() if getattr(recipe, name) != off]
    values = {one.name: getattr(recipe, one.name) for one in fields(recipe)} | LEFT_OUT
    return Distil(**values), left_out
