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
        mlp_ratio: Hidden width of the MLP over `width`.
        embed_bias: Whether the projection from encoder to decoder has a bias (MAE does, VideoMAE does not).
    """

    width: int = 512
    depth: int = 8
    heads: int = 16
    mlp_ratio: float = 4.0
    embed_bias: bool = True


@dataclass(frozen=True)
class Pretrain:
    """Masked pre-training of a ViT on unlabelled pictures or clips.

    Attributes:
        mask: Which patches are hidden: `random` (MAE) or `tube` (VideoMAE: the same places in every frame).
        mask_ratio: Share of patches hidden from the encoder.
        decoder_mask: Which the decoder rebuilds: `random` (of the hidden ones) or `running_cell` (VideoMAE V2).
        decode_ratio: Share of the hidden patches (random) or of all (running_cell) that are rebuilt; 1 rebuilds all
            hidden ones.
        rebuild_visible: Running cells rebuild, uncounted, what the encoder saw (VideoMAE V2); false saves its cost.
        target: What it rebuilds: `pixels` (thorax paper), `patch` (normalised per patch, MAE), `channel` (VideoMAE).
        model: The encoder.
        decoder: The decoder.
        data: Cases and pixels.
        augment: Crops and flips.
        optim: Optimiser.
        run: Machine.
    """

    mask: str = "random"
    mask_ratio: float = 0.75
    decoder_mask: str = "random"
    decode_ratio: float = 1.0
    rebuild_visible: bool = True
    target: str = "pixels"
    model: Model = field(default_factory=Model)
    decoder: Decoder = field(default_factory=Decoder)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(default_factory=Optim)
    run: Run = field(default_factory=Run)
