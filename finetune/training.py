"""Training of a classifier: its loss, and validation, which alone chooses the epoch."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone.idle import anneal
from ..core.errors import UserError
from ..core.files import written_aside
from ..core.label_groups import groups_of, parts_of
from ..datasets.loading.loaders import Cases, TrainBatches, eval_loader, reading_workers, train_loader
from ..engine.training import Training
from ..eval.statistics.metrics import macro_auroc
from .answers import Answers
from .mixing import erase_batch, mix_batch
from .model import ModelCard, predict_batch
from .objectives import objective, quality
from .recipe import Finetune

BEST = "checkpoints/best.safetensors"
# What of validation chooses the epoch, where anything does.
QUALITY = "quality"  # of targets that are no labels: `objectives.quality`
DICE = "dice"  # of drawn maps
SELECT = {"best": "macro_auroc", "accuracy": "accuracy", "composite": "composite"}


class FineTuning(Training):
    """Training of a classifier; the best epoch, judged on validation alone, is kept aside if the recipe asks."""

    last_of_ties = False

    def __init__(
        self,
        model,
        recipe: Finetune,
        card: ModelCard,
        train: Cases,
        val: Cases,
        ids,
        folder,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        super().__init__(
            model, recipe.optim, recipe.run, ids=ids, mean=card.mean, std=card.std,
            depth=card.arch.depth if card.network == "vit" else 0, no_decay=getattr(model, "no_weight_decay", set)(),
        )  # fmt: skip
        self.recipe, self.card, self.train_set, self.val_set, self.folder = recipe, card, train, val, folder
        self.workers = reading_workers(recipe.run.workers)
        self.criterion = loss or objective(card).loss
        self.best_score, self.best_epoch = -float("inf"), -1
        self.watched = watched(recipe.select, card)

    def begin(self, batch: dict[str, Tensor], index: int) -> None:
        """Seed what the batch is mixed and thinned by; set how linear idle units are."""
        if self.recipe.idle:
            anneal(self.model, min(1.0, self.progress / self.recipe.idle_ramp) if self.recipe.idle_ramp else 1.0)
        self.draw = torch.Generator().manual_seed(self.step_seed(index, self.global_rank))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch, erased, mixed and smoothed as the recipe says."""
        x, target = self.pixels(batch), batch["target"]
        if self.recipe.label_smoothing:
            target = target.lerp(torch.full_like(target, 1 / target.shape[1]), self.recipe.label_smoothing)
        if self.recipe.erase:
            x = erase_batch(x, self.recipe.erase, self.draw)
        if self.recipe.mixup or self.recipe.cutmix:
            x, target = mix_batch(x, target, self.recipe.mixup, self.recipe.cutmix, self.draw)
        value = self.label_loss(x, target, batch)
        if value.ndim:
            raise UserError(f"the loss gives the shape {tuple(value.shape)}, not a scalar: return its mean.")
        return value

    def label_loss(self, x: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of (B, C, [T,] H, W) normalised pixels and their targets, mixed and smoothed."""
        visible_ids = self.visible(len(x))
        return self.criterion(self.model(x) if visible_ids is None else self.model(x, visible_ids), target)

    def visible(self, batch: int) -> Tensor | None:
        """Return ids of the patches that a training step keeps; None for all."""
        return self.some_patches(batch) if self.recipe.patch_drop else None

    def some_patches(self, batch: int) -> Tensor:
        """Return (B, n) ids of the patches that a training step keeps (PatchDropout, Liu et al. 2022)."""
        times, rows, columns = self.card.arch.grid
        tokens = times * rows * columns
        keep = max(1, round(tokens * (1 - self.recipe.patch_drop)))
        return torch.rand(batch, tokens, generator=self.draw).argsort(dim=1)[:, :keep].to(self.device)

    def train_dataloader(self):
        """Return this process's shuffled batches."""
        # A batch norm of features cannot tell one case from their mean: PyTorch ends the run there.
        normed = any(isinstance(part, nn.BatchNorm1d) for part in self.model.modules())
        batches = TrainBatches(len(self.train_set), *self.share, least=1 + normed)
        if batches.left_out() and self.global_rank == 0:
            print(
                f"note: {len(self.train_set):,} cases in batches of {batches.batch} leave {batches.left_out()} for the "
                "last batch of an epoch, too few for a batch norm: each epoch goes without, another time another one",
                flush=True,
            )
        return train_loader(self.train_set, batches, self.workers, self.done)

    def val_dataloader(self):
        """Return every validation case."""
        # Every process sees every validation case: the score is exact whatever their number.
        return eval_loader(self.val_set, 64, self.workers)

    def on_validation_epoch_start(self) -> None:
        """Begin to collect scores."""
        self.scored: list[tuple[Tensor, Tensor]] = []

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Score a batch."""
        model = self.final_model.eval()
        self.scored.append((predict_batch(model, self.pixels(batch), self.card), batch["target"]))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics, and keep the weights of the best epoch."""
        scores, target = (torch.cat(parts) for parts in zip(*self.scored))
        metrics = self.metrics(scores, target)
        self.log_dict({f"val_{name}": metric for name, metric in metrics.items()}, rank_zero_only=True)
        labels = self.card.labels
        loss = 1 - metrics[QUALITY] if self.card.kinds else log_loss(scores, target, self.card.exclusive, labels)
        self.log("val_loss", loss, rank_zero_only=True)
        self.keep_best(metrics)

    def keep_best(self, metrics: dict[str, float]) -> None:
        """Keep the weights if no epoch before was as good."""
        score = metrics[chosen_by(self.recipe.select, self.card)] if self.recipe.select in SELECT else -float("inf")
        if score > self.best_score or (self.last_of_ties and score == self.best_score > -float("inf")):
            self.best_score, self.best_epoch = score, self.current_epoch + 1
            if self.trainer.is_global_zero:
                with written_aside(self.folder / BEST) as aside:
                    state = {name: t.detach().cpu().contiguous() for name, t in self.final_model.state_dict().items()}
                    safetensors.torch.save_file(state, aside)

    def metrics(self, scores: Tensor, target: Tensor) -> dict[str, float]:
        """Return what is logged of validation, and what the epoch may be chosen by.

        Args:
            scores: (N, S), of findings probabilities.
            target: (N, T), of findings 0, 1 and NaN (unknown).
        """
        if self.card.kinds:
            return {QUALITY: quality(self.card.kinds, target.double().cpu().numpy(), scores.double().cpu().numpy())}
        return {
            "macro_auroc": macro_auroc(target.cpu().numpy(), scores.double().cpu().numpy()),
            "accuracy": accuracy(scores, target, self.card.exclusive, self.card.labels),
        }

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Store which epoch is the best."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["best"] = {"score": self.best_score, "epoch": self.best_epoch}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take which epoch is the best."""
        super().on_load_checkpoint(checkpoint)
        self.best_score, self.best_epoch = checkpoint["best"]["score"], checkpoint["best"]["epoch"]


def chosen_by(select: str, card: Answers) -> str:
    """Return the validation metric that chooses the epoch, or that is looked at where none does."""
    if getattr(card, "dense", None):
        return DICE
    return QUALITY if card.targets else SELECT.get(select, SELECT["best"])


def watched(select: str, card: Answers) -> str:
    """Return the name under which that metric is logged."""
    return f"val_{chosen_by(select, card)}"


def accuracy(scores: Tensor, target: Tensor, exclusive: bool, labels: Sequence[str] = ()) -> float:
    """Return the share of known answers that are right: the largest score (exclusive classes), else each at 0.5.

    Of groups beside findings the mean over these parts.
    """
    if not exclusive and groups_of(labels):
        return _mean_over_parts(accuracy, scores, target, labels)
    known = ~target.isnan()
    if exclusive:
        known = known.all(dim=1)
        return (scores[known].argmax(dim=1) == target[known].argmax(dim=1)).float().mean().item()
    return ((scores >= 0.5)[known] == target.bool()[known]).float().mean().item()


def _mean_over_parts(
    metric: Callable[[Tensor, Tensor, bool], float], scores: Tensor, target: Tensor, labels: Sequence[str]
) -> float:
    """Return the mean of a metric over groups and findings, of those with a known answer."""
    found = [metric(scores[:, part.places], target[:, part.places], part.exclusive) for part in parts_of(labels)]
    return float(np.nanmean(found))


def log_loss(scores: Tensor, target: Tensor, exclusive: bool, labels: Sequence[str] = ()) -> float:
    """Return the mean negative log likelihood of the known answers; of groups beside findings the mean over these."""
    if not exclusive and groups_of(labels):
        return _mean_over_parts(log_loss, scores, target, labels)
    known = ~target.isnan()
    if exclusive:
        known = known.all(dim=1)
        right = (scores[known] * target[known]).sum(dim=1)
        return -right.clamp(min=1e-12).log().mean().item()
    return F.binary_cross_entropy(scores[known], target[known].to(scores.dtype)).item()
