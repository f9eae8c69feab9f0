"""The model folder of an aggregator: `model.safetensors` + `model.json`, all that prediction from features needs."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..core.cards import Card
from ..core.errors import DataError, UserError
from ..datasets.slides.bags import Bags, differing
from ..finetune.answers import Answers
from ..finetune.model import load_weights, refuse_units
from .aggregator import Aggregator
from .recipe import Mil, build_aggregator


@dataclass(frozen=True)
class MilCard(Answers, Card):
    """What is known about a classifier of bags.

    Attributes:
        labels: Names of the C outputs, in order.
        meaning: What 1 means, per label.
        exclusive: Classes exclude each other (softmax); else each label has its own probability (sigmoid).
        aggregator, hidden, attention, score, standardise: As in the recipe, with the paper's values filled in.
        width: Features D of an instance.
        features: What the feature files said of their encoder and tiles.
        pipeline: How the features were made, from the slide on (`extract.read_pipeline`); empty if not by us.
        thresholds: Per label `{"value", "how", "split"}`, chosen on validation; empty before.
        calibration: Per label what is done to its scores before they are shown (`eval.scaling.Scaling`), fitted on
            validation; empty where nothing is.
        recipe, data, versions: Provenance.
        targets: Of a model of numbers, grades or times: each with what it took from training (`Answers`).
        aggregation: Of a model of units larger than a case: which, and by which rule (`Answers`).
    """

    kind: ClassVar[str] = "mil"
    another_words: ClassVar[str] = "not a model of bags: give a model that was trained on features of slides."

    labels: tuple[str, ...]
    meaning: dict[str, str]
    exclusive: bool
    aggregator: str
    hidden: int
    attention: int | None
    score: str
    width: int
    standardise: bool = False
    features: dict = field(default_factory=dict)
    pipeline: dict = field(default_factory=dict)
    thresholds: dict[str, dict] = field(default_factory=dict)
    calibration: dict[str, dict] = field(default_factory=dict)
    recipe: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    targets: tuple[dict[str, Any], ...] = ()
    aggregation: dict[str, Any] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """What a case is."""
        return "slide"

    def network_words(self) -> str:
        """Return the network and its input size in words."""
        return f"{self.aggregator} over tile features of width {self.width}"

    def origin(self) -> dict[str, Any]:
        """Return what the features come from, for a report."""
        return {"features": self.features, "pipeline": self.pipeline}

    def description(self) -> str:
        """Return aggregator and labels in one line."""
        return f"{self.aggregator}, labels {', '.join(self.labels)}"

    def summary(self) -> str:
        """Return a sentence on what it is."""
        made_by = self.features or "unknown"
        return f"Classifier of bags: {self.aggregator} over features of width {self.width} ({made_by})."

    def input_facts(self) -> dict[str, Any]:
        """Return what goes with the weights: the features that it takes, and how instances become a score."""
        return {"width": self.width, "features": self.features, "score": self.score}

    def network(self) -> Aggregator:
        """The aggregator, weights still random."""
        own = Mil(
            aggregator=self.aggregator,
            hidden=self.hidden,
            attention=self.attention,
            score=self.score,
            standardise=self.standardise,
        )
        return build_aggregator(own, self.width, self.outputs)

    def validate(self) -> None:
        """Raise where a size is none."""
        for name, least in (("width", 1), ("hidden", 0)):  # without a hidden layer: a linear one
            size = getattr(self, name)
            if not isinstance(size, int) or size < least:
                raise UserError(f"{name} {size!r} is no size.")

    def check(self, bags: Bags, where: str | Path) -> None:
        """Refuse features that the model was not made for.

        Raises:
            DataError: Another width, or another encoder or tile size as far as both say.
        """
        if bags.width != self.width:
            raise DataError(
                f"{where}: features of width {bags.width}, but the model takes {self.width}: use the encoder that it "
                "was trained with."
            )
        said = getattr(bags, "attributes", {})
        if names := differing(self.features, said):
            name = names[0]
            raise DataError(
                f"{where}: {name} is {said[name]!r}, but the model was trained on {self.features[name]!r}: extract the "
                "features anew with that."
            )


def save_mil(folder: str | Path, model: Aggregator, card: MilCard) -> Path:
    """Write a model folder; the card last, so that a folder with a card is whole."""
    return card.save(folder, model)


def load_mil_card(folder: str | os.PathLike[str]) -> MilCard:
    """The card of a model folder.

    Raises:
        UserError: It is none, or of another kind, or the card is damaged.
    """
    return MilCard.read(folder)


def load_mil(folder: str | os.PathLike[str], units: bool = False) -> tuple[Aggregator, MilCard]:
    """Aggregator in eval mode, on the GPU where there is one, and card of a model folder; strict.

    Args:
        folder: The model folder.
        units: Whether the caller knows what to do with a model of units larger than a slide.

    Raises:
        UserError: The weights do not belong to the card, or the model is of units.
    """
    card = load_mil_card(folder)
    if not units:
        refuse_units(folder, card)
    least = card.width * card.hidden + card.hidden**2
    return load_weights(folder, card, MilCard.network, least), card
