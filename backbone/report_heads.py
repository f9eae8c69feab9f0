"""What joins an encoder's features to the vectors of a text encoder; it lies beside the encoder's weights."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.cards import Card, refuse_larger
from ..core.errors import UserError
from ..core.tensors import count
from .weights import read_checkpoint

MOST = 100.0  # scale of cosines, as in CLIP


@dataclass(frozen=True)
class ReportCard(Card):
    """What is known about the heads of an encoder that was trained on images and reports.

    Attributes:
        width: Of the encoder's features.
        text_width: Of the text encoder's vectors.
        embedding: Of the space that both are projected to.
        pool, text_pool, text_tokens: How tokens become one vector, and where texts are cut.
        text_sha256: Of the text encoder (`text.fingerprint`).
        data: Provenance.
    """

    kind: ClassVar[str] = "reports"
    card_file: ClassVar[str] = "reports.json"
    weights_file: ClassVar[str] = "reports.safetensors"
    folder_words: ClassVar[str] = "an encoder that was trained on images and reports (`clinvit pretrain --reports`)"
    another_words: ClassVar[str] = "not the heads of an encoder that was trained on images and reports."

    width: int
    text_width: int
    embedding: int
    pool: str
    text_pool: str
    text_tokens: int
    text_sha256: str
    data: dict[str, Any] = field(default_factory=dict)


class ReportHeads(nn.Module):
    """Projections of images and texts into one space, and the scale of their cosines.

    The text encoder's vectors are standardised first by `text_mean` and `text_std` of the training texts, since those
    of language models all point one way.

    Args:
        width: Of the encoder's features.
        text_width: Of the text encoder's vectors.
        embedding: Of the space.
        temperature: At the start; the scale is its inverse.
    """

    text_mean: Tensor
    text_std: Tensor

    def __init__(self, width: int, text_width: int, embedding: int, temperature: float = 0.07):
        super().__init__()
        self.image = nn.Linear(width, embedding, bias=False)
        self.text = nn.Linear(text_width, embedding, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(1 / temperature).log())
        self.register_buffer("text_mean", torch.zeros(text_width))
        self.register_buffer("text_std", torch.ones(text_width))

    def standardise(self, vectors: Tensor) -> None:
        """Take mean and std of a text encoder's vectors (U, T)."""
        std, mean = torch.std_mean(vectors, dim=0, correction=0)
        self.text_mean.copy_(mean)
        self.text_std.copy_(std.clamp(min=1e-6 + 1e-3 * float(std.mean())))

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied with."""
        return self.log_scale.exp()

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Keep the scale at `MOST` or less."""
        self.log_scale.clamp_(max=math.log(MOST))

    def of_images(self, features: Tensor) -> Tensor:
        """Return (B, E) of length 1 of pooled features (B, D)."""
        return F.normalize(self.image(features).float(), dim=1)

    def of_texts(self, vectors: Tensor) -> Tensor:
        """Return (B, E) of length 1 of a text encoder's vectors (B, T)."""
        return F.normalize(self.text((vectors - self.text_mean) / self.text_std).float(), dim=1)


def load_heads(folder: str | Path) -> tuple[ReportHeads, ReportCard]:
    """Return the heads beside an encoder, and their card.

    Raises:
        UserError: There are none, or they are damaged.
    """
    folder = Path(folder)
    card = ReportCard.read(folder)
    ReportCard.refuse_changed_weights(folder)
    state = read_checkpoint(folder / card.weights_file)
    refuse_larger(folder, card.embedding * (card.width + card.text_width), count(state))
    heads = ReportHeads(card.width, card.text_width, card.embedding)
    try:
        heads.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{folder / card.weights_file}: not what its card says. Copy the folder again.") from error
    return heads.eval(), card
