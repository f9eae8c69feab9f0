"""The recipe of an encoder with idle units that learns the features of a full one. It needs no torch."""

from dataclasses import dataclass, field
from typing import ClassVar

from ..backbone.sizes import LARGEST, Model
from ..core.errors import UserError
from ..core.ranges import check_ranges, within
from ..datasets.settings import Data
from ..datasets.slides.settings import Stain
from ..datasets.transforms.augment import Augment
from ..engine.recipe import Optim, Run
from .recipe import PretrainRecipe, Start


@dataclass(frozen=True)
class Idle(PretrainRecipe):
    """The encoder of `--encoder` with idle hidden units, distilled to its own features as they were, without labels.

    The loss is the mean over the last blocks, and there over class token and patch tokens, of the squared error of the
    normed tokens over their square. `clinvit export --merge` merges the idle units afterwards.

    Attributes:
        idle: Share of the hidden units that become linear: those of which the activation changes least.
        idle_ramp: Share of the steps in which they do so, gradually.
        layers: Last blocks whose tokens are learned; 4 for features `class4_mean`.
        tiles_per_slide: Tiles of each slide drawn anew for every epoch; null for all.
        model: The encoder, as `--encoder` is.
        data: Cases and pixels.
        augment: Crops and flips.
        stain: Stain normalisation of tiles.
        optim: Optimiser.
        run: Machine.
        start: How it goes on from the encoder.
    """

    method: ClassVar[str] = f"{__package__}.idle_training:IdleDistillation"
    idle: float = field(default=0.75, metadata=within(0, 1, exclude="both"))
    idle_ramp: float = field(default=0.25, metadata=within(0, 1))
    layers: int = field(default=4, metadata=within(1, LARGEST))
    tiles_per_slide: int | None = field(default=None, metadata=within(1))
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=lambda: Augment(crop_scale=(0.5, 1.0), flip=0.5))
    stain: Stain = field(default_factory=Stain)
    optim: Optim = field(default_factory=lambda: Optim(epochs=20, warmup_epochs=1, batch_size=64, base_lr=1e-3))
    run: Run = field(default_factory=Run)
    start: Start = field(default_factory=Start)

    def __post_init__(self):
        check_ranges(self)
        if self.optim.ema_decay is not None:
            raise UserError("optim.ema_decay: not for idle units that are learned; leave it null.")
        if self.start.freeze_blocks:
            raise UserError(
                f"start.freeze_blocks {self.start.freeze_blocks}: a block that stays as it is cannot learn to do "
                "without its idle units; set it to 0."
            )
