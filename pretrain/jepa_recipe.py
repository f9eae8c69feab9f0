"""The recipe of latent prediction. It needs no torch: recipes are listed without it."""

from dataclasses import dataclass, field
from typing import ClassVar

from ..backbone.sizes import LARGEST, Model
from ..core.errors import UserError
from ..core.ranges import check_ranges, within
from ..datasets.settings import Clip, Data
from ..datasets.slides.settings import Stain
from ..datasets.transforms.augment import Augment
from ..engine.recipe import Optim, Run
from .recipe import PretrainRecipe, Start


@dataclass(frozen=True)
class Predictor:
    """Size of the predictor; it is thrown away after pre-training.

    Attributes:
        width: Channels of a token.
        depth: Blocks.
        heads: Attention heads; divides `width`.
        mlp_ratio: Hidden width of the MLP over `width`.
    """

    width: int = field(default=384, metadata=within(1, LARGEST))
    depth: int = field(default=12, metadata=within(1, LARGEST))
    heads: int = field(default=12, metadata=within(1, LARGEST))
    mlp_ratio: float = field(default=4.0, metadata=within(0, LARGEST, exclude="low"))

    def __post_init__(self):
        check_ranges(self, "predictor")
        if self.width % self.heads:
            raise UserError(f"predictor.width {self.width} is not a multiple of predictor.heads {self.heads}.")


@dataclass(frozen=True)
class Jepa(PretrainRecipe):
    """Latent prediction on clips or images. The defaults are V-JEPA 2's for clips of 16 frames, with fewer cases.

    Attributes:
        momentum: Of the moving average of the encoder, whose features are predicted and which is kept.
        blocks: Blocks that are masked, a number for each set of masks; each set is a prediction of its own.
        block_area: Share of a frame that a block of each set covers.
        block_ratio: Least and greatest height over width of a block.
        tiles_per_slide: Tiles of each slide drawn anew for every epoch; null for all.
        model: The encoder.
        predictor: The predictor.
        data: Cases and pixels.
        augment: Crops and flips.
        stain: Stain normalisation of tiles.
        optim: Optimiser.
        run: Machine.
        start: How it goes on from an encoder.
    """

    method: ClassVar[str] = f"{__package__}.jepa_training:LatentPretraining"
    momentum: float = field(default=0.99925, metadata=within(0, 1))
    blocks: tuple[int, ...] = field(default=(8, 2), metadata=within(1, 1000))
    block_area: tuple[float, ...] = field(default=(0.15, 0.7), metadata=within(0, 1, exclude="both"))
    block_ratio: tuple[float, float] = field(default=(0.75, 1.5), metadata=within(0, exclude="low", ordered=True))
    tiles_per_slide: int | None = field(default=None, metadata=within(1))
    model: Model = field(
        default_factory=lambda: Model("large", 256, frames=16, tubelet=2, channels=3, class_token=False,
                                      positions="sine3d")
    )  # fmt: skip
    predictor: Predictor = field(default_factory=Predictor)
    data: Data = field(default_factory=lambda: Data(cache_px=288, clip=Clip("strided", stride=1, fps=4)))
    augment: Augment = field(default_factory=lambda: Augment(256, crop_scale=(0.3, 1.0), crop_ratio=(0.75, 1.35)))
    stain: Stain = field(default_factory=Stain)
    optim: Optim = field(
        default_factory=lambda: Optim(
            epochs=100, warmup_epochs=10, batch_size=256, base_lr=5.25e-4, weight_decay=0.04, betas=(0.9, 0.999)
        )
    )
    run: Run = field(default_factory=Run)
    start: Start = field(default_factory=Start)

    def __post_init__(self):
        check_ranges(self)
        if len(self.blocks) != len(self.block_area):
            raise UserError(
                f"blocks {list(self.blocks)} and block_area {list(self.block_area)}: a number of each for every set."
            )
        if self.optim.ema_decay is not None:
            raise UserError("optim.ema_decay: the moving average is kept already (momentum); leave it null.")
