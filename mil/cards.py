"""Model folders of either kind: classifiers of images and clips, aggregators of slides."""

from pathlib import Path

from torch import nn

from ..core.cards import stored_kind
from ..finetune.model import ModelCard, load_model
from .model import MilCard, load_mil

CARDS = {card.kind: card for card in (ModelCard, MilCard)}
OPENED_BY = {ModelCard.kind: load_model, MilCard.kind: load_mil}


def load_any_card(folder: str | Path) -> ModelCard | MilCard:
    """Return the card of a model folder of whatever kind.

    Raises:
        UserError: It is none, or the card is damaged.
    """
    kind = stored_kind(Path(folder) / ModelCard.card_file)
    return CARDS.get(kind, ModelCard).read(folder)


def load_any_model(folder: str | Path) -> tuple[nn.Module, ModelCard | MilCard]:
    """Return network and card of a model folder of whatever kind (see `load_model`, `load_mil`)."""
    return OPENED_BY[load_any_card(folder).kind](folder)
