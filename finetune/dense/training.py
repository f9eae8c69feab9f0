"""Training of maps: their loss, and validation by Dice, which chooses the epoch and the thresholds of the pixels."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...datasets.manifest.regions import UNKNOWN
from ..training import DICE, FineTuning

STEPS = 20  # thresholds tried: 1/20, 2/20, ..., 19/20


class Drawing(FineTuning):
    """Training of a network that draws."""

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch."""
        return self.criterion(self.model(self.pixels(batch)), batch["truth"])

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Count the pixels of a batch."""
        model = self.final_model.eval()
        with torch.inference_mode():
            outputs = model(self.pixels(batch))
            self.scored.append((pixel_counts(outputs, batch["truth"]), self.criterion(outputs, batch["truth"])[None]))

    def on_validation_epoch_end(self) -> None:
        """Log Dice and loss, and keep the weights of the best epoch."""
        counts, losses = (torch.stack(parts) for parts in zip(*self.scored))
        metrics = {DICE: mean_dice(counts.sum(dim=0).cpu().numpy())}
        self.log_dict({f"val_{name}": metric for name, metric in metrics.items()}, rank_zero_only=True)
        self.log("val_loss", losses.mean(), rank_zero_only=True)
        self.keep_best(metrics)


def pixel_counts(outputs: Tensor, truth: Tensor) -> Tensor:
    """Return (L, 2, STEPS) int64: how many known pixels outside and inside of findings have which probability.

    Args:
        outputs: (B, L, h, w) logits.
        truth: (B, L, H, W) uint8, as of `Regions.on`.
    """
    shares = F.interpolate(outputs.float(), size=truth.shape[-2:], mode="bilinear").sigmoid()
    steps = (shares * STEPS).long().clamp(max=STEPS - 1)
    labels = torch.arange(truth.shape[1], device=truth.device).view(1, -1, 1, 1)
    places = (labels * 2 + (truth == 1)) * STEPS + steps
    found = torch.bincount(places[truth != UNKNOWN], minlength=truth.shape[1] * 2 * STEPS)
    return found.view(-1, 2, STEPS)


def dice_by_threshold(counts: np.ndarray) -> np.ndarray:
    """Return (L, STEPS - 1) Dice of all pixels together at each threshold; NaN where no finding is drawn."""
    at_least = counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:].astype(np.float64)
    inside, total = at_least[:, 1], counts[:, 1].sum(axis=-1)[:, None]
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, 2 * inside / (at_least.sum(axis=1) + total), np.nan)


def mean_dice(counts: np.ndarray) -> float:
    """Return the mean over labels, with findings, of Dice at the best threshold of each."""
    best = dice_by_threshold(counts).max(axis=1)
    return float(np.nanmean(best)) if not np.isnan(best).all() else float("nan")


def best_thresholds(counts: np.ndarray) -> list[float | None]:
    """Return per label the threshold with the highest Dice, the middle of those that tie; None without findings."""
    found: list[float | None] = []
    for dice in dice_by_threshold(counts):
        best = np.flatnonzero(dice == dice.max())  # none of NaN
        found.append((int(best[len(best) // 2]) + 1) / STEPS if len(best) else None)
    return found
