"""What a key of a recipe is beside the official code: equal, a departure on purpose, ours alone, or of no account."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Official(NamedTuple):
    """The official code has this value, and so have we.

    Attributes:
        value: In our units (a batch over all devices, a rate per 256 cases, RandAugment with its number of operations).
        file: In the official repository.
        line: Where the value stands, or lines whose product or sequence it is.
    """

    value: Any
    file: str
    line: int | tuple[int, ...]


class Departs(NamedTuple):
    """The official code has another value, and we know why ours differs."""

    ours: Any
    official: Any
    file: str
    line: int | tuple[int, ...]
    reason: str


class Ours(NamedTuple):
    """The official code has no such setting: ours has the value that stands for that."""

    value: Any
    reason: str


class Free(NamedTuple):
    """No result of this recipe depends on it."""

    reason: str


Entry = Official | Departs | Ours | Free


class Settings(NamedTuple):
    """A recipe of ours beside the official one.

    Attributes:
        make: Makes our recipe.
        source: Official repository, at a commit.
        keys: Dotted key of the recipe to what it is.
    """

    make: Callable[[], Any]
    source: str
    keys: dict[str, Entry]


def free(keys: str, reason: str) -> dict[str, Entry]:
    """Return keys, separated by blanks, that change no result."""
    return dict.fromkeys(keys.split(), Free(reason))


def off(reason: str, **values: Any) -> dict[str, Entry]:
    """Return keys that only we have, at the value that switches them off; `__` stands for the dot."""
    return {key.replace("__", "."): Ours(value, reason) for key, value in values.items()}


MACHINE = free(
    "run.devices run.nodes run.workers run.compile run.checkpoint_minutes run.profile run.strategy run.track "
    "run.threads data.cache data.clip.reader",
    "where and how it runs",
)
NO_FRAMES = free(
    "data.clip.sampling data.clip.stride data.clip.repeats data.clip.black_out data.clip.fps data.clip.roi "
    "data.clip.roi_margin",
    "images have no frames",
)
CASES = off("which cases and labels is asked for when it runs", data__splits=("train",), data__labels=None) | off(
    "ours refuses a set of which more cannot be read; the official codes stop, or take another case", run__max_bad=0.01
)
OPTIM_OFF = off(
    "the official optimiser has no such thing",
    optim__weight_decay_end=None, optim__clip_norm=None, optim__clip_tensor_norm=None, optim__ema_decay=None,
    optim__no_decay=(), optim__layer_decay=1.0,
)  # fmt: skip
AUGMENT_OFF = off(
    "the official transform has no such step",
    augment__rotate_deg=0.0, augment__brightness_contrast=0.0, augment__randaug=None, augment__randaug_first=False,
) | free("augment.fill", "only RandAugment fills")  # fmt: skip
NO_STAIN = off("only tiles of slides are stained", tiles_per_slide=None, stain__method="none", stain__scope="slide")
FULL = off(
    "all weights are trained, of one network at one scale",
    mode="full", lora_rank=None, lora_alpha=None, last_blocks=None, scales=(1,), patch_drop=0.0, pool_ratio=None,
    idle=0.0, idle_norm="layer", contexts=(), context_mix="posterior", head_norm="none", alignment=0.0, uniformity=0.0,
    slerp=0.0, target="labels", stem=False,
) | free("neighbours", "only k-NN has neighbours") | free(
    "idle_ramp context_rank", "no unit is idle, no context known"
) | free(
    "dense.window dense.channels dense.drop dense.edge_px dense.edge_weight", "nothing is drawn"
)  # fmt: skip
ONE_VIEW = off("the official evaluation looks once", view__flip=False, view__segments=1, view__crops=1)
NO_BATCH_NORM = free("run.sync_batchnorm", "the network has no batch norm")
ONE_CHANNEL = "X-rays have one channel; the official loader repeats it three times"
BF16 = "bf16 where the device has it, which needs no scaling of the loss"
SCRATCH = free("start.freeze_blocks start.warmup_epochs", "training starts from random weights")
IMAGE = off("an image is a clip of one frame", model__frames=1, model__tubelet=1)
LEARNED = Free("the encoder's are taken, and learned on")
CNN = free(
    "model.size model.patch_size model.class_token model.positions model.drop_path model.checkpoint_blocks",
    "the network is no ViT",
)
