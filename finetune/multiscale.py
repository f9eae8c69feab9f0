"""Features of a frozen encoder at several scales: Scaling on Scales.

Shi et al. 2024, "When Do We Not Need Larger Vision Models?", ECCV, section 3.

The image is read at the finest scale. For each scale s it is resized to s times the encoder's input, cut into s x s
parts of that input's size, and each part is encoded by itself. The parts' features are put back where the parts were,
averaged down to the grid of scale 1, and joined over the channels: D channels become D x number of scales.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backbone.vit import Tokens, ViT
from ..core.errors import UserError


def check_scales(scales: Sequence[int]) -> None:
    """Refuse what is no list of scales.

    Raises:
        UserError: They are not whole numbers from 1 on that rise.
    """
    if not scales or scales[0] != 1 or any(a >= b for a, b in pairwise(scales)):
        raise UserError(f"scales {list(scales)}: whole numbers that rise, the first 1, such as [1, 2, 3].")


def multiscale_tokens(vit: ViT, x: Tensor, scales: Sequence[int]) -> Tokens:
    """Tokens of one grid with the features of all scales.

    Args:
        vit: The frozen encoder of images of S px.
        x: (B, C, s S, s S) normalised images at the finest scale s.
        scales: n scales, the finest last.

    Returns:
        Class tokens (B, n D), each scale's the mean over its parts, and patches (B, N, n D).
    """
    each = [_tokens(vit, parts(at_scale(x, scale, scales[-1]), scale), scale) for scale in scales]
    cls = [tokens.cls for tokens in each if tokens.cls is not None]
    return Tokens(torch.cat(cls, dim=1) if cls else None, torch.cat([tokens.patches for tokens in each], dim=2))


def multiscale_vectors(network: Callable[[Tensor], Tensor], x: Tensor, scales: Sequence[int]) -> Tensor:
    """(B, n D): the same of a network that gives vectors (b, D): of each scale the mean over its parts.

    Means of patch tokens and class tokens come out as from `multiscale_tokens`.
    """
    each = []
    for scale in scales:
        vectors = network(parts(at_scale(x, scale, scales[-1]), scale))
        each.append(vectors.unflatten(0, (len(x), scale**2)).mean(dim=1))
    return torch.cat(each, dim=1)


def at_scale(x: Tensor, scale: int, finest: int) -> Tensor:
    """Images (B, C, H, W) of the finest scale at another: antialiased bicubic."""
    if scale == finest:
        return x
    size = [side // finest * scale for side in x.shape[-2:]]
    return F.interpolate(x, size, mode="bicubic", antialias=True)


def parts(x: Tensor, scale: int) -> Tensor:
    """(B s s, C, H / s, W / s) parts of images (B, C, H, W), row by row, image after image."""
    height, width = (side // scale for side in x.shape[-2:])
    cut = x.unflatten(3, (scale, width)).unflatten(2, (scale, height))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _tokens(vit: ViT, x: Tensor, scale: int) -> Tokens:
    """Tokens (B, N, D) on the grid of scale 1 of the parts (B s s, C, S, S) of scale s."""
    cls, patches = vit(x)
    if cls is not None:
        cls = cls.unflatten(0, (-1, scale**2)).mean(dim=1)
    _, rows, columns = vit.arch.grid
    grid = patches.unflatten(1, (rows, columns)).unflatten(0, (-1, scale, scale))
    # (B, s, s, rows, columns, D) to maps (B, D, s rows, s columns), of which s x s are one place of scale 1.
    maps = grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
    return Tokens(cls, F.avg_pool2d(maps, scale).flatten(2).transpose(1, 2))
