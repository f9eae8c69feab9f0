"""A model of several views: gated attention over the features of a unit's images, by an encoder that stays as it is.

The images of a study (frontal, lateral, any number) are encoded one by one; an aggregator of this room (ABMIL; Ilse,
Tomczak and Welling, ICML 2018) weighs them. Encoder and aggregator are one network in one model folder.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import Tensor, nn

from ..core.errors import masked
from ..datasets.manifest.tables import unit_ids
from ..finetune.model import ModelCard, best_device, build_model, input_shape, load_weights
from ..finetune.pipeline import apart, collected, shown
from ..finetune.predict import PixelPredictor, pooled_features
from ..finetune.scored import Scored, score_width
from .aggregator import Aggregator
from .model import MilCard
from .recipe import Mil, build_aggregator
from .units import VectorBags, predict_units

BATCH = 32


@dataclass(frozen=True)
class MultiViewCard(ModelCard):
    """What is known about a model of several views.

    Attributes:
        aggregator, hidden, attention, score, standardise: As of `MilCard`.
        width: Features D of an image.
        source: Card of the network whose features these are (`ModelCard`), and `sha256` of its weights.
    """

    kind: ClassVar[str] = "multi_view"
    another_words: ClassVar[str] = "not a model of several views."

    aggregator: str = "gated_attention"
    hidden: int = 0
    attention: int | None = None
    score: str = "bag"
    standardise: bool = False
    width: int = 0
    source: dict[str, Any] = field(default_factory=dict)

    def network_words(self) -> str:
        """Return network and aggregator in words."""
        unit = self.aggregation.get("unit", "unit")
        return f"{self.aggregator} over the {self.unit}s of a {unit}; each: {self.source_card().network_words()}"

    def summary(self) -> str:
        """Return a sentence on what it is."""
        return f"Classifier of units: {self.network_words()}."

    def description(self) -> str:
        """Return network and labels in one line."""
        return f"{self.network_words()}, labels {', '.join(self.labels)}"

    def source_card(self) -> ModelCard:
        """Return the card of the network that sees each image."""
        return ModelCard.from_dict({key: value for key, value in self.source.items() if key != "sha256"})

    def aggregator_card(self) -> MilCard:
        """Return the card of the aggregator alone, as bags are predicted by it."""
        shared = {each.name for each in fields(MilCard)} - {"features", "pipeline"}
        return MilCard(**{name: getattr(self, name) for name in shared})

    def check(self, bags: Any, where: str | Path) -> None:
        """Refuse features of another width; see `MilCard.check`."""
        self.aggregator_card().check(bags, where)


class MultiView(nn.Module):
    """A network that gives features of images, and an aggregator of these.

    Args:
        source: As `pooled_features` takes it; it learns nothing.
        aggregator: Of its features.
    """

    def __init__(self, source: nn.Module, aggregator: Aggregator):
        super().__init__()
        self.source, self.aggregator = source.requires_grad_(False), aggregator

    def features(self, pixels: Tensor) -> Tensor:
        """Return (N, D) features of (N, C, [T,] H, W) normalised images."""
        return pooled_features(self.source)(pixels)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (1, L) logits of the N images of one unit."""
        return self.aggregator(self.features(pixels)[None]).logits


def vectors_of(values, card: ModelCard, cases: pd.DataFrame, batch: int = BATCH, workers: int = 1):
    """Return (N, D) features of N cases, NaN where one failed, and N reasons or warnings."""
    with torch.inference_mode():
        width = values(torch.zeros(1, *input_shape(card), device=best_device())).shape[1]
        found = PixelPredictor(card, values, best_device(), batch, workers, width).scores(cases)
        vectors, texts = collected(shown(found, len(cases), card.unit), len(cases), width)
    if "shown" in cases:
        texts = [masked(*each) for each in zip(texts, cases["path"], cases["shown"], strict=True)]
    return vectors, texts


class MultiViewPredictor:
    """Scores of images, each that of its unit; an image that fails is left out of it.

    Attributes:
        card: Of the model.

    Args:
        network: The `MultiView`, in eval mode.
        card: Of the model.
        batch, workers: As of `PixelPredictor`.
    """

    def __init__(self, network: Any, card: MultiViewCard, batch: int = BATCH, workers: int = 1):
        self.network, self.card, self.batch, self.workers = network, card, batch, workers

    def scores(self, cases: pd.DataFrame) -> Iterator[Scored]:
        """Yield the scores of all cases at once, which must be whole units.

        Raises:
            DataError: Nothing says which images belong together.
        """
        units = unit_ids("input", cases, self.card.aggregation["unit"]).reset_index(drop=True)
        vectors, texts = vectors_of(self.network.features, self.card, cases, self.batch, self.workers)
        reasons, warnings = apart(vectors[:, :1], texts)
        bags = VectorBags(vectors, reasons, "input", {})
        card = self.card.aggregator_card()
        found = predict_units(self.network.aggregator, card, bags, units)
        rows = (Scored([each.row], each.probabilities[None], [each.reason]) for each in found)
        scores, failed = collected(rows, len(cases), score_width(card))
        yield Scored(range(len(cases)), scores, [one or other for one, other in zip(failed, warnings, strict=True)])


def load_multi_view(folder: str | os.PathLike[str]) -> tuple[MultiView, MultiViewCard]:
    """Return network in eval mode, on the GPU where there is one, and card of a model folder; strict.

    Raises:
        UserError: It is none, or the weights do not belong to the card.
    """
    card = MultiViewCard.read(folder)

    def build(card: MultiViewCard) -> MultiView:
        recipe = Mil(
            aggregator=card.aggregator, hidden=card.hidden, attention=card.attention, score=card.score,
            standardise=card.standardise,
        )  # fmt: skip
        return MultiView(build_model(card.source_card()), build_aggregator(recipe, card.width, card.outputs))

    return load_weights(folder, card, build, card.source_card().arch.weights if card.network == "vit" else 0), card
