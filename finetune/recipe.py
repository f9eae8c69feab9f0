"""The recipe of fine-tuning, probing and k-NN."""

from dataclasses import dataclass, field

from ..backbone.sizes import LARGEST, Model
from ..core.errors import UserError
from ..core.ranges import check_ranges, within
from ..datasets.settings import Data
from ..datasets.transforms.augment import Augment
from ..engine.recipe import Optim, Run

# In place of a network's name: a module that somebody gave to `finetune`; no file can tell how to build it.
OWN = "own"
LOSSES = ("bce", "ce", "mse", "l1", "corn", "hazards", "cox")  # the latter are of targets (`datasets.manifest.targets`)
TARGETS = ("labels", "boxes", "masks")  # the latter two are drawn (`finetune.dense`)


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
    resize_px: int | None = field(default=256, metadata=within(1, LARGEST))
    flip: bool = False
    segments: int = field(default=1, metadata=within(1))
    crops: int = field(default=1, metadata=within(1))

    def __post_init__(self):
        check_ranges(self, "view")
        if self.crops > 1 and self.mode != "crop":
            raise UserError(f"view.crops {self.crops} cuts squares out: only with view.mode crop, not {self.mode}.")


@dataclass(frozen=True)
class Dense:
    """The head that draws where findings are (`target` boxes or masks): that of IML-ViT (Ma et al. 2023).

    Attributes:
        window: Tokens along a side of the windows that most blocks attend within; four blocks, evenly spaced, see the
            whole image. 0 lets every block see it, as the encoder was pre-trained.
        channels: Of each level of the feature pyramid.
        drop: Dropout before the last layer.
        edge_px: Width of the band along the edges of findings that counts more, an odd number of px of the input.
        edge_weight: By how many times more it counts.
    """

    window: int = field(default=0, metadata=within(0, LARGEST))
    channels: int = field(default=256, metadata=within(1, LARGEST))
    drop: float = field(default=0.5, metadata=within(0, 1, exclude="high"))
    edge_px: int = field(default=7, metadata=within(1, LARGEST))
    edge_weight: float = field(default=20.0, metadata=within(0))

    def __post_init__(self):
        check_ranges(self, "dense")
        if self.edge_px % 2 == 0:
            raise UserError(f"dense.edge_px {self.edge_px}: the band has as many px on both sides: an odd number.")


@dataclass(frozen=True)
class Finetune:
    """A classifier from an encoder, or from scratch.

    Attributes:
        mode: `full` (all weights); of a frozen encoder `linear` (probe), `attentive` (probe that learns to pool; with
            pool `attention`) or `knn` (no training); or, beside what is new, of the encoder only `norm` (its norms),
            `bitfit` (biases), `lora` (low-rank updates of the attention) or, of vit, `last_blocks`.
        lora_rank: Rank r of the updates of `lora`; null for every other mode.
        lora_alpha: Their scale is lora_alpha / r; null for r, and for every other mode.
        last_blocks: How many of the encoder's blocks `last_blocks` trains; null for every other mode.
        scales: Scales that a frozen encoder sees images at, joined over the channels (Scaling on Scales): [1, 2] adds
            each image at twice the input size, cut into 2 x 2 parts. Needs a data.cache_px of so many times the size.
        network: `vit`, or another: a timm name (images; from scratch or from a checkpoint of its own, in every mode but
            last_blocks), or one of the ERDES baselines (clips, from scratch): unet3d, unetplusplus, resnet3d, vnet,
            swinunetr, senet154, unetr, vit3d.
        pool: `mean`, `class`, `attention`; of the ERDES baselines `mean` or `topk` (selective temporal pooling). Of a
            frozen timm network `mean` is what its own last layer sees.
        pool_ratio: Share of the time steps that `topk` averages over (0.3 in ERDES); null for every other pool.
        loss: `bce` (findings occur together) or `ce` (classes exclude each other). Of targets in `manifest.json`: `mse`
            or `l1` (numbers), `corn` (grades), `hazards` or `cox` (times); left at `bce` the first of its kind.
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
        idle: Share of each MLP's hidden units that become linear (RePaViT), which `export` merges into one matmul; 0
            for none. With 0.75 a ViT-S is about 1.6 times as fast on a CPU.
        idle_ramp: Share of the training over which they become so.
        idle_norm: `layer` keeps the norms, and with them the weights of an encoder valid; `batch` is RePaViT as
            published: batch norms in the MLPs, which are folded, too.
        target: `labels`, or where findings are: `boxes` (boxes.csv beside the manifest) or `masks` (files that its
            columns `mask_<label>` name) are drawn by a head on the encoder's tokens (`dense`).
        dense: Of `target` boxes and masks.
        contexts: Columns of the manifest, such as [view, scanner]: the head of a frozen encoder infers them from its
            features, and judges each label by context (modes linear and attentive). Nothing of them is needed at use.
        context_rank: Rank of what a context adds to the shared weights.
        context_mix: `posterior` weighs contexts by how likely a case is from each, `balanced` all alike, so that no
            score rises because a finding is frequent in a context.
        head_norm: `l2`: the features that the head sees are of unit length (mode norm); `none`.
        alignment: Weight of the mean squared distance of training cases with equal labels; with head_norm l2.
        uniformity: Weight of how near all training cases are to each other; with head_norm l2.
        slerp: Weight of the loss of invented cases, on the arc between two with equal labels; with head_norm l2.
        stem: Convolutions of the whole image are added to the ViT's projected patches. They are new and give zero at
            first, so that an encoder starts as it was (mode full, images).
    """

    mode: str = "full"
    lora_rank: int | None = field(default=None, metadata=within(1))
    lora_alpha: float | None = field(default=None, metadata=within(0, exclude="low"))
    last_blocks: int | None = field(default=None, metadata=within(1))
    scales: tuple[int, ...] = field(default=(1,), metadata=within(1))
    network: str = "vit"
    pool: str = "mean"
    pool_ratio: float | None = field(default=None, metadata=within(0, 1, exclude="low"))
    loss: str = "bce"
    label_smoothing: float = field(default=0.0, metadata=within(0, 1, exclude="high"))
    head_drop: float = field(default=0.0, metadata=within(0, 1, exclude="high"))
    select: str = "best"
    eval_every: int = field(default=1, metadata=within(1))
    erase: float = field(default=0.0, metadata=within(0, 1))
    mixup: float = field(default=0.0, metadata=within(0))
    cutmix: float = field(default=0.0, metadata=within(0))
    patch_drop: float = field(default=0.0, metadata=within(0, 1, exclude="high"))
    neighbours: int = field(default=20, metadata=within(1))
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    view: View = field(default_factory=View)
    optim: Optim = field(default_factory=lambda: Optim(betas=(0.9, 0.999)))
    run: Run = field(default_factory=Run)
    idle: float = field(default=0.0, metadata=within(0, 1, exclude="high"))
    idle_ramp: float = field(default=0.25, metadata=within(0, 1))
    idle_norm: str = "layer"
    target: str = "labels"
    dense: Dense = field(default_factory=Dense)
    contexts: tuple[str, ...] = ()
    context_rank: int = field(default=4, metadata=within(1, LARGEST))
    context_mix: str = "posterior"
    head_norm: str = "none"
    alignment: float = field(default=0.0, metadata=within(0))
    uniformity: float = field(default=0.0, metadata=within(0))
    slerp: float = field(default=0.0, metadata=within(0))
    stem: bool = False

    def __post_init__(self):
        check_ranges(self)
        if self.target not in TARGETS:
            raise UserError(f"target is {', '.join(TARGETS[:-1])} or {TARGETS[-1]}, not {self.target!r}.")
