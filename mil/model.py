"""The model folder of an aggregator: `model.safetensors` + `model.json`, all that prediction from features needs."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch

from ..backbone.encoder import card_errors, refuse_larger
from ..core.errors import DataError, UserError
from ..core.files import file_sha256, read_json, write_json, written_aside
from ..datasets.slides.bags import Bags, differing
from ..finetune.model import CARD, WEIGHTS, best_device, stored_state
from .aggregator import Aggregator
from .recipe import Mil, build_aggregator

KIND = "mil"


@dataclass(frozen=True)
class MilCard:
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
        kind: `mil`; models of images have none.
    """

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
    kind: str = KIND

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return json.loads(json.dumps(asdict(self)))

    def network(self) -> Aggregator:
        """The aggregator, weights still random."""
        own = Mil(
            aggregator=self.aggregator,
            hidden=self.hidden,
            attention=self.attention,
            score=self.score,
            standardise=self.standardise,
        )
        return build_aggregator(own, self.width, len(self.labels))

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
    folder = Path(folder)
    with written_aside(folder / WEIGHTS) as aside:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        safetensors.torch.save_file(state, aside, metadata={"format": "pt"})
    save_mil_card(folder, card)
    return folder


def save_mil_card(folder: Path, card: MilCard) -> None:
    """(Re)write the card of a model folder."""
    write_json(Path(folder) / CARD, card.to_dict() | {"sha256": file_sha256(Path(folder) / WEIGHTS)})


def is_mil(folder: str | Path) -> bool:
    """Whether a folder holds a model of bags."""
    try:
        return read_json(Path(folder) / CARD).get("kind") == KIND
    except (OSError, UserError):
        return False


def load_mil_card(folder: str | Path) -> MilCard:
    """The card of a model folder.

    Raises:
        UserError: It is none, or of another kind, or the card is damaged.
    """
    path = Path(folder) / CARD
    try:
        card = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{folder}: no {CARD} in it: not a model folder (`clinvit finetune` makes one).") from None
    if card.get("kind") != KIND:
        raise UserError(f"{path}: not a model of bags: give a model that was trained on features of slides.")
    card.pop("sha256", None)
    with card_errors(path):
        return MilCard(**(card | {"labels": tuple(card["labels"])}))


def load_mil(folder: str | Path) -> tuple[Aggregator, MilCard]:
    """Aggregator in eval mode, on the GPU where there is one, and card of a model folder; strict.

    Raises:
        UserError: The weights do not belong to the card.
    """
    card, path = load_mil_card(folder), Path(folder) / WEIGHTS
    state = stored_state(path)
    with card_errors(path.with_name(CARD)):
        refuse_larger(Path(folder), card.width * card.hidden + card.hidden**2, state)
        model = card.network()
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the card ({' '.join(str(error).split())[:200]}).") from None
    return model.eval().to(best_device()), card
