"""Layer-wise relevance propagation through a ViT: how much of the logits comes by way of each linear layer.

The rules are those of AttnLRP (Achtibat et al. 2024, ICML), as lxt has them, but for the softmax, whose relevance
passes on whole: so nothing is lost on the way. Linear layers and sums share by what each part adds (epsilon rule);
activations and the division by the standard deviation pass on what they get; products of two activations give half to
each.

Each rule is that of gradient times input in a network whose backward pass is changed: relevance of any tensor x is
x * dlogit/dx there. What a bias adds is relevance of the bias: with biases the input gets the rest.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import Attention, DropPath, LayerScale, Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..backbone.attention import query_key_value
from ..backbone.patches import PatchEmbed
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..finetune.classifier import Classifier

_ACTIVATIONS = (nn.GELU, nn.ReLU, nn.SiLU)
# What is linear, and what only holds other parts: gradients are right as they are.
_PLAIN = (
    nn.Identity, nn.Dropout, nn.Linear, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.ModuleList, nn.Sequential, Mlp, Block,
    LayerScale, DropPath, PatchEmbed, ViT, Classifier,
)  # fmt: skip


def layer_relevance(network: nn.Module, pixels: Tensor, names: Iterable[str]) -> dict[str, float]:
    """Return the share of the relevance that each layer's output carries, in the mean over calibration images.

    Args:
        network: A classifier on a plain ViT, in eval mode.
        pixels: (B, C, [T,] H, W) normalised.
        names: Of linear layers.

    Returns:
        By name the sum of absolute relevance, over all layers 1.

    Raises:
        UserError: The network has parts without a rule.
    """
    parts, sums = dict(network.named_modules()), dict.fromkeys(names, 0.0)
    for image in pixels.split(8):
        outputs: dict[str, Tensor] = {}
        with torch.enable_grad(), propagating(network), _caught({name: parts[name] for name in sums}, outputs):
            logits = network(image.detach().requires_grad_())
            gradients = torch.autograd.grad(logits.sum(), [outputs[name] for name in sums])
        for name, gradient in zip(sums, gradients, strict=True):
            sums[name] += float((outputs[name].detach() * gradient).abs().sum())
    total = sum(sums.values()) or 1.0
    return {name: value / total for name, value in sums.items()}


def input_relevance(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, L) logits of an input and the relevance of each of its values for the sum of the logits."""
    x = x.detach().requires_grad_()
    with torch.enable_grad(), propagating(network):
        logits = network(x)
        (gradient,) = torch.autograd.grad(logits.sum(), x)
    return logits.detach(), (x * gradient).detach()


@contextmanager
def propagating(network: nn.Module) -> Iterator[None]:
    """Let the gradients of a network be those of the rules, while the block runs; what it gives stays the same.

    Raises:
        UserError: It has parts without a rule.
    """
    changed: list[nn.Module] = []
    try:
        for name, part in network.named_modules():
            rule = _rule(part)
            if rule is not None:
                part.forward = rule.__get__(part)  # type: ignore[method-assign]
                changed.append(part)
            elif not isinstance(part, _PLAIN):
                raise UserError(
                    f"relevance has no rule for {type(part).__name__} ({name}): take measured sensitivity instead."
                )
        yield
    finally:
        for part in changed:
            del part.forward  # the method of its class is there again


def _rule(part: nn.Module) -> Callable | None:
    if type(part) is Attention:
        return _attention
    if isinstance(part, nn.LayerNorm):
        return _layer_norm
    return _activation if isinstance(part, _ACTIVATIONS) else None


def _layer_norm(norm: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    y = centred / (centred.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt().detach()
    y = y if norm.weight is None else y * norm.weight
    return y if norm.bias is None else y + norm.bias


def _activation(part: nn.Module, x: Tensor) -> Tensor:
    return _passed_on(x, type(part).forward(part, x))


def _attention(attn: Any, x: Tensor, **_: Any) -> Tensor:
    query, key, value = query_key_value(attn, attn.qkv(x))
    scores = _halved(query * attn.scale, key.transpose(-2, -1))
    mixed = _halved(_passed_on(scores, scores.softmax(dim=-1)), value)
    return attn.proj(attn.norm(mixed.transpose(1, 2).flatten(2)))


def _passed_on(x: Tensor, y: Tensor) -> Tensor:
    """Return y, which gives its relevance to x whole."""
    safe = torch.where(x.abs() < 1e-12, torch.full_like(x, 1e-12), x)
    return (x - x.detach()) * (y / safe).detach() + y.detach()


def _halved(a: Tensor, b: Tensor) -> Tensor:
    """Return the matmul of a and b, which gives half of its relevance to each."""
    return (a @ b.detach() + a.detach() @ b) / 2


@contextmanager
def _caught(parts: dict[str, nn.Module], outputs: dict[str, Tensor]) -> Iterator[None]:
    def keep(name: str) -> Callable:
        return lambda _, __, out: outputs.__setitem__(name, out)

    handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
