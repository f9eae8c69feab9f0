"""The eight 3-D networks of the ERDES paper by name, as classifiers of clips."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...core.extras import require
from ...datasets.manifest.tables import nearest
from .pooling import Head
from .swin import SwinEncoder
from .unet3d import unet3d_encoder
from .unetpp import unetplusplus_encoder
from .unetr import UNETREncoder
from .vit3d import ViT3D
from .vnet import vnet_encoder

POOLS = ("mean", "topk")


@dataclass(frozen=True)
class Network:
    """How a network is made.

    Attributes:
        encoder: Makes it from channels and (frames, height, width).
        width: Channels of the encoder's output.
        least: Fewest frames and pixels per side: one cell after the strides, several where a norm takes statistics
            over the cells of one clip.
        complete: Makes a MONAI network with its own mean pooling and linear layer from channels and labels.
    """

    encoder: Callable[[int, tuple[int, int, int]], nn.Module]
    width: int
    least: tuple[int, int]
    complete: Callable[[int, int], nn.Module] | None = None


class VolumeClassifier(nn.Sequential):
    """A network of the ERDES paper, for training from scratch, with the hyper-parameters of its code.

    With `pool` `mean`, `resnet3d` and `senet154` keep MONAI's own classifier (one linear layer), as in the paper; all
    others, and these two with `topk`, end in `pooling.Head`. `vit3d` classifies by its class token.

    Parameters are named as in the published checkpoints, less their prefix `net.`. What never reaches the output is
    in these and not here: `cross_attn` and `norm_cross_attn` of transformer blocks, `enc.vit.norm` and
    `enc.vit.blocks.10` and `.11` of `unetr`, `enc.encoder*` of `swinunetr`, `enc.last_linear` of `senet154` with
    `topk`.

    Args:
        name: One of `NETWORKS`.
        labels: Number of logits L.
        channels: Input channels C.
        frames: Frames T of a clip.
        size_px: Height and width of a frame, pixels.
        pool: `mean`, or `topk`: selective temporal pooling, the mean of the time steps with the largest norm.
        pool_ratio: Share of the time steps that `topk` keeps, in (0, 1].

    Raises:
        ValueError: A name or a pool that is not known, or a clip too small for the network's strides.
    """

    def __init__(
        self,
        name: str,
        labels: int,
        *,
        channels: int = 1,
        frames: int = 96,
        size_px: int = 128,
        pool: str = "mean",
        pool_ratio: float = 1.0,
    ):
        _refuse(name, frames, size_px, pool, pool_ratio)
        require("monai", "volumes", f"network {name}")
        network = REGISTRY[name]
        size = (frames, size_px, size_px)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if network.complete and pool == "mean":
            parts["model"] = network.complete(channels, labels)
        else:
            parts["enc"] = network.encoder(channels, size)
            if name == "vit3d":
                parts["classification_head"] = nn.Linear(network.width, labels)
            else:
                parts["cls"] = Head(network.width, labels, pool_ratio if pool == "topk" else None)
        super().__init__(parts)

    def no_weight_decay(self) -> set[str]:
        """Return the names that are never decayed: none (the paper's weight decay is 0)."""
        return set()


def _refuse(name: str, frames: int, size_px: int, pool: str, pool_ratio: float) -> None:
    if name not in REGISTRY:
        raise ValueError(f"unknown network {name!r}{nearest(name, NETWORKS)}; known: {', '.join(NETWORKS)}")
    if pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}; known: {', '.join(POOLS)}")
    if name == "vit3d" and pool != "mean":
        raise ValueError("vit3d classifies by its class token and has no pooling option; leave pool at 'mean'")
    if not 0 < pool_ratio <= 1 or (pool == "mean" and pool_ratio != 1):
        raise ValueError(f"pool_ratio is in (0, 1] for pool 'topk' and 1 for 'mean', not {pool_ratio} for {pool!r}")
    least_frames, least_px = REGISTRY[name].least
    if frames < least_frames or size_px < least_px:
        raise ValueError(
            f"{name} needs at least {least_frames} frames of {least_px} x {least_px} px; "
            f"the input has {frames} of {size_px} x {size_px}"
        )


def _resnet3d(channels: int, **kind: Any) -> nn.Module:
    from monai.networks.nets.resnet import ResNet

    return ResNet("basic", [4, 4, 4, 4], [64, 128, 256, 512], spatial_dims=3, n_input_channels=channels, **kind)


def _senet154(channels: int, **kind: Any) -> nn.Module:
    from monai.networks.nets.senet import SENet154

    return SENet154(spatial_dims=3, in_channels=channels, **kind)


def _trunk(network: nn.Module) -> nn.Module:
    """Return a MONAI network up to its last feature map, names kept."""
    tail = {"avgpool", "fc", "adaptive_avg_pool", "dropout", "last_linear"}
    return nn.Sequential(OrderedDict((name, part) for name, part in network.named_children() if name not in tail))


# In the order of the paper's tables.
REGISTRY = {
    "vit3d": Network(ViT3D, 768, (7, 7)),
    "unetr": Network(UNETREncoder, 240, (16, 16)),
    "senet154": Network(
        lambda channels, size: _trunk(_senet154(channels)),
        2048,
        (3, 64),
        lambda channels, labels: _senet154(channels, num_classes=labels),
    ),
    "swinunetr": Network(lambda channels, size: SwinEncoder(channels), 384, (2, 2)),
    "vnet": Network(lambda channels, size: vnet_encoder(channels), 256, (16, 32)),
    "resnet3d": Network(
        lambda channels, size: _trunk(_resnet3d(channels)),
        512,
        (1, 32),
        lambda channels, labels: _resnet3d(channels, num_classes=labels),
    ),
    "unetplusplus": Network(lambda channels, size: unetplusplus_encoder(channels), 256, (16, 32)),
    "unet3d": Network(lambda channels, size: unet3d_encoder(channels), 768, (16, 16)),
}
NETWORKS = tuple(REGISTRY)
