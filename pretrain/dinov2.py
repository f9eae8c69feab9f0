"""What DINOv2 adds to DINO: masked patch tokens (iBOT), Sinkhorn-Knopp instead of a centre, and the KoLeo term.

Oquab et al. 2024, "DINOv2: Learning Robust Visual Features without Supervision"; Zhou et al. 2022, "iBOT: Image BERT
Pre-Training with Online Tokenizer"; Sablayrolles et al. 2019, "Spreading vectors for similarity search".
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backbone.vit import ViT

SINKHORN_ITERATIONS = 3
LEAST_BLOCK = 4  # tokens
FLATTEST = 0.3  # height over width of a block, or width over height


@contextmanager
def masked_patches(encoder: ViT, masked: Tensor, token: Tensor) -> Iterator[None]:
    """Let an encoder see a mask token in place of some projected patches; their positions stay.

    Args:
        encoder: The ViT.
        masked: (B, N) bool.
        token: (1, D).
    """

    def replaced(module, inputs, output: Tensor) -> Tensor:
        return torch.where(masked.unsqueeze(-1), token.to(output.dtype), output)

    handle = encoder.patch_embed.register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


def draw_patch_masks(
    grid: tuple[int, int], images: int, share: float, ratio: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw which patches of a batch are masked: none of some images, blocks of the others.

    The masked shares of these are spread evenly from the least to the greatest, as DINOv2 does.

    Args:
        grid: Tokens along height and width.
        images: B.
        share: Of the images that are masked.
        ratio: Least and greatest share of an image's patches.
        generator: On the CPU; source of every draw.

    Returns:
        (B, N) bool on the CPU.
    """
    masks = torch.zeros(images, grid[0] * grid[1], dtype=torch.bool)
    order = torch.randperm(images, generator=generator).tolist()
    count = int(images * share)
    for i, image in enumerate(order[:count]):
        within = (i + torch.rand(1, generator=generator).item()) / count
        tokens = int(masks.shape[1] * (ratio[0] + within * (ratio[1] - ratio[0])))
        masks[image] = block_mask(grid, tokens, generator).flatten()
    return masks


def block_mask(grid: tuple[int, int], tokens: int, generator: torch.Generator) -> Tensor:
    """Draw a mask (H, W) of so many tokens at most, in blocks (Bao et al. 2022, "BEiT", algorithm 1).

    Blocks are drawn until the number is reached or ten in a row do not fit into what is left of it.
    """
    mask, done, failed = torch.zeros(grid, dtype=torch.bool), 0, 0
    while done < tokens and failed < 10:
        left = tokens - done
        size, aspect = torch.rand(2, generator=generator).tolist()
        area = min(LEAST_BLOCK, left) + size * (left - min(LEAST_BLOCK, left))
        ratio = math.exp(math.log(FLATTEST) * (1 - 2 * aspect))
        height, width = (max(1, round(math.sqrt(area * r))) for r in (ratio, 1 / ratio))
        failed += 1
        if height > grid[0] or width > grid[1]:
            continue
        top, start = (
            int(torch.randint(side - part + 1, (1,), generator=generator)) for side, part in zip(grid, (height, width))
        )
        block = mask[top : top + height, start : start + width]
        more = int((~block).sum())
        if 0 < more <= left:
            block.fill_(True)
            done, failed = done + more, 0
    return mask


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, total: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """Return targets (M, K) that use all prototypes alike: rows of sum 1, columns of nearly equal sums.

    Args:
        logits: Of the teacher, (M, K).
        temperature: Of the teacher.
        total: The sum of a tensor over all processes; of one process the tensor itself.
    """
    scaled = logits.float() / temperature
    # Any factor of the whole falls out; with the greatest at 1 nothing overflows.
    shares = (scaled - scaled.max()).exp()
    shares = shares / total(shares.sum())
    rows = total(torch.tensor(float(len(shares)), device=shares.device))
    for _ in range(SINKHORN_ITERATIONS):
        shares = shares / total(shares.sum(dim=0, keepdim=True)).clamp(min=1e-30) / shares.shape[1]
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-30) / rows
    return shares * rows


def masked_token_loss(student: Tensor, targets: Tensor, masked: Tensor, student_temp: float) -> Tensor:
    """Return iBOT's loss: cross-entropy at masked tokens, mean over the tokens of an image, then over all images.

    An image of which nothing is masked counts as 0.

    Args:
        student: (M, K) logits of all masked tokens of the batch, image by image.
        targets: (M, K) of the teacher, which saw these tokens.
        masked: (B, N) bool.
        student_temp: Temperature of the student.
    """
    each = -(targets * (student.float() / student_temp).log_softmax(dim=-1)).sum(dim=-1)
    counts = masked.sum(dim=1)
    weights = (1 / counts.clamp(min=1)).repeat_interleave(counts)
    return (each * weights).sum() / len(masked)


def koleo_loss(features: Tensor) -> Tensor:
    """Return the KoLeo term of features (B, D): minus the mean log distance of each direction to its nearest other.

    It is small where directions lie apart. Always in float32.
    """
    with torch.autocast(features.device.type, enabled=False):
        directions = F.normalize(features.float(), dim=-1, eps=1e-8)
        with torch.no_grad():
            similarity = directions @ directions.T
            nearest = similarity.fill_diagonal_(-1.0).argmax(dim=1)
        distances = F.pairwise_distance(directions, directions[nearest], eps=1e-8)
        return -(distances + 1e-8).log().mean()
