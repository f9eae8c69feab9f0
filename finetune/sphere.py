"""Features on the unit sphere: what pulls cases alike together and spreads all apart, and cases between two.

Alignment and uniformity: Wang and Isola 2020 (ICML), as in LayerNorm tuning for deepfakes that transfers (Yermakov et
al. 2025). Labels that occur together make one pair alike where both have the same known answers to every label.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import UserError
from .recipe import Finetune

NORMS = ("none", "l2")
_LEAST = 1e-6  # of the mean of the uniformity, below which it is not told from 0
_INSIDE = 1 - 1e-6  # of cosines: the arc between equal or opposite vectors has no slope


class UnitLength(nn.Module):
    """Vectors over their length."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D) of length 1."""
        return F.normalize(x, dim=-1)


def check_sphere(recipe: Finetune) -> None:
    """Refuse a recipe whose features cannot be on the sphere, and losses that need it.

    Raises:
        UserError: Says why, and what to do.
    """
    if recipe.head_norm not in NORMS:
        raise UserError(f"head_norm is {' or '.join(NORMS)}, not {recipe.head_norm!r}.")
    on = [name for name in ("alignment", "uniformity", "slerp") if getattr(recipe, name)]
    if recipe.head_norm == "none":
        if on:
            raise UserError(f"{on[0]} is of features of unit length: set --head_norm l2, or leave it out.")
        return
    if recipe.mode != "norm" or recipe.network != "vit":
        raise UserError(
            f"head_norm l2 is for --mode norm of a ViT, not for mode {recipe.mode!r} of {recipe.network!r}."
        )
    for name in ("mixup", "cutmix") if on else ():
        if getattr(recipe, name):
            raise UserError(f"{name} leaves no two cases alike, which {on[0]} needs: set it to 0.")


def alike(target: Tensor) -> Tensor:
    """Return (B, B) whether two different cases have equal answers, all of them known; (B, L) with NaN for unknown."""
    known = ~target.isnan().any(dim=1)
    same = (target.nan_to_num()[:, None] == target.nan_to_num()[None]).all(dim=2)
    apart = ~torch.eye(len(target), dtype=torch.bool, device=target.device)
    return same & apart & known[:, None] & known[None]


def alignment(z: Tensor, same: Tensor) -> Tensor:
    """Return the mean squared distance of the pairs alike; 0 where there are none.

    Args:
        z: (B, D) of unit length.
        same: (B, B), symmetric.
    """
    pairs = same.triu(1)
    return (squared_distances(z) * pairs).sum() / pairs.sum().clamp(min=1)


def uniformity(z: Tensor) -> Tensor:
    """Return the logarithm of the mean of exp(-2 squared distance) over all pairs of (B, D); 0 of one case."""
    if len(z) < 2:
        return z.sum() * 0
    pairs = torch.ones(len(z), len(z), dtype=torch.bool, device=z.device).triu(1)
    return (-2 * squared_distances(z)[pairs]).exp().mean().clamp(min=_LEAST).log()


def squared_distances(z: Tensor) -> Tensor:
    """Return (B, B) squared distances of (B, D) of unit length."""
    return (2 - 2 * z @ z.T).clamp(min=0)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return (B, D) of unit length on the arcs from a to b, by the shares (B,) t of the way (Shoemake 1985)."""
    angle = (a * b).sum(dim=1).clamp(-_INSIDE, _INSIDE).acos()
    first, second = ((1 - t) * angle).sin(), (t * angle).sin()
    return F.normalize(first[:, None] * a + second[:, None] * b, dim=1)
