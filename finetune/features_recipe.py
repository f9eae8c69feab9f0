"""The recipe of features of images and clips (`clinvit extract`), apart from what carries it out: no torch."""

from dataclasses import dataclass, field

from ..core.errors import UserError
from ..core.ranges import check_ranges, within
from ..datasets.settings import Clip
from .recipe import View


@dataclass(frozen=True)
class Features:
    """How images or clips become features (`clinvit extract`).

    Attributes:
        pool: `mean` of the patch tokens (of a network of timm what its own last layer sees), or the `class` token.
        view: How a case is shown; its values of several views are averaged.
        clip: How frames are taken from a clip.
        batch_size: Cases per step.
        workers: Reading processes, at least one.
    """

    pool: str = "mean"
    view: View = field(default_factory=lambda: View(resize_px=None))
    clip: Clip = field(default_factory=Clip)
    batch_size: int = field(default=32, metadata=within(1))
    workers: int = field(default=1, metadata=within(1, 1024))

    def __post_init__(self):
        check_ranges(self)
        if self.pool not in ("mean", "class"):
            raise UserError(f"pool {self.pool!r}: mean or class.")


def standard() -> Features:
    """One vector per case: the mean of its patch tokens, or what a network of timm pools; whole centre of the image.

    Example: `clinvit extract thorax --data data --encoder rad-dino --out features`. A minute per 1,000 images and 10
    million parameters on a core, about.
    """
    return Features()


EXTRACT = {"standard": standard}
