"""What the user says of a checkpoint that the file does not."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """What the user says of a checkpoint; None is left to the file.

    Attributes:
        like: timm's name of a network of the same kind; only its kind is looked at, nothing is fetched.
        heads: Attention heads.
        image_size: Height and width of the input, px.
        prefix: What the names of the ViT begin with.
        mean, std: What pixels in 0..1 are normalised with, one value or one per channel.
    """

    like: str | None = None
    heads: int | None = None
    image_size: tuple[int, int] | None = None
    prefix: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


NOTHING = Said()
