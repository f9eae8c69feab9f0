"""What changes over training, evaluated at every step: the learning rate (warm-up, then a cosine) and plain cosines."""

import math

from .recipe import Optim


def learning_rate(
    epoch: float, *, peak: float, minimum: float, warmup: float, epochs: float, constant: bool = False
) -> float:
    """Return the learning rate at a fractional epoch (MAE, util/lr_sched.py).

    Args:
        epoch: Position in training, 0..epochs.
        peak: Rate at the end of the warm-up.
        minimum: Rate at the end of training.
        warmup: Warm-up, epochs.
        epochs: Length of training, epochs.
        constant: Stay at the peak.
    """
    if epoch < warmup:
        return peak * epoch / warmup
    return peak if constant else half_cosine((epoch - warmup) / (epochs - warmup), peak, minimum)


def optim_rate(optim: Optim, epoch: float) -> float:
    """Return the learning rate of a recipe at a fractional epoch; of `plateau` that of its start.

    `cosine_epoch` equals PyTorch's CosineAnnealingLR, stepped after each epoch.
    """
    return learning_rate(
        math.floor(epoch) if optim.schedule == "cosine_epoch" else epoch,
        peak=scaled_rate(optim.base_lr, optim.batch_size), minimum=optim.min_lr, warmup=optim.warmup_epochs,
        epochs=optim.epochs, constant=optim.schedule in ("constant", "plateau"),
    )  # fmt: skip


def half_cosine(progress: float, start: float, end: float) -> float:
    """Return a value between `start` at progress 0 and `end` at 1 (DINO, utils.py: weight decay, momentum)."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def scaled_rate(base: float, batch: int) -> float:
    """Return the peak learning rate of a batch size: base x batch / 256 (the linear rule of MAE and VideoMAE)."""
    return base * batch / 256
