"""Where a network looked: attention rollout and gradient-weighted attention of a ViT, Grad-CAM of any timm network.

Attention weights are computed anew from the queries and keys that hooks catch, and their gradients from those of what
the heads give: so the network itself runs with fused attention, as it does in prediction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..backbone.attention import attention_weights
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..finetune.classifier import Classifier, TimmClassifier, pooled
from ..finetune.dense.network import DenseNetwork
from ..finetune.timm_encoder import TimmEncoder, as_map, as_tokens

METHODS = ("gradient", "attention")
DRAWN = "dense"  # maps of a network that draws, which are probabilities


Values = Callable[[Tensor], Tensor]  # (B, L) numbers that are explained, of (B, O) outputs


def as_they_are(outputs: Tensor) -> Tensor:
    """Return the logits of findings."""
    return outputs


def relevance_maps(model: nn.Module, x: Tensor, targets: Tensor, method: str, values: Values = as_they_are) -> Tensor:
    """Return one relevance map per image and label.

    `gradient` gives each label a map of its own. For a ViT it is the attention of all layers, weighted by the gradient
    of the label's logit (Chefer et al. 2021); for a timm network it is Grad-CAM (Selvaraju et al. 2017). `attention` is
    attention rollout (Abnar & Zuidema 2020), the same map for every label. A network that draws gives what it draws:
    the probability of each label, place by place.

    Args:
        model: `Classifier`, `NearestNeighbours`, `TimmClassifier` or `DenseNetwork`, in eval mode.
        x: (B, C, H, W) normalised images, or (B, C, T, H, W) clips for `gradient` of a ViT.
        targets: (B, K) int64, indices of the labels to explain in each image.
        method: `gradient` or `attention`.
        values: What is explained of the outputs (`objectives.summarised`): of findings their logits, of a number, a
            grade or a time the value, the expected grade or the risk.

    Returns:
        (B, K, gh, gw) float32, of clips (B, K, gt, gh, gw), at least 0.

    Raises:
        UserError: An unknown method, or one that the network does not allow.
    """
    made = method_of(model, method)
    if made == DRAWN:
        return drawn_maps(model, x, targets)
    if made == "grad_cam":
        return grad_cam(model, x, targets, values)
    if made == "gradient":
        return gradient_attention(model, x, targets, values)
    return attention_rollout(model, x).unsqueeze(1).expand(-1, targets.shape[1], -1, -1)


def method_of(model: nn.Module, method: str) -> str:
    """Return what the maps of a model are made by.

    `gradient` and `attention` of a ViT, `grad_cam` of a timm network, `dense` of a network that draws.

    Raises:
        UserError: See `relevance_maps`.
    """
    if method not in METHODS:
        raise UserError(f"--explain-method {method!r}: one of {', '.join(METHODS)}.")
    if isinstance(model, DenseNetwork):
        if method == "attention":
            raise UserError("--explain-method attention is for classifiers; this model draws its maps: leave it out.")
        return DRAWN
    if not (isinstance(model, TimmClassifier) or isinstance(getattr(model, "encoder", None), TimmEncoder)):
        return method
    if method == "attention":
        raise UserError("--explain-method attention is for ViT models; use `gradient` (Grad-CAM) with this network.")
    return "grad_cam"


@torch.inference_mode()
def drawn_maps(model: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    """Return (B, K, h, w) probabilities of what a `DenseNetwork` draws of (B, K) labels."""
    shares = model(x).float().sigmoid()
    return shares.gather(1, targets[..., None, None].expand(-1, -1, *shares.shape[2:]))


@torch.no_grad()
def attention_rollout(model: nn.Module, x: Tensor) -> Tensor:
    """Return (B, gh, gw) attention rollout: the matrix product over the layers of (A + I) / 2, A the mean over heads.

    Abnar & Zuidema 2020, section 3. Its row of the class token is read, or the mean over the rows of the tokens that
    the model pools. Rows are carried downwards instead of multiplying whole matrices.
    """
    encoder: Any = model.encoder
    with _caught(encoder) as layers:
        encoder(x)
    row = _read_from(model, layers[0].qkv)
    for layer in reversed(layers):
        weights = layer.weights()[0].mean(dim=1)
        row = (row + torch.einsum("bn,bnm->bm", row, weights)) / 2
    return _on_grid(row, model, x)


def gradient_attention(model: nn.Module, x: Tensor, targets: Tensor, values: Values = as_they_are) -> Tensor:
    """Return (B, K, gh, gw) relevance by gradient-weighted attention.

    Chefer et al. 2021, "Generic Attention-model Explainability", equations 5 and 6: R <- R + mean over heads of (A *
    dlogit/dA)+ R, from R = I at the first layer.

    Read as in `attention_rollout`, without the share of the identity, which is the same for every pooled patch and says
    nothing. One forward pass; one backward pass per label.
    """
    encoder: Any = model.encoder
    with torch.enable_grad(), _caught(encoder) as layers:
        logits = values(_logits(model, x.detach().requires_grad_()))
        heads = [layer.heads for layer in layers]
        maps = []
        for column in targets.T:
            chosen = logits.gather(1, column.unsqueeze(1)).sum()
            gradients = torch.autograd.grad(chosen, heads, retain_graph=True)
            maps.append(_relevance(model, layers, gradients))
    return torch.stack([_on_grid(row, model, x) for row in maps], dim=1)


def grad_cam(model: nn.Module, x: Tensor, targets: Tensor, values: Values = as_they_are) -> Tensor:
    """Return (B, K, h, w) Grad-CAM of a timm network's last feature map (Selvaraju et al. 2017, equations 1 and 2).

    Tokens are a map, too. Where the class token alone is classified, the last tokens of the patches change nothing:
    those that the last block sees are the map.

    Args:
        model: `TimmClassifier`, or `Classifier` or `NearestNeighbours` on a `TimmEncoder`.
        x: (B, C, H, W) normalised images.
        targets: (B, K) labels.
        values: As of `relevance_maps`.

    Raises:
        UserError: The network's last features are no map.
    """
    own: Any = model
    network = own.network if isinstance(model, TimmClassifier) else own.encoder.network
    with torch.enable_grad(), _last_block_input(network) as before:
        features = network.forward_features(x.detach().requires_grad_())
        logits = values(_from_features(model, network)(features))
        source = features
        if _by_token(model, network):
            source = before[0] if before else None
        found = None if not isinstance(source, Tensor) else as_map(network, source)
        if found is None:
            raise UserError(
                f"--explain: {type(network).__name__} gives no feature map (channels, height, width), which Grad-CAM "
                "needs. Explain a ViT or a convolutional network."
            )
        maps = []
        for column in targets.T:
            chosen = logits.gather(1, column.unsqueeze(1)).sum()
            (gradient,) = torch.autograd.grad(chosen, source, retain_graph=True)
            slopes = as_map(network, gradient)
            assert slopes is not None, "of the layout of what it is the gradient of"
            weights = slopes.mean(dim=(2, 3), keepdim=True)
            maps.append((weights * found.detach()).sum(dim=1).clamp(min=0))
    return torch.stack(maps, dim=1).float()


@contextmanager
def _last_block_input(network: Any) -> Iterator[list[Tensor]]:
    """Fill a list with the tokens that the last block of a network sees, where it has blocks of tokens."""
    seen: list[Tensor] = []
    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential) or not len(blocks):
        yield seen
        return
    handle = blocks[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _from_features(model: Any, network: Any) -> Callable[[Tensor], Tensor]:
    """Return what makes (B, L) logits of a network's last features."""
    if isinstance(model, TimmClassifier):
        return network.forward_head
    if isinstance(model, Classifier):
        return lambda features: model.head(model.fc_norm(_vector(model, features)))
    return lambda features: model.logits(torch.nn.functional.normalize(_vector(model, features).float(), dim=1))


def _vector(model: Any, features: Tensor) -> Tensor:
    if model.pool == "attention":
        return model.attention_pool(as_tokens(model.encoder.network, features))
    return model.encoder.vector(features, model.pool)


def _by_token(model: Any, network: Any) -> bool:
    """Return whether the class token alone reaches the logits."""
    own = getattr(network, "global_pool", None) == "token"
    return own if isinstance(model, TimmClassifier) else model.pool == "class"


class _Layer(NamedTuple):
    """What hooks caught of one block.

    Attributes:
        attn: Its attention, of `head_count` heads.
        qkv: (B, N, 3D).
        heads: (B, N, D), what its heads give, side by side.
        turn: Of rotary positions, alone in a tuple, or an empty one.
    """

    attn: nn.Module
    qkv: Tensor
    heads: Tensor
    turn: tuple
    head_count: int

    @torch.no_grad()
    def weights(self) -> tuple[Tensor, Tensor]:
        """Return attention (B, heads, N, N) and values (B, heads, N, D / heads), without a graph."""
        return attention_weights(self.attn, self.qkv.detach(), *self.turn)


@contextmanager
def _caught(vit: ViT) -> Iterator[list[_Layer]]:
    """Fill a list with the layers of a ViT while it runs, from first to last."""
    layers: list[_Layer] = []
    passing: list = []
    handles = []
    for block in vit.blocks:
        attn: Any = block.attn
        handles.append(attn.register_forward_pre_hook(lambda _, given: passing.append(given[1:])))
        handles.append(attn.qkv.register_forward_hook(lambda _, given, out: passing.append(out)))
        # What the heads give passes through `norm`, of most ViTs the identity, before it is joined.
        handles.append(
            attn.norm.register_forward_pre_hook(
                lambda _, given, attn=attn: layers.append(_caught_layer(attn, passing, given[0]))
            )
        )
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()


def _caught_layer(attn: Any, passing: list, heads: Tensor) -> _Layer:
    qkv, turn = passing.pop(), passing.pop()
    return _Layer(attn, qkv, heads, turn, attn.num_heads)


def _logits(model: Any, x: Tensor) -> Tensor:
    """Return (B, L) logits with a graph back to x; the `forward` of a linear probe keeps none."""
    if isinstance(model, Classifier):
        return model.head(model.fc_norm(pooled(model.encoder(x), model.pool, model.attention_pool)))
    return model(x)


def _relevance(model: Any, layers: list[_Layer], gradients: tuple[Tensor, ...]) -> Tensor:
    """Return (B, N): the rows of R - I that the model reads."""
    start = _read_from(model, layers[0].qkv)
    row = torch.zeros_like(start)
    for layer, gradient in zip(reversed(layers), reversed(gradients), strict=True):
        weights, value = layer.weights()
        # What a head gives is its weights times its values: so is the gradient of the weights.
        slope = gradient.unflatten(2, (layer.head_count, -1)).transpose(1, 2) @ value.mT
        positive = (weights * slope).clamp(min=0).mean(dim=1)
        row = row + torch.einsum("bn,bnm->bm", start + row, positive)
    return row


def _read_from(model: Any, like: Tensor) -> Tensor:
    """Return (B, N), the share of each token in what the head sees.

    The class token, the mean of the patches, or all tokens where a learned query attends to them.
    """
    share = like.new_zeros(like.shape[:2])
    if model.pool != "class":
        share[:, _before_patches(model) :] = 1
    if model.pool == "class" or (model.pool == "attention" and model.encoder.arch.class_token):
        share[:, 0] = 1
    return share / share.sum(dim=1, keepdim=True)


def _on_grid(row: Tensor, model: Any, x: Tensor) -> Tensor:
    """Return (B, N) as (B, gh, gw) float32, of clips (B, gt, gh, gw), without the tokens before the patches."""
    arch = model.encoder.arch
    frames = () if x.ndim == 4 else (x.shape[2] // arch.tubelet,)
    grid = (*frames, x.shape[-2] // arch.patch_size, x.shape[-1] // arch.patch_size)
    return row[:, _before_patches(model) :].float().unflatten(1, grid)


def _before_patches(model: Any) -> int:
    """Return the number of tokens before those of the patches: the class token and the registers."""
    return model.encoder.arch.tokens_before
