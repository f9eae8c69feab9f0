"""From a volume of features to logits: mean or selective temporal pooling, then two linear layers."""

import math

from torch import Tensor, nn
from torch.nn import functional as F


class Head(nn.Module):
    """Pooling, linear layer to half the width, ReLU, linear layer (ERDES, `ClassificationHead`).

    Args:
        width: Channels C of the features.
        labels: Number of logits L.
        ratio: Share of the time steps that selective temporal pooling keeps, in (0, 1]; None for the mean of all.
    """

    def __init__(self, width: int, labels: int, ratio: float | None = None):
        super().__init__()
        self.ratio = ratio
        self.fc1 = nn.Linear(width, width // 2)
        self.fc2 = nn.Linear(width // 2, labels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L) logits of (B, C, D, H, W) features."""
        steps = x.mean(dim=(3, 4))
        pooled = steps.mean(dim=2) if self.ratio is None else mean_of_strongest(steps, self.ratio)
        return self.fc2(F.relu(self.fc1(pooled)))


def mean_of_strongest(steps: Tensor, ratio: float) -> Tensor:
    """Return (B, C), the mean of the time steps with the largest L2 norm over channels: selective temporal pooling.

    Args:
        steps: (B, C, D) features per time step of the encoder (several frames each).
        ratio: Share of the D steps to keep.
    """
    kept = steps.norm(dim=1).topk(steps_kept(steps.shape[2], ratio), dim=1).indices
    return steps.take_along_dim(kept[:, None], dim=2).mean(dim=2)


def steps_kept(steps: int, ratio: float) -> int:
    """Return the share `ratio` of `steps`, rounded up, at least 1."""
    # 100 * 0.07 is 7.000000000000001 in floating point, and still 7 steps.
    return max(1, math.ceil(steps * ratio - 1e-9))
