"""Random erasing, and mixup and cutmix of a batch whose targets are yes-or-no answers, some of them unknown."""

import math

import numpy as np
import torch


def erase_batch(images: torch.Tensor, probability: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Erase a rectangle of some cases by normal noise, pixel by pixel (Zhong et al. 2020; timm's mode `pixel`).

    Its area is 2 to 33 % of the image, its height over width log-uniform in 0.3 to 1 / 0.3; one that does not fit is
    drawn again, up to ten times, as in timm. Clips are erased at the same place in every frame, each by its own noise.

    Args:
        images: (B, C, [T,] H, W), normalised: the noise is that of N(0, 1).
        probability: Of each case, 0..1.
        generator: Source of every draw, on the processor: the same on all devices.

    Returns:
        New images of the same shape.
    """
    out = images.clone()
    for image in out:
        if torch.rand((), generator=generator) >= probability:
            continue
        top, left, tall, wide = _erased(image.shape[-2], image.shape[-1], generator)
        hole = image[..., top : top + tall, left : left + wide]
        hole.copy_(torch.randn(hole.shape, generator=generator))
    return out


def _erased(height: int, width: int, generator: torch.Generator | None) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a rectangle inside the image; of height 0 where none fitted."""
    for _ in range(10):
        area, ratio = torch.rand(2, generator=generator).tolist()
        area = height * width * (0.02 + area * (1 / 3 - 0.02))
        ratio = math.exp((2 * ratio - 1) * math.log(1 / 0.3))
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if tall < height and wide < width:
            top = int(torch.randint(height - tall + 1, (), generator=generator))
            return top, int(torch.randint(width - wide + 1, (), generator=generator)), tall, wide
    return 0, 0, 0, 0


def mix_batch(
    images: torch.Tensor,
    targets: torch.Tensor,
    mixup_alpha: float,
    cutmix_alpha: float,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each case with a partner: all pixels by a share (mixup), or a rectangle of the partner's (cutmix).

    One share lambda ~ Beta(alpha, alpha) and one kind (an even chance where both are on) for the batch; the
    partners are a random permutation. Zhang et al. 2018; Yun et al. 2019, lambda corrected to the rectangle
    inside the image.

    `timm.data.Mixup` does not serve: it draws from NumPy's global state, pairs cases from both ends of the
    batch, which must be even, writes into its input, and knows of no unknown target (older ones take class
    indices only).

    Args:
        images: (B, C, H, W) or (B, C, T, H, W); the rectangle is the same in every frame.
        targets: (B, L) float in 0..1, NaN = unknown.
        mixup_alpha: Above 0: mixup is on.
        cutmix_alpha: Above 0: cutmix is on. With both 0 the batch comes back as it is.
        generator: Source of every draw, on the processor: the same on all devices.

    Returns:
        New images and targets, of the same shapes. A target is NaN if either partner's is.
    """
    if mixup_alpha <= 0 and cutmix_alpha <= 0:
        return images, targets
    both = mixup_alpha > 0 and cutmix_alpha > 0
    cut = cutmix_alpha > 0 and not (both and torch.rand((), generator=generator) < 0.5)
    share = _beta(cutmix_alpha if cut else mixup_alpha, generator)
    partners = torch.randperm(len(images), generator=generator).to(images.device)
    if cut:
        top, bottom, left, right = _rectangle(images.shape[-2], images.shape[-1], share, generator)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[partners][..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (images.shape[-2] * images.shape[-1])
    else:
        mixed = images.lerp(images[partners], 1 - share)
    return mixed, share * targets + (1 - share) * targets[partners]


def _beta(alpha: float, generator: torch.Generator | None) -> float:
    """Draw once from Beta(alpha, alpha) with NumPy, seeded by torch, whose own distributions take no generator."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _rectangle(height: int, width: int, share: float, generator: torch.Generator | None) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of a rectangle of area 1 - share about a random centre, cut off at the edge."""
    tall, wide = (int(side * (1 - share) ** 0.5) for side in (height, width))
    y, x = (int(torch.randint(side, (), generator=generator)) for side in (height, width))
    top, left = max(0, y - tall // 2), max(0, x - wide // 2)
    return top, min(height, y + (tall + 1) // 2), left, min(width, x + (wide + 1) // 2)
