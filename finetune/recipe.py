"""The recipe of fine-tuning, linear probing and k-NN."""

from dataclasses import dataclass, field

from ..backbone.sizes import Model
from ..datasets.augment import Augment
from ..datasets.recipe import Data
from ..engine.recipe import Optim, Run


@dataclass(frozen=True)
class View:
    """How a picture is shown to the model when it is evaluated.

    Attributes:
        mode: `crop` (shorter side to `resize_px`, then the centre), `squash` (the whole picture, made square) or `pad`.
        resize_px: Shorter side before the centre crop, pixels; null for the input size.
        flip: Average the probabilities of the picture and its mirror image.
    """

    mode: str = "crop"
    resize_px: int | None = 256
    flip: bool = False


@dataclass(frozen=True)
class Finetune:
    """A classifier from an encoder, or from scratch.

    Attributes:
        mode: `full` (all weights), `linear` (probe of a frozen encoder) or `knn` (no training).
        network: `vit`, or the name of a timm network to train from scratch beside it.
        pool: `mean`, `class` or `attention`.
        loss: `bce` (findings occur together) or `ce` (classes exclude each other).
        select: `best` (macro AUROC on validation) or `last` epoch, which looks at no score.
        eval_every: Epochs between validations.
        mixup: Alpha of mixup; 0 for none.
        cutmix: Alpha of CutMix; 0 for none.
        patch_drop: Share of patches left out in each training step: regularises, and saves their cost; 0 for none.
        neighbours: k of k-NN.
        model: The ViT; with an encoder only image_size, drop_path and checkpoint_blocks count.
        data: Cases, labels and pixels.
        augment: Augmentation of the training pictures.
        view: How pictures are evaluated.
        optim: Optimiser.
        run: Machine.
    """

    mode: str = "full"
    network: str = "vit"
    pool: str = "mean"
    loss: str = "bce"
    select: str = "best"
    eval_every: int = 1
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
