"""What a recipe says of the data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Data:
    """Which cases, and how their pixels are stored and normalised.

    Attributes:
        splits: Splits of the manifest that are trained on.
        labels: Labels to learn, in this order; null for all of the manifest.
        cache_px: Shorter side of the pictures in the cache, pixels; at least the input size.
        mean: Mean of pixels in 0..1, one value per channel.
        std: Standard deviation of pixels in 0..1, one value per channel.
    """

    splits: tuple[str, ...] = ("train",)
    labels: tuple[str, ...] | None = None
    cache_px: int = 256
    mean: tuple[float, ...] = (0.5056,)
    std: tuple[float, ...] = (0.252,)


def for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Input statistics for another number of channels: one has the mean of three, three have that of the one."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
