"""The recipe of multiple-instance learning, and the aggregator that it names."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..core.errors import UserError
from ..core.ranges import check_ranges, within
from ..engine.recipe import Optim, Run
from ..finetune.recipe import LOSSES

if TYPE_CHECKING:
    from .aggregator import Aggregator

AGGREGATORS = (
    "mean", "max", "attention", "gated_attention", "dsmil", "self_vit_mil", "transmil", "clam_sb", "clam_mb",
)  # fmt: skip
DUAL_STREAM = ("dsmil", "self_vit_mil")
CLAM = ("clam_sb", "clam_mb")
# What the papers set: width of the embedding, of the attention's hidden layer, dropout.
PAPER = {
    **dict.fromkeys(("mean", "max"), (0, 0, 0.0)),
    **dict.fromkeys(("attention", "gated_attention", *DUAL_STREAM), (0, 128, 0.0)),
    **dict.fromkeys(CLAM, (512, 256, 0.25)),
    "transmil": (512, 0, 0.1),
}


def paper_optim() -> Optim:
    """Return Self-ViT-MIL's (src/dsmil/train.py): Adam at 2e-4 with one bag a step, 200 epochs, a cosine to 5e-6."""
    return Optim(
        epochs=200, warmup_epochs=0, batch_size=1, base_lr=2e-4 * 256, min_lr=5e-6, weight_decay=5e-3,
        betas=(0.5, 0.9), optimizer="adam", schedule="cosine_epoch", decay_biases=True,
    )  # fmt: skip


@dataclass(frozen=True)
class Cases:
    """Which bags, and what of them is learned.

    Attributes:
        splits: Splits of the manifest that are trained on.
        labels: Labels to learn, in this order; null for all of the manifest.
    """

    splits: tuple[str, ...] = ("train",)
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Mil:
    """A classifier of bags; the defaults are those of Self-ViT-MIL.

    Attributes:
        aggregator: `mean`, `max`, `attention`, `gated_attention` (ABMIL), `dsmil`, `self_vit_mil` (the older DSMIL),
            `transmil`, `clam_sb`, `clam_mb`.
        hidden: Width that instances are embedded to first; 0 for none, null for what the aggregator's paper sets.
        attention: Width of the attention's hidden layer; null for the paper's.
        dropout: Null for the paper's.
        standardise: Standardise the features by the training bags (no paper here does; it helps where bags are few).
        instance_dropout: Share of a bag's instances that a training step leaves out.
        max_instances: Most instances of a bag in a training step, drawn anew each time; null for all. Evaluation
            always takes all.
        loss: `bce` (labels occur together; also one label, yes or no) or `ce` (classes exclude each other).
            Of targets in `manifest.json`: `mse` or `l1` (numbers), `corn` (grades), `hazards` or, of batches, `cox`
            (times); left at `bce` the first of its kind.
        score: `bag`, or `average` of both streams' logits (the paper of DSMIL); only for dual streams.
        instance_loss: Of CLAM: `svm` or `ce`.
        instance_weight: Of CLAM: share of the instance loss.
        balance: `none`; `loss` weighs the classes of the training cases equally; `sampling` draws bags so that every
            class comes equally often (CLAM's weighted sampling). Scores rise with either: choose thresholds anew.
        select: `best` (macro AUROC on validation), `accuracy` (on validation), `composite` (Self-ViT-MIL's: the mean of
            AUROC, accuracy at Youden's threshold, 1 and minus the loss; the last of equal epochs) or `last` epoch.
        eval_every: Epochs between validations; the last epoch is always judged.
        data: Bags and labels.
        optim: Optimiser; `base_lr` is per 256 bags.
        run: Machine.
    """

    aggregator: str = "self_vit_mil"
    hidden: int | None = field(default=None, metadata=within(0))
    attention: int | None = field(default=None, metadata=within(1))
    dropout: float | None = field(default=None, metadata=within(0, 1, exclude="high"))
    standardise: bool = False
    instance_dropout: float = field(default=0.0, metadata=within(0, 1, exclude="high"))
    max_instances: int | None = field(default=None, metadata=within(1))
    loss: str = "bce"
    score: str = "bag"
    instance_loss: str = "svm"
    instance_weight: float = field(default=0.3, metadata=within(0, 1))
    balance: str = "none"
    select: str = "best"
    eval_every: int = field(default=1, metadata=within(1))
    data: Cases = field(default_factory=Cases)
    optim: Optim = field(default_factory=paper_optim)
    run: Run = field(default_factory=lambda: Run(precision="32-true"))
    mode: ClassVar[str] = "full"  # nothing is frozen, as the checks that fine-tuning shares put it
    idle: ClassVar[None] = None  # no units of an aggregator are made linear

    def __post_init__(self):
        check_ranges(self)
        for name, known in (
            ("aggregator", AGGREGATORS),
            ("loss", LOSSES),
            ("score", ("bag", "average")),
            ("instance_loss", ("svm", "ce")),
            ("balance", ("none", "loss", "sampling")),
            ("select", ("best", "accuracy", "composite", "last")),
        ):
            if getattr(self, name) not in known:
                raise UserError(f"{name} {getattr(self, name)!r}: one of {', '.join(known)}.")
        if self.score == "average" and self.aggregator not in DUAL_STREAM:
            raise UserError(f"score average is for two streams ({', '.join(DUAL_STREAM)}), not for {self.aggregator}.")
        if self.aggregator not in CLAM and (self.instance_loss, self.instance_weight) != ("svm", 0.3):
            raise UserError(f"instance_loss and instance_weight belong to CLAM, not to {self.aggregator}: leave them.")
        if self.attention is not None and not PAPER[self.aggregator][1]:
            raise UserError(f"{self.aggregator} has no attention width to set: leave `attention` out.")
        if self.aggregator == "transmil" and self.hidden is not None and (self.hidden < 8 or self.hidden % 8):
            raise UserError(f"hidden {self.hidden}: transmil has 8 heads, so a multiple of 8.")


@dataclass(frozen=True)
class MultiView(Mil):
    """A classifier of units by the features of their images; the fields are those of `Mil`."""


def multi_view() -> MultiView:
    """Weigh the images of a study (patient, case) by gated attention over an encoder's features; minutes on a CPU.

    Command: clinvit finetune thorax --recipe multi_view --unit study --data data --encoder runs/ft/model --out runs/mv
    The encoder is any that `extract` takes, or a model that was fine-tuned on single images; it stays as it is.
    """
    # Embedded first: on features that all rise and fall together, attention alone is saturated before it has learned.
    return MultiView(
        aggregator="gated_attention", hidden=256, standardise=True,
        optim=Optim(
            epochs=50, warmup_epochs=0, batch_size=8, base_lr=5e-4 * 32, min_lr=1e-5, weight_decay=1e-4,
            betas=(0.9, 0.999), optimizer="adam", schedule="cosine_epoch",
        ),
    )  # fmt: skip


MULTI_VIEW = {"multi_view": multi_view}


def settings(recipe: Mil) -> tuple[int, int, float]:
    """Return widths of embedding and attention, and dropout: as asked, else the paper's."""
    hidden, attention, dropout = PAPER[recipe.aggregator]
    return (
        hidden if recipe.hidden is None else recipe.hidden,
        attention if recipe.attention is None else recipe.attention,
        dropout if recipe.dropout is None else recipe.dropout,
    )


def build_aggregator(recipe: Mil, width: int, classes: int) -> "Aggregator":
    """Return the aggregator of a recipe for features of a width, weights random."""
    from .aggregator import Standardised

    inner = _named_aggregator(recipe, width, classes)
    return Standardised(inner, width) if recipe.standardise else inner


def _named_aggregator(recipe: Mil, width: int, classes: int) -> "Aggregator":
    from .abmil import AttentionPooling
    from .clam import Clam
    from .dsmil import DualStream
    from .pooling import MaxPooling, MeanPooling
    from .transmil import TransMil

    hidden, attention, dropout = settings(recipe)
    shared: dict[str, Any] = {"width": width, "classes": classes, "hidden": hidden, "dropout": dropout}
    if recipe.aggregator in ("mean", "max"):
        return (MeanPooling if recipe.aggregator == "mean" else MaxPooling)(**shared)
    if recipe.aggregator == "transmil":
        return TransMil(**shared)
    shared["attention"] = attention
    if recipe.aggregator in DUAL_STREAM:
        return DualStream(**shared, linear=recipe.aggregator == "self_vit_mil")
    if recipe.aggregator in CLAM:
        return Clam(
            **shared, branches=recipe.aggregator == "clam_mb", instance_loss=recipe.instance_loss,
            instance_weight=recipe.instance_weight,
        )  # fmt: skip
    return AttentionPooling(**shared, gated=recipe.aggregator == "gated_attention")
