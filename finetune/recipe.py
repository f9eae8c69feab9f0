"""The recipe of fine-tuning, probing and k-NN."""

from dataclasses import dataclass, field

from ..backbone.sizes import Model
from ..core.errors import UserError
from ..datasets.settings import Data
from ..datasets.transforms.augment import Augment
from ..engine.recipe import Optim, Run


@dataclass(frozen=True)
class View:
    """How an image or clip is shown to the model when it is evaluated.

    Attributes:
        mode: `crop` (shorter side to `resize_px`, then the centre), `squash` (the whole image, made square) or `pad`.
        resize_px: Shorter side before the centre crop, pixels; null for the input size.
        flip: Average the probabilities of the image and its mirror image.
        segments: Views in time that the final probabilities average over; 1 is the middle of the clip.
        crops: Views of each along the longer side; 1 is the centre.
    """

    mode: str = "crop"
    resize_px: int | None = 256
    flip: bool = False
    segments: int = 1
    crops: int = 1

    def __post_init__(self):
        if self.segments < 1 or self.crops < 1:
            raise UserError(f"view.segments {self.segments} and view.crops {self.crops}: whole numbers from 1 on.")
        if self.crops > 1 and self.mode != "crop":
            raise UserError(f"view.crops {self.crops} cuts squares out: only with view.mode crop, not {self.mode}.")


@dataclass(frozen=True)
class Finetune:
    """A classifier from an encoder, or from scratch.

    Attributes:
        mode: `full` (all weights); of a frozen encoder `linear` (probe), `attentive` (probe that learns to pool; with
            pool `attention`) or `knn` (no training); or, beside what is new, of the encoder only `norm` (LayerNorms),
            `bitfit` (biases), `lora` (low-rank updates of the attention) or `last_blocks`.
        lora_rank: Rank r of the updates of `lora`; null for every other mode.
        lora_alpha: Their scale is lora_alpha / r; null for r, and for every other mode.
        last_blocks: How many of the encoder's blocks `last_blocks` trains; null for every other mode.
        scales: Scales that a frozen encoder sees images at, joined over the channels (Scaling on Scales): [1, 2] adds
            each image at twice the input size, cut into 2 x 2 parts. Needs a data.cache_px of so many times the size.
        network: `vit`, or a network to train beside it: a timm name (images; from scratch or from a checkpoint of its
            own), or one of the ERDES baselines (clips, from scratch): unet3d, unetplusplus, resnet3d, vnet, swinunetr,
            senet154, unetr, vit3d.
        pool: `mean`, `class`, `attention`; of the ERDES baselines `mean` or `topk` (selective temporal pooling).
        pool_ratio: Share of the time steps that `topk` averages over (0.3 in ERDES); null for every other pool.
        loss: `bce` (findings occur together) or `ce` (classes exclude each other).
        label_smoothing: Share of a class's weight that goes to all classes alike; for `ce`.
        head_drop: Dropout before the linear layer.
        select: `best` (macro AUROC on validation), `accuracy` (on validation, as ERDES does) or `last` epoch, which
            looks at no score.
        eval_every: Epochs between validations; the last epoch is always judged.
        erase: Probability of erasing a rectangle of 2 to 33 % of a training image by noise.
        mixup: Alpha of mixup; 0 for none.
        cutmix: Alpha of CutMix; 0 for none.
        patch_drop: Share of patches left out in each training step: regularises, and saves their cost; 0 for none.
        neighbours: k of k-NN.
        model: The ViT; with an encoder only image_size, drop_path (of blocks that learn) and checkpoint_blocks count.
        data: Cases, labels and pixels.
        augment: Augmentation of the training images.
        view: How images are evaluated.
        optim: Optimiser.
        run: Machine.
    """

    mode: str = "full"
    lora_rank: int | None = None
    lora_alpha: float | None = None
    last_blocks: int | None = None
    scales: tuple[int, ...] = (1,)
    network: str = "vit"
    pool: str = "mean"
    pool_ratio: float | None = None
    loss: str = "bce"
    label_smoothing: float = 0.0
    head_drop: float = 0.0
    select: str = "best"
    eval_every: int = 1
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    patch_drop: float = 0.0
    neighbours: int = 20
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    view: View = field(default_factory=View)
    optim: Optim = field(default_factory=lambda: Optim(betas=(0.9, 0.999)))
    run: Run = field(default_factory=Run)
