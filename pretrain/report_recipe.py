"""The recipe of pre-training on images and their reports. It needs no torch: recipes are listed without it."""

from dataclasses import dataclass, field
from typing import ClassVar

from ..backbone.sizes import LARGEST, Model
from ..core.errors import UserError
from ..core.ranges import check_ranges, within
from ..datasets.settings import Data
from ..datasets.transforms.augment import Augment
from ..engine.recipe import Optim, Run
from .recipe import PretrainRecipe, Start

LOSSES, TEXTS, POOLS = ("infonce", "siglip"), ("sentence", "report"), ("mean", "class")


@dataclass(frozen=True)
class Reports(PretrainRecipe):
    """Images beside their reports (CLIP, SigLIP), whose vectors a frozen text encoder gives once, before training.

    Attributes:
        loss: `infonce` (CLIP: which of the batch belong together) or `siglip` (of each pair, whether it does).
        text: What an image is held against in a step: a `sentence` of its report, drawn anew (ConVIRT), or the mean of
            all of them, the `report`.
        skip_equal: Leave pairs out of the negatives whose texts are equal: most reports say "no pleural effusion".
        pool: Of the encoder's tokens: `mean` or `class`.
        embedding: Width that images and texts are projected to.
        text_width: Width of the text encoder's vectors; what --text names decides it.
        text_tokens: A longer sentence is cut there.
        text_pool: Of the text encoder's tokens: `mean` or `class` (the first).
        temperature: At the start; learned.
        model: The encoder.
        data: Cases and pixels.
        augment: Crops; no flips, since reports know left from right.
        optim: Optimiser.
        run: Machine.
        start: How it goes on from an encoder.
    """

    method: ClassVar[str] = f"{__package__}.report_training:ReportPretraining"
    loss: str = "infonce"
    text: str = "sentence"
    skip_equal: bool = False
    pool: str = "mean"
    embedding: int = field(default=256, metadata=within(1, LARGEST))
    text_width: int = field(default=768, metadata=within(1, LARGEST))
    text_tokens: int = field(default=128, metadata=within(2, LARGEST))
    text_pool: str = "mean"
    temperature: float = field(default=0.07, metadata=within(0.01, 10))
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=lambda: Augment(crop_scale=(0.6, 1.0), flip=0.0))
    optim: Optim = field(default_factory=lambda: Optim(epochs=50, warmup_epochs=2, batch_size=256, base_lr=5e-4))
    run: Run = field(default_factory=Run)
    start: Start = field(default_factory=Start)

    def __post_init__(self):
        check_ranges(self)
        for name, known in (("loss", LOSSES), ("text", TEXTS), ("pool", POOLS), ("text_pool", POOLS)):
            if getattr(self, name) not in known:
                raise UserError(f"{name} is {' or '.join(known)}, not {getattr(self, name)!r}.")
        if self.pool == "class" and not self.model.class_token:
            raise UserError("pool class needs model.class_token true.")
        if self.optim.accumulate > 1:
            raise UserError(
                f"optim.accumulate {self.optim.accumulate}: images are held against the texts of the same part of a "
                "batch alone; set it to 1 and optim.batch_size to what fits."
            )
        if self.model.frames > 1:
            raise UserError(f"model.frames {self.model.frames}: reports are for images; set model.frames 1.")

    @property
    def reads_reports(self) -> bool:
        """It does."""
        return True
