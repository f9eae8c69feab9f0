"""What brings images and their texts together: CLIP's loss over a batch, and SigLIP's over its pairs.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"; Zhai et al. 2023, "Sigmoid
Loss for Language Image Pre-Training". Numbers equal open-clip-torch's.
"""

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F


def info_nce(images: Tensor, texts: Tensor, scale: Tensor, equal: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of finding the text of each image, and the image of each text, in the batch.

    Args:
        images: (B, E) of length 1.
        texts: (B, E) of length 1; row i of both belong together.
        scale: Of the cosines.
        equal: (B, B), symmetric, which rows have equal texts: these are no negatives of each other.
    """
    logits = without_equal(scale * images @ texts.T, equal)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def sigmoid_loss(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, equal: Tensor | None = None) -> Tensor:
    """Return the sum over all pairs of the loss of whether they belong together, over the batch.

    Args:
        images: (B, E) of length 1.
        texts: (B, E) of length 1; row i of both belong together.
        scale: Of the cosines.
        bias: Of the logits.
        equal: As of `info_nce`.
    """
    sign = 2 * torch.eye(len(images), device=images.device) - 1
    loss = -F.logsigmoid(sign * (scale * images @ texts.T + bias))
    if equal is not None:
        loss = loss.masked_fill(_others(equal), 0)
    return loss.sum() / len(images)


def without_equal(logits: Tensor, equal: Tensor | None) -> Tensor:
    """Return logits (B, B) with those of other rows of an equal text left out of every softmax."""
    return logits if equal is None else logits.masked_fill(_others(equal), -torch.inf)


def found(images: Tensor, texts: Tensor, equal: Tensor) -> Tensor:
    """Return the share of images whose text, or an equal one, is the nearest of the batch."""
    nearest = (images @ texts.T).argmax(dim=1)
    return equal[torch.arange(len(images), device=images.device), nearest].float().mean()


def of_all_processes(x: Tensor) -> Tensor:
    """Return the rows (B, ...) of all processes of a run, with their gradients; those of an only one as they are.

    Processes whose batches lost a case that could not be read may have fewer rows.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return x
    world = torch.distributed.get_world_size()
    if world == 1:
        return x
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world)]
    torch.distributed.all_gather(counts, torch.tensor([len(x)], device=x.device))
    most = int(max(counts))
    padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])
    parts = all_gather(padded) if x.is_floating_point() else _plain(padded, world)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def _plain(x: Tensor, world: int) -> list[Tensor]:
    parts = [torch.empty_like(x) for _ in range(world)]
    torch.distributed.all_gather(parts, x)
    return parts


def _others(equal: Tensor) -> Tensor:
    return equal & ~torch.eye(len(equal), dtype=torch.bool, device=equal.device)
