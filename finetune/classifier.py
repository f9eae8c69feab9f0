"""Classifiers that give logits: the ViT with pooling and a linear layer, a timm network beside it, and k-NN."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone.vit import Tokens, ViT
from .multiscale import multiscale_tokens
from .sphere import UnitLength
from .timm_encoder import TimmEncoder, set_mode
from .timm_network import make_network

POOLS = ("mean", "class", "attention")


class Classifier(nn.Module):
    """ViT, pooling, linear layer (MAE's models_vit.py).

    `mean`: mean of the patch tokens, then `fc_norm`; `class`: the class token after the encoder's own norm;
    `attention`: a learned query over all tokens.

    Args:
        encoder: The ViT; for `mean` and `attention` made with `final_norm=False`, unless frozen. A network of timm
            serves as well where it is frozen.
        labels: Number of logits L.
        pool: `mean`, `class` or `attention`.
        frozen: A probe: the encoder learns nothing. Its features are standardised by a BatchNorm without parameters
            (MAE, main_linprobe.py), those that pool `attention` has learned by a LayerNorm.
        head_drop: Dropout before the linear layer.
        scales: Scales that a frozen encoder sees images at (`multiscale`); they come at the finest.
        unit_length: The linear layer sees features over their length.
    """

    head: nn.Module

    def __init__(
        self, encoder: ViT | TimmEncoder, labels: int, pool: str = "mean", frozen: bool = False,
        head_drop: float = 0.0, scales: Sequence[int] = (1,), unit_length: bool = False,
    ):  # fmt: skip
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"unknown pool {pool!r}; known: {', '.join(POOLS)}")
        width, heads = widths(encoder, pool)
        width *= len(scales)
        self.encoder, self.pool, self.frozen, self.scales = encoder, pool, frozen, tuple(scales)
        self.attention_pool = AttentionPoolLatent(width, num_heads=heads) if pool == "attention" else None
        self.fc_norm: nn.Module
        if frozen and pool != "attention":
            self.fc_norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
        else:
            self.fc_norm = nn.Identity() if pool == "class" else nn.LayerNorm(width, eps=1e-6)
        if unit_length:
            self.fc_norm = nn.Sequential(self.fc_norm, UnitLength())
        self.head_drop = nn.Dropout(head_drop)
        head = nn.Linear(width, labels)
        nn.init.trunc_normal_(head.weight, std=0.01 if frozen else 2e-5)
        nn.init.zeros_(head.bias)
        self.head = head
        if frozen:
            encoder.requires_grad_(False)
        elif isinstance(encoder, ViT) and encoder.pos_embed is not None:
            # MAE's fine-tuning trains the positions, whatever they start from; VideoMAE's leaves those of clips alone.
            encoder.pos_embed.requires_grad_(encoder.arch.frames == 1 or encoder.arch.positions == "learned")

    def train(self, mode: bool = True) -> "Classifier":
        """As of every module, but blocks that learn nothing stay in eval mode: nothing of them is dropped."""
        super().train(mode)
        if isinstance(self.encoder, TimmEncoder):
            set_mode(self.encoder, mode)
            return self
        for block in self.encoder.blocks:
            block.train(mode and any(parameter.requires_grad for parameter in block.parameters()))
        return self

    def features(self, x: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """(B, D) pooled features of (B, C, H, W) normalised images, or of their patches `visible_ids` (B, n) only."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if isinstance(self.encoder, ViT):
                tokens = encoded(self.encoder, x, self.scales, visible_ids)
            elif self.pool == "attention":
                tokens = self.encoder.tokens(x)
            else:
                return self.encoder(x, self.pool, self.scales)
        return pooled(tokens, self.pool, self.attention_pool)

    def forward(self, x: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """(B, L) logits."""
        return self.head(self.head_drop(self.fc_norm(self.features(x, visible_ids))))

    def no_weight_decay(self) -> set[str]:
        """Names that are never decayed."""
        return self.encoder.no_weight_decay()


class TimmClassifier(nn.Module):
    """A timm network in the same pipeline, for comparison; weights random (`timm_weights` loads others).

    Args:
        name: timm's name, such as `resnet18`.
        labels: Number of logits.
        channels: Input channels.
        image_size: Height and width of the input, pixels; None for the size of the name.
        settings: See `make_network`.
    """

    def __init__(
        self, name: str, labels: int, channels: int, image_size: tuple[int, int] | None = None,
        settings: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        super().__init__()
        self.network: Any = make_network(name, channels, image_size, labels, settings)

    def train(self, mode: bool = True) -> "TimmClassifier":
        """As of every module, but batch norms of which nothing is trained keep their statistics."""
        super().train(mode)
        set_mode(self.network, mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(B, L) logits."""
        return self.network(x)

    def no_weight_decay(self) -> set[str]:
        """Names that are never decayed."""
        return set()


class NearestNeighbours(nn.Module):
    """k-NN on frozen features: the mean of the neighbours' known labels, weighted by exp(cosine / temperature) (DINO).

    Args:
        encoder: The frozen ViT, or network of timm.
        labels: Number of labels L.
        pool: `mean` or `class`.
        cases: Reference cases M; `remember` fills them in.
        k: Neighbours.
        temperature: Of the weights.
        scales: As of `Classifier`.
    """

    def __init__(
        self, encoder: ViT | TimmEncoder, labels: int, pool: str, cases: int, k: int = 20,
        temperature: float = 0.07, scales: Sequence[int] = (1,),
    ):  # fmt: skip
        super().__init__()
        if pool not in ("mean", "class"):
            raise ValueError(f"k-NN pools by `mean` or `class`, not by {pool!r}")
        self.encoder, self.pool = encoder.requires_grad_(False), pool
        self.k, self.temperature, self.scales = k, temperature, tuple(scales)
        width, _ = widths(encoder, pool)
        self.register_buffer("known_features", torch.zeros(cases, width * len(scales)))
        self.register_buffer("known_targets", torch.full((cases, labels), torch.nan))

    def features(self, x: Tensor) -> Tensor:
        """(B, D) pooled features of unit length."""
        if isinstance(self.encoder, ViT):
            vectors = pooled(encoded(self.encoder, x, self.scales), self.pool)
        else:
            vectors = self.encoder(x, self.pool, self.scales)
        return F.normalize(vectors.float(), dim=1)

    def remember(self, features: Tensor, targets: Tensor) -> None:
        """Take the reference cases: (M, D) features of unit length, (M, L) targets with NaN for unknown."""
        self.known_features, self.known_targets = features, targets

    def forward(self, x: Tensor) -> Tensor:
        """(B, L) logits of the weighted share of positive neighbours; 0.5 where no neighbour's label is known."""
        return self.logits(self.features(x))

    def logits(self, features: Tensor) -> Tensor:
        """(B, L) logits of (B, D) features of unit length."""
        similarity, index = (features @ self.known_features.T).topk(min(self.k, len(self.known_features)))
        weight = (similarity / self.temperature).softmax(dim=1).unsqueeze(-1)
        target = self.known_targets[index]
        known = ~target.isnan()
        total = (weight * known).sum(dim=1)
        positive = (weight * target.nan_to_num()).sum(dim=1)
        share = torch.where(total > 0, positive / total.clamp(min=1e-12), 0.5)
        return share.clamp(1e-6, 1 - 1e-6).logit()


def widths(encoder: ViT | TimmEncoder, pool: str) -> tuple[int, int]:
    """Return the channels D of the vectors that a pool makes of an encoder's tokens, and heads that divide them.

    Raises:
        ValueError: The encoder has no such pool.
    """
    if isinstance(encoder, TimmEncoder):
        encoder.check_pool(pool)
        return encoder.width(pool), encoder.heads
    if pool == "class" and encoder.cls_token is None:
        raise ValueError("pool 'class' needs an encoder with a class token; use 'mean'")
    return encoder.arch.width, encoder.arch.heads


def encoded(encoder: ViT, x: Tensor, scales: Sequence[int], visible_ids: Tensor | None = None) -> Tokens:
    """Tokens of images or clips at one scale, or of images at several."""
    return encoder(x, visible_ids) if len(scales) == 1 else multiscale_tokens(encoder, x, scales)


def pooled(tokens: Tokens, pool: str, attention: nn.Module | None = None) -> Tensor:
    """(B, D) from named tokens."""
    if pool == "class":
        assert tokens.cls is not None
        return tokens.cls
    if pool == "attention":
        assert attention is not None
        return attention(tokens.sequence())
    return tokens.patches.mean(dim=1)
