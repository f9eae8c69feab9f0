"""A network of timm as an encoder: whatever its kind, its last features as tokens, as a map, and as one vector."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..backbone.vit import Tokens
from .multiscale import multiscale_vectors
from .timm_network import make_network

HEAD_WIDTH = 64  # of the attention that pools tokens: channels per head, about


class TimmEncoder(nn.Module):
    """A network of timm without its last layer: Swin, ViTamin, ConvNeXt, ResNet, DenseNet, ...

    Its last features are a map or tokens, as the network has it. As a vector `mean` is what its own last layer would
    see, where that is pooled over all places (with the norms that belong to it), else the mean of its patch tokens;
    `class` is its class token, where it classifies by that.

    Args:
        name: timm's name.
        channels: Input channels.
        image_size: Height and width of the input, pixels.
        settings: See `make_network`.
    """

    def __init__(
        self, name: str, channels: int, image_size: tuple[int, int] | None, settings: Mapping[str, Any] | None = None
    ):
        super().__init__()
        self.name = name
        self.network: Any = make_network(name, channels, image_size, 0, settings)

    @property
    def by_token(self) -> bool:
        """Whether the network itself classifies by its class token, or (Virchow) leaves the pooling to others."""
        return getattr(self.network, "global_pool", None) in ("token", "") and before_patches(self.network) > 0

    def width(self, pool: str) -> int:
        """Return D of the vectors that a pool gives."""
        whole = int(self.network.num_features)
        return whole if pool != "mean" or self.by_token else int(getattr(self.network, "head_hidden_size", whole))

    def check_pool(self, pool: str) -> None:
        """Refuse a pool that the network does not have.

        Raises:
            ValueError: Says which to take.
        """
        if pool == "class" and not self.by_token:
            raise ValueError(f"network {self.name!r}: does not classify by a class token: set --pool mean.")

    @property
    def heads(self) -> int:
        """Return heads for an attention that pools the tokens; they divide the width."""
        width = int(self.network.num_features)
        return next(heads for heads in range(max(1, width // HEAD_WIDTH), 0, -1) if width % heads == 0)

    def features(self, x: Tensor) -> Tensor:
        """Return the network's last features of (B, C, H, W) normalised images, in its own layout."""
        found = self.network.forward_features(x)
        if not isinstance(found, Tensor):
            raise ValueError(f"network {self.name!r}: gives several features of an image, not one: take another.")
        return found

    def tokens(self, x: Tensor) -> Tokens:
        """Return all tokens (or places of the map) of images, for an attention that pools them."""
        return Tokens(None, as_tokens(self.network, self.features(x)))

    def vector(self, features: Tensor, pool: str) -> Tensor:
        """Return (B, D) of what `features` gives, by `mean` or `class`."""
        if pool == "mean" and self.by_token:
            return features[:, before_patches(self.network) :].mean(dim=1)
        if pool == "class" and self.network.global_pool == "":
            return features[:, 0]
        return self.network.forward_head(features, pre_logits=True)

    def forward(self, x: Tensor, pool: str = "mean", scales: Sequence[int] = (1,)) -> Tensor:
        """Return (B, D) features pooled by `mean` or `class`, of several scales joined (`multiscale`)."""

        def one(parts: Tensor) -> Tensor:
            return self.vector(self.features(parts), pool)

        return one(x) if len(scales) == 1 else multiscale_vectors(one, x, scales)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that are never decayed, by timm."""
        own = getattr(self.network, "no_weight_decay", set)()
        return {f"network.{name}" for name in own}


def before_patches(network: Any) -> int:
    """Return the number of tokens before those of the patches."""
    return int(getattr(network, "num_prefix_tokens", 0) or 0)


def as_tokens(network: Any, features: Tensor) -> Tensor:
    """Return (B, N, D) of features in the network's own layout: a map's places row by row."""
    if features.ndim == 3:
        return features
    found = as_map(network, features)
    if found is None:
        raise ValueError(f"features of {features.ndim} dimensions are neither tokens nor a map: set --pool mean.")
    return found.flatten(2).transpose(1, 2)


def as_map(network: Any, features: Tensor) -> Tensor | None:
    """Return (B, D, h, w) of features in the network's own layout; None of tokens on no square grid.

    Args:
        network: Of timm.
        features: (B, D, h, w), (B, h, w, D), or tokens (B, prefix + h w, D) of a square image.
    """
    if features.ndim == 4:
        last = getattr(network, "output_fmt", None) == "NHWC"
        return features.permute(0, 3, 1, 2) if last else features
    if features.ndim != 3:
        return None
    patches = features[:, before_patches(network) :]
    side = round(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).unflatten(2, (side, side)) if side * side == patches.shape[1] else None


def frozen_norms(module: nn.Module) -> list[nn.Module]:
    """Return the batch norms of which nothing is trained: their statistics stay as they are, too."""
    norms = (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
    return [norm for norm in norms if not any(parameter.requires_grad for parameter in norm.parameters())]


def trained(module: nn.Module) -> bool:
    """Return whether anything of a module is trained."""
    return any(parameter.requires_grad for parameter in module.parameters())


def set_mode(network: nn.Module, mode: bool) -> None:
    """Set training or eval mode of a network; what learns nothing stays in eval mode: nothing of it is dropped."""
    network.train(mode and trained(network))
    for norm in frozen_norms(network) if mode else []:
        norm.eval()
