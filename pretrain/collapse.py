"""The sign of collapse: features that are the same for every image."""

import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

# Features of images that all differ have a std near 1.
COLLAPSED = 0.01


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Return the std of the directions of features (B, D): 1 where they have nothing in common, 0 where all are equal.

    It is the root of the variance summed over dimensions.
    """
    return F.normalize(features.float(), dim=-1).var(dim=0, unbiased=False).sum().sqrt()


def warn_of_collapse(std: float, method: str, advice: str) -> None:
    """Warn where the features have collapsed by the end of an epoch."""
    if std < COLLAPSED:
        warnings.warn(
            f"the features of all images are nearly equal (feature_std {std:.2g}): {method} has collapsed. {advice}",
            stacklevel=3,
        )
