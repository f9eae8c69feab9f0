"""The recipe of masked pre-training."""

from dataclasses import dataclass, field

from ..backbone.sizes import Model
from ..datasets.augment import Augment
from ..datasets.recipe import Data
from ..engine.recipe import Optim, Run


@dataclass(frozen=True)
class Decoder:
    """Size of the light decoder.

    Attributes:
        width: Channels of a decoder token.
        depth: Blocks.
        heads: Attention heads; divides `width`.
    """

    width: int = 512
    depth: int = 8
    heads: int = 16


@dataclass(frozen=True)
class Pretrain:
    """Masked pre-training of a ViT on unlabelled pictures.

    Attributes:
        mask_ratio: Share of patches hidden from the encoder.
        decode_ratio: Share of the hidden patches that the decoder rebuilds; 1 is MAE.
        target: What it rebuilds: `pixels` (thorax paper), `patch` (normalised per patch, MAE), `channel` (VideoMAE).
        model: The encoder.
        decoder: The decoder.
        data: Cases and pixels.
        augment: Crops and flips.
        optim: Optimiser.
        run: Machine.
    """

    mask_ratio: float = 0.75
    decode_ratio: float = 1.0
    target: str = "pixels"
    model: Model = field(default_factory=Model)
    decoder: Decoder = field(default_factory=Decoder)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(default_factory=Optim)
    run: Run = field(default_factory=Run)
