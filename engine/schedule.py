"""The learning rate over training: linear warm-up, then half a cosine or a constant, evaluated at every step."""

import math


def learning_rate(
    epoch: float, *, peak: float, minimum: float, warmup: float, epochs: float, constant: bool = False
) -> float:
    """Learning rate at a fractional epoch (MAE, util/lr_sched.py).

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
    if constant:
        return peak
    progress = (epoch - warmup) / (epochs - warmup)
    return minimum + (peak - minimum) * 0.5 * (1 + math.cos(math.pi * progress))


def scaled_rate(base: float, batch: int) -> float:
    """Peak learning rate of a batch size: base x batch / 256 (the linear rule of MAE and VideoMAE)."""
    return base * batch / 256
