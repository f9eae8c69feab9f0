"""The recipes of pre-training: masked, and DINO. Nothing here needs torch: recipes are listed without it."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..backbone.sizes import LARGEST, Model
from ..core.errors import UserError
from ..core.ranges import check_ranges, within
from ..datasets.settings import Data
from ..datasets.slides.settings import Stain
from ..datasets.transforms.augment import Augment
from ..datasets.transforms.multi_crop import MultiCrop
from ..engine.recipe import Optim, Run


@dataclass(frozen=True)
class Start:
    """How a training goes on from an encoder (`--encoder`); of no account without one.

    `optim.layer_decay` below 1 gives its layers lower rates than the fresh decoder or head.

    Attributes:
        freeze_blocks: Blocks at the input that stay as they are, and the embedding with them; 0 trains all.
        warmup_epochs: Longest warm-up, epochs: most weights are trained already.
    """

    freeze_blocks: int = field(default=0, metadata=within(0, LARGEST))
    warmup_epochs: float = field(default=1.0, metadata=within(0))

    def __post_init__(self):
        check_ranges(self, "start")


class PretrainRecipe:
    """Base of the recipes of pre-training: a frozen dataclass with at least `model`, `data`, `optim` and `run`.

    Attributes:
        method: The `Method` that trains it, or where it is to be imported from (`module:class`): it needs torch.
        tiles_per_slide: Tiles of each slide drawn anew for every epoch; None for all.
        model: The encoder.
        data: Cases and pixels.
        stain: Stain normalisation of tiles.
        optim: Optimiser.
        run: Machine.
        start: How it goes on from an encoder.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    method: ClassVar[str | type]
    tiles_per_slide: int | None = None
    stain: Stain = Stain()
    model: Model
    data: Data
    optim: Optim
    run: Run
    start: Start = Start()

    @property
    def reads_labels(self) -> bool:
        """Whether training looks at labels."""
        return False

    @property
    def reads_reports(self) -> bool:
        """Whether training holds images against their reports."""
        return False


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

    width: int = field(default=512, metadata=within(1, LARGEST))
    depth: int = field(default=8, metadata=within(0, LARGEST))
    heads: int = field(default=16, metadata=within(1, LARGEST))
    mlp_ratio: float = field(default=4.0, metadata=within(0, LARGEST, exclude="low"))
    embed_bias: bool = True

    def __post_init__(self):
        check_ranges(self, "decoder")


@dataclass(frozen=True)
class Pretrain(PretrainRecipe):
    """Masked pre-training of a ViT on unlabelled images or clips.

    Attributes:
        mask: Which patches are masked: `random` (MAE) or `tube` (VideoMAE: the same places in every frame).
        mask_ratio: Share of patches masked from the encoder.
        decoder_mask: Which the decoder reconstructs: `random` (of the masked ones) or `running_cell` (VideoMAE V2).
        decode_ratio: Share of the masked patches (random) or of all (running_cell) that are reconstructed; 1 stands for
            all masked ones.
        reconstruct_visible: Running cells also reconstruct what the encoder saw, outside the loss (VideoMAE V2); false
            saves its cost.
        tiles_per_slide: Tiles of each slide drawn anew for every epoch; null for all.
        target: What is reconstructed: `pixels` (thorax paper), `patch` (normalised per patch, MAE) or `channel`
            (VideoMAE).
        model: The encoder.
        decoder: The decoder.
        data: Cases and pixels.
        augment: Crops and flips.
        stain: Stain normalisation of tiles.
        optim: Optimiser.
        run: Machine.
        start: How it goes on from an encoder.
    """

    method: ClassVar[str] = f"{__package__}.masked:MaskedPretraining"
    mask: str = "random"
    mask_ratio: float = field(default=0.75, metadata=within(0, 1, exclude="both"))
    decoder_mask: str = "random"
    decode_ratio: float = field(default=1.0, metadata=within(0, 1, exclude="low"))
    reconstruct_visible: bool = True
    tiles_per_slide: int | None = field(default=None, metadata=within(1))
    target: str = "pixels"
    model: Model = field(default_factory=Model)
    decoder: Decoder = field(default_factory=Decoder)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    stain: Stain = field(default_factory=Stain)
    optim: Optim = field(default_factory=Optim)
    run: Run = field(default_factory=Run)
    start: Start = field(default_factory=Start)

    def __post_init__(self):
        check_ranges(self)


@dataclass(frozen=True)
class Head:
    """DINO's projection head; it is thrown away after pre-training.

    Attributes:
        out_dim: Prototypes.
        hidden: Width of its two hidden layers.
        bottleneck: Width before the prototypes.
        norm_last_layer: Prototypes keep the length 1 (steadier); else their lengths are learned.
        freeze_epochs: Epochs at the start in which the prototypes do not move.
    """

    out_dim: int = field(default=65536, metadata=within(1))
    hidden: int = field(default=2048, metadata=within(1))
    bottleneck: int = field(default=256, metadata=within(1))
    norm_last_layer: bool = True
    freeze_epochs: int = field(default=1, metadata=within(0))

    def __post_init__(self):
        check_ranges(self, "head")


@dataclass(frozen=True)
class Ibot:
    """iBOT's loss on masked patch tokens, which DINOv2 adds: the student says what the teacher sees there.

    Attributes:
        weight: Of this loss beside DINO's; 0 for none.
        images: Share of the large crops in which patches are masked.
        mask_ratio: Least and greatest share of a crop's patches.
        separate_head: A head of its own for patches (DINOv2's large models), of the same sizes; else they share one.
    """

    weight: float = field(default=0.0, metadata=within(0))
    images: float = field(default=0.5, metadata=within(0, 1, exclude="low"))
    mask_ratio: tuple[float, float] = field(default=(0.1, 0.5), metadata=within(0, 1, exclude="both", ordered=True))
    separate_head: bool = False

    def __post_init__(self):
        check_ranges(self, "ibot")


CENTRINGS = ("centre", "sinkhorn_knopp")


@dataclass(frozen=True)
class Dino(PretrainRecipe):
    """DINO on unlabelled images or tiles of slides. The defaults are Self-ViT-MIL's (train_dino.py).

    Attributes:
        momentum: Of the teacher at the start; rises to 1 along half a cosine.
        student_temp: Temperature of the student.
        teacher_temp: Temperature of the teacher; 0.07 is the most that is steady.
        warmup_teacher_temp: The teacher's temperature at the start.
        warmup_teacher_temp_epochs: Epochs from there to `teacher_temp`, linear.
        centre_momentum: Share of the old centre that stays in an update.
        tiles_per_slide: Tiles of each slide drawn anew for every epoch; null for all.
        monitor: Epochs between two checks by k nearest neighbours on the labels, which are used for nothing else;
            0 for none.
        head: The projection head.
        crops: Multi-crop.
        model: The encoder.
        data: Cases and pixels.
        stain: Stain normalisation of tiles.
        optim: Optimiser.
        run: Machine.
        start: How it goes on from an encoder.
        centring: What keeps the teacher's targets from one prototype: `centre` (DINO) or `sinkhorn_knopp` (DINOv2).
        koleo: Weight of the term that keeps class tokens apart; 0.1 in DINOv2, 0 for none.
        registers: Tokens of no patch beside the class token (DINOv2 with registers); 0 for none.
        ibot: Masked patch tokens.
    """

    method: ClassVar[str] = f"{__package__}.dino_training:DinoPretraining"
    momentum: float = field(default=0.996, metadata=within(0, 1))
    student_temp: float = field(default=0.1, metadata=within(0, exclude="low"))
    teacher_temp: float = field(default=0.04, metadata=within(0, exclude="low"))
    warmup_teacher_temp: float = field(default=0.04, metadata=within(0, exclude="low"))
    warmup_teacher_temp_epochs: int = field(default=0, metadata=within(0))
    centre_momentum: float = field(default=0.9, metadata=within(0, 1, exclude="high"))
    tiles_per_slide: int | None = field(default=None, metadata=within(1))
    monitor: int = field(default=0, metadata=within(0))
    head: Head = field(default_factory=Head)
    crops: MultiCrop = field(default_factory=MultiCrop)
    model: Model = field(default_factory=lambda: Model("small", channels=3, positions="learned", drop_path=0.1))
    data: Data = field(
        default_factory=lambda: Data(mean=(0.6223, 0.4763, 0.6009), std=(0.2012, 0.2190, 0.1722)),
    )
    stain: Stain = field(default_factory=Stain)
    optim: Optim = field(
        default_factory=lambda: Optim(
            epochs=100,
            warmup_epochs=10,
            batch_size=64,
            base_lr=5e-4,
            min_lr=1e-6,
            weight_decay=0.04,
            weight_decay_end=0.4,
            betas=(0.9, 0.999),
            clip_tensor_norm=3.0,
        )
    )
    run: Run = field(default_factory=Run)
    start: Start = field(default_factory=Start)
    centring: str = "centre"
    koleo: float = field(default=0.0, metadata=within(0))
    registers: int = field(default=0, metadata=within(0, LARGEST))
    ibot: Ibot = field(default_factory=Ibot)

    def __post_init__(self):
        check_ranges(self)
        if self.centring not in CENTRINGS:
            raise UserError(f"centring {self.centring!r}: one of {', '.join(CENTRINGS)}.")
        if self.optim.ema_decay is not None:
            raise UserError("optim.ema_decay: DINO's teacher is the moving average already (momentum); leave it null.")
        if self.model.frames > 1:
            raise UserError(f"model.frames {self.model.frames}: DINO is for images and tiles; set model.frames 1.")
        if self.crops.local_crops and self.crops.local_px % self.model.patch_size:
            raise UserError(
                f"crops.local_px {self.crops.local_px} is not a multiple of model.patch_size {self.model.patch_size}."
            )

    @property
    def reads_labels(self) -> bool:
        """`monitor` does, and nothing else."""
        return self.monitor > 0
