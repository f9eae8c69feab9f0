"""What merging idle units and rounding to few bits do to the papers' networks, measured on random weights.

What a network weighs, how fast it is and what rounding moves do not need the papers' data; its accuracy does.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ...core.ranges import check_ranges, within
from .small import SCALE, Scale, small
from .work import Work

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...eval.statistics.intervals import Estimate
    from ...finetune.model import ModelCard

BITS = (4, 6)
CALIBRATION, JUDGED = 8, 8  # images
PER_NORMED_VALUE = 5  # operations, as fvcore counts a LayerNorm, by which the papers count
GAIN_STD = 1.0  # of the logarithm of the gains of norms: channels differ tens of times, as in trained ViTs


@dataclass(frozen=True)
class Shape:
    """A ViT of random weights that is measured.

    Attributes:
        size: As `model.size`.
        idle: Share of idle units in its MLPs.
        image_px: Side of its images, pixels.
        rounds: How often its speed is measured.
        labels: Classes.
    """

    size: str = "small"
    idle: float = field(default=0.0, metadata=within(0, 1, exclude="high"))
    image_px: int = field(default=224, metadata=within(16))
    rounds: int = field(default=5, metadata=within(1))
    labels: int = field(default=1000, metadata=within(1))

    def __post_init__(self):
        check_ranges(self)


@small.register
def _(recipe: Shape, scale: Scale = SCALE) -> Shape:
    """Return it as it is: nothing is trained."""
    return recipe


def idle_cost(work: Work) -> "Mapping[str, Estimate | float]":
    """Return multiply-adds and parameters of a ViT; of one with idle units after merging, with what that gains.

    Returns:
        `gmacs` of linear layers, patch projection and norms, `gmacs_all` of matmuls, those of attention too,
        `parameters` in millions; with idle units `speed`, how many times as fast as the plain ViT on one thread, and
        `moved`, the largest difference that merging makes to a logit, as a share of the largest logit.
    """
    from ...compress.idle import merge_idle

    shape = work.recipe
    network, card = random_classifier(shape)
    if not shape.idle:
        return _weight_of(network, card)
    merged, merged_card = merge_idle(network, card)
    moved = largest_difference(network, merged, _images(card, JUDGED))
    del network
    return _weight_of(merged, merged_card) | {"speed": _speed(merged, merged_card, shape), "moved": moved}


def rounding_error(work: Work) -> Mapping[str, float]:
    """Return what RepQ-ViT's steps do to the logits of a ViT whose norms have unlike channels.

    Returns:
        `folded`, the largest difference of a logit by re-parameterised scales alone, as a share of the largest logit;
        `plain_w4a4` and `repq_w4a4`, the root mean square error of the logits as a share of theirs at 4 bits without
        and with them; the same at 6 bits.
    """
    import torch

    from ...compress.quantise import calibrate
    from ...compress.ranges import best_levels, matmuls, seen_by_layers

    network, card = random_classifier(work.recipe)
    _unlike_channels(network)
    seen, judged = _images(card, CALIBRATION, seed=1), _images(card, JUDGED, seed=2)
    with torch.inference_mode():
        exact = network(judged)
    found = {"folded": largest_difference(network, calibrate(network, seen).network, judged)}
    for bits in BITS:
        levels = {name: best_levels(values, bits) for name, values in seen_by_layers(network, seen, matmuls(network))}
        found[f"plain_w{bits}a{bits}"] = _error(network, levels, bits, judged, exact)
        made = calibrate(network, seen, bits)
        found[f"repq_w{bits}a{bits}"] = _error(made.network, made.levels, bits, judged, exact)
    return found


def random_classifier(shape: Shape) -> "tuple[nn.Module, ModelCard]":
    """Return a ViT classifier of three channels with random weights, in eval mode, and its card."""
    import torch

    from ...backbone.sizes import architecture
    from ...finetune.idle import idle_architecture
    from ...finetune.model import ModelCard, build_model
    from ...finetune.recipe import Finetune, View

    torch.manual_seed(0)
    arch = architecture(shape.size, image_size=(shape.image_px, shape.image_px), channels=3, class_token=True)
    arch = idle_architecture(arch, Finetune(idle=shape.idle))
    labels = tuple(f"class {number}" for number in range(shape.labels))
    card = ModelCard(labels, {}, True, "full", "vit", "mean", arch, (0.5,) * 3, (0.25,) * 3, View(), shape.image_px)
    network = build_model(card)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    return network.eval(), card


def largest_difference(network: "nn.Module", other: "nn.Module", pixels: "Tensor") -> float:
    """Return the largest difference between the logits of two networks, as a share of the first's largest."""
    import torch

    with torch.inference_mode():
        logits = network(pixels)
        return float((other(pixels) - logits).abs().max() / logits.abs().max())


def _weight_of(network: "nn.Module", card: "ModelCard") -> dict[str, float]:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, _norms_counted(network) as norms:
        network(_images(card, 1))
    flops = counter.get_flop_counts()["Global"]
    attention = sum(value for operator, value in flops.items() if "attention" in str(operator))
    total = counter.get_total_flops()
    return {
        "gmacs": (total - attention) / 2e9 + sum(norms) / 1e9, "gmacs_all": total / 2e9,
        "parameters": sum(value.numel() for value in network.parameters()) / 1e6,
    }  # fmt: skip


@contextmanager
def _norms_counted(network: "nn.Module") -> Iterator[list[int]]:
    """Give the operations of each LayerNorm as fvcore counts them, once the network has run."""
    import torch

    counts: list[int] = []
    handles = [
        part.register_forward_hook(lambda _, __, out: counts.append(PER_NORMED_VALUE * out.numel()))
        for part in network.modules()
        if isinstance(part, torch.nn.LayerNorm)
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _speed(merged: "nn.Module", card: "ModelCard", shape: Shape) -> "Estimate":
    from ...eval.statistics.intervals import Estimate
    from ..compress.forms import network_scores, rates

    plain, plain_card = random_classifier(replace(shape, idle=0.0))
    scorers = {"merged": network_scores(merged, card), "plain": network_scores(plain, plain_card)}
    found = rates(scorers, plain_card, shape.rounds)
    return Estimate(found["merged"] / found["plain"], reason=f"{found['merged']:.2f} images/s on one thread")


def _images(card: "ModelCard", count: int, seed: int = 0) -> "Tensor":
    import torch

    from ...finetune.model import input_shape

    return torch.randn(count, *input_shape(card), generator=torch.Generator().manual_seed(seed))


def _unlike_channels(network: "nn.Module") -> None:
    """Draw gains and biases of all norms, so that their channels have ranges of their own."""
    import torch

    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.LayerNorm):
                part.weight.log_normal_(0, GAIN_STD, generator=draw)
                part.bias.normal_(0, 0.5, generator=draw)


def _error(network: "nn.Module", levels: Mapping, bits: int, pixels: "Tensor", exact: "Tensor") -> float:
    import torch

    from ...compress.rounded import rounded

    with torch.inference_mode(), rounded(network, levels, bits):
        found = network(pixels)
    return float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt())
