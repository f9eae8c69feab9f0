"""What drawn maps are held against: binary cross-entropy in which the edges of findings count more (IML-ViT)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ...datasets.manifest.regions import UNKNOWN
from ..losses import known_mean


class OfMaps:
    """Maps of findings.

    Args:
        edge_px: Width of the band along the edges, an odd number of px.
        edge_weight: By how many times more it counts.
    """

    def __init__(self, edge_px: int, edge_weight: float):
        self.edge_px, self.edge_weight = edge_px, edge_weight

    def loss(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the mean cross-entropy over all known pixels, plus the same of the edges alone times their weight.

        Args:
            outputs: (B, L, h, w) logits.
            truth: (B, L, H, W) uint8: 1 where the finding is, 0 where it is not, `UNKNOWN` where nobody knows.
        """
        known = truth != UNKNOWN
        wanted = (truth == 1).float()
        logits = F.interpolate(outputs.float(), size=truth.shape[-2:], mode="bilinear")
        each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        weight = known * (1 + self.edge_weight * edge_band(wanted, self.edge_px))
        return known_mean(each * weight, known)

    def activate(self, outputs: Tensor) -> Tensor:
        """Return (B, L) scores: the highest probability of each map."""
        return outputs.float().flatten(2).amax(dim=2).sigmoid()


def edge_band(masks: Tensor, width_px: int) -> Tensor:
    """Return (B, L, H, W) bool, the band along the edges of masks: what both they and their complements reach.

    Args:
        masks: (B, L, H, W) of 0 and 1.
        width_px: Side of the cross by which both are dilated, odd.
    """
    return (_dilated(masks, width_px) > 0) & (_dilated(1 - masks, width_px) > 0)


def _dilated(masks: Tensor, width_px: int) -> Tensor:
    """Return masks dilated by a cross; what lies outside of the image reaches nothing."""
    reach = width_px // 2
    across = F.max_pool2d(masks, (1, width_px), stride=1, padding=(0, reach))
    return torch.maximum(across, F.max_pool2d(masks, (width_px, 1), stride=1, padding=(reach, 0)))
