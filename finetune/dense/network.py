"""A ViT that draws: a simple feature pyramid on its last tokens, and a head that makes one map per label of it.

The pyramid is that of ViTDet (Li et al. 2022, section 3: a plain ViT has one scale, from which the others are made),
the head that of IML-ViT (Ma et al. 2023). The encoder is a plain ViT, so that weights of any pre-training stay valid.
"""

import math

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbone.patches import as_clip
from ...backbone.vit import ViT, through_one
from ...core.errors import UserError
from ..recipe import Dense
from .windows import whole_blocks, windowed

SCALES = (4.0, 2.0, 1.0, 0.5, 0.25)  # of the levels, to the grid of patches
PRIOR = 0.1  # share of a map that a network without training draws: most of an image is no finding


class DenseNetwork(nn.Module):
    """Encoder, pyramid and head.

    Args:
        encoder: A ViT of images, with its final norm.
        labels: Number of maps L.
        dense: Settings of windows, pyramid and head.
        frozen: The encoder learns nothing.

    Raises:
        UserError: The encoder cannot attend within windows.
    """

    def __init__(self, encoder: ViT, labels: int, dense: Dense, frozen: bool = False):
        super().__init__()
        if dense.window and encoder.rope is not None:
            raise UserError(
                f"dense.window {dense.window}: this encoder turns its queries and keys by their places (rotary "
                "positions), and attends to the whole image: set it to 0."
            )
        self.encoder, self.window, self.frozen = encoder, dense.window, frozen
        self.whole = whole_blocks(encoder.arch.depth)
        if dense.window and len(self.whole) == encoder.arch.depth:
            raise UserError(
                f"dense.window {dense.window}: of {encoder.arch.depth} blocks all see the whole image: set it to 0."
            )
        self.pyramid = SimplePyramid(encoder.arch.width, dense.channels)
        self.head = DenseHead(len(SCALES), dense.channels, labels, dense.drop)
        if frozen:
            encoder.requires_grad_(False)
        elif encoder.pos_embed is not None:
            encoder.pos_embed.requires_grad_(True)

    def train(self, mode: bool = True) -> "DenseNetwork":
        """As of every module, but blocks that learn nothing stay in eval mode: nothing of them is dropped."""
        super().train(mode)
        for block in self.encoder.blocks:
            block.train(mode and any(parameter.requires_grad for parameter in block.parameters()))
        return self

    def features(self, x: Tensor) -> Tensor:
        """Return the patch tokens (B, D, rows, columns) of images (B, C, H, W), normalised."""
        vit = self.encoder
        _, rows, columns = vit.grid_of(as_clip(x))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens = self._windowed(x, (rows, columns)) if self.window else vit(x).patches
        return tokens.transpose(1, 2).unflatten(2, (rows, columns))

    def _windowed(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        vit = self.encoder
        tokens, recompute = vit.embed(x), vit.checkpoint_blocks and self.training
        before = vit.arch.tokens_before
        for number, block in enumerate(vit.blocks):
            if number in self.whole:
                tokens = through_one(block, recompute, tokens)
            else:
                tokens = windowed(block, tokens, grid, self.window, before)
        return vit.norm(tokens)[:, before:]

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, 4 rows, 4 columns) logits of images (B, C, H, W), normalised."""
        return self.head(self.pyramid(self.features(x)))

    def no_weight_decay(self) -> set[str]:
        """Return the names that are never decayed."""
        return self.encoder.no_weight_decay()


class SimplePyramid(nn.Module):
    """Feature maps at 4, 2, 1, 1/2 and 1/4 times the grid, all made of the one map of a plain ViT.

    Args:
        width: D of the ViT.
        channels: C of each level.
    """

    def __init__(self, width: int, channels: int):
        super().__init__()
        half, quarter = max(1, width // 2), max(1, width // 4)
        self.resize = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(width, half, 2, 2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, 2),
                ),
                nn.ConvTranspose2d(width, half, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )
        self.lateral = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width_in, channels, 1, bias=False),
                LayerNorm2d(channels),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                LayerNorm2d(channels),
            )
            for width_in in (quarter, half, width, width)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return five maps (B, C, h, w), the finest first, of one (B, D, rows, columns)."""
        levels = [lateral(resize(x)) for resize, lateral in zip(self.resize, self.lateral, strict=True)]
        return [*levels, F.max_pool2d(levels[-1], kernel_size=1, stride=2)]


class DenseHead(nn.Module):
    """All levels at the size of the finest, mixed pixel by pixel to one map per label.

    Args:
        levels: Of the pyramid.
        channels: C of each.
        labels: Number of maps L.
        drop: Dropout before the last layer.
    """

    def __init__(self, levels: int, channels: int, labels: int, drop: float):
        super().__init__()
        self.mix = nn.Conv2d(levels * channels, channels, 1)
        self.norm = LayerNorm2d(channels)
        self.drop = nn.Dropout(drop)
        self.last = nn.Conv2d(channels, labels, 1)
        nn.init.constant_(self.last.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return (B, L, h, w) logits."""
        size = levels[0].shape[-2:]
        same = [levels[0], *(F.interpolate(each, size=size, mode="bilinear") for each in levels[1:])]
        return self.last(self.drop(self.norm(self.mix(torch.cat(same, dim=1)))))
