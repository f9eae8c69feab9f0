"""The recipe of tile features (`clinvit extract`), apart from what carries it out: recipes are listed without torch."""

from dataclasses import dataclass, field

from ..core.ranges import check_ranges, within
from ..datasets.slides.settings import Stain


@dataclass(frozen=True)
class Extract:
    """How tiles become features.

    Attributes:
        features: Of our own encoders `class`, `mean`, `class_mean` or `class4_mean` (Self-ViT-MIL: class tokens of the
            last four blocks and the mean of the last patch tokens); of timm's and hub networks `pooled`.
        scales: Scales that tiles are seen at, joined over the values (Scaling on Scales): [1, 2] adds each tile read at
            twice its pixels, which the slide must have, cut into 2 x 2 parts; features of width D become 2 D.
        batch_size: Tiles per step.
        precision: `32-true`, `bf16-mixed` or `16-mixed`; `auto` is 16-mixed on a GPU, 32-true on a CPU.
        dtype: Stored as `float32` (what CLAM expects) or `float16` (half the space; of a slide with values beyond
            65,504 still float32).
        workers: Reading processes; -1 takes one per core, at most 16.
        tile_level0_px: Side of a tile in level-0 px, for tile files of other tools that do not say.
        stain: Stain normalisation; the same as the encoder was trained with.
    """

    features: str = "class4_mean"
    scales: tuple[int, ...] = field(default=(1,), metadata=within(1))
    batch_size: int = field(default=256, metadata=within(1))
    precision: str = "auto"
    dtype: str = "float32"
    workers: int = field(default=-1, metadata=within(-1, 1024))
    tile_level0_px: int | None = field(default=None, metadata=within(1))
    stain: Stain = field(default_factory=Stain)

    def __post_init__(self):
        check_ranges(self)
