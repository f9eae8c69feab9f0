"""A head whose weights are what a text encoder says of prompts: findings are judged without a labelled image."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRESENT, ABSENT = "{}", "no {}"  # CheXzero's prompts


@dataclass(frozen=True)
class Prompts:
    """What a label is asked by.

    Attributes:
        present: Texts of a case that has it; the mean of their vectors is taken (CLIP).
        absent: Texts of one that has it not; empty of a class among others.
    """

    present: tuple[str, ...]
    absent: tuple[str, ...] = ()


class PromptHead(nn.Module):
    """Logits by the cosines of an image and of prompts.

    Of a finding, the scaled cosine of `present` minus that of `absent`: its sigmoid is CLIP's softmax over the two
    (CheXzero). Of a class, the scaled cosine of `present`, for a softmax over all classes.

    Args:
        width: Features D.
        embedding: Width E of the space of images and texts.
        labels: Number of logits L.
    """

    def __init__(self, width: int, embedding: int, labels: int):
        super().__init__()
        self.in_features = width
        self.image = nn.Linear(width, embedding, bias=False)
        self.prompts = nn.Linear(embedding, labels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L) logits of (B, D) features."""
        return self.prompts(F.normalize(self.image(x), dim=1))

    @torch.no_grad()
    def ask(self, image: Tensor, present: Tensor, absent: Tensor | None, scale: Tensor) -> None:
        """Set the weights.

        Args:
            image: (E, D) projection of features.
            present: (L, E) of length 1.
            absent: (L, E) of length 1, None of classes.
            scale: Of the cosines.
        """
        self.image.weight.copy_(image)
        self.prompts.weight.copy_(scale * (present if absent is None else present - absent))


def default_prompts(labels: tuple[str, ...], exclusive: bool) -> dict[str, Prompts]:
    """Return `pneumonia` and `no pneumonia` for the label Pneumonia; of classes the first alone."""
    words = {label: label.replace("_", " ").lower() for label in labels}
    return {
        label: Prompts((PRESENT.format(text),), () if exclusive else (ABSENT.format(text),))
        for label, text in words.items()
    }


def stored_prompts(prompts: dict[str, Prompts], embedding: int, text_sha256: str) -> dict[str, Any]:
    """Return what a model's card holds of its prompts."""
    asked = {label: {"present": list(each.present), "absent": list(each.absent)} for label, each in prompts.items()}
    return {"embedding": embedding, "text_sha256": text_sha256, "prompts": asked}
