"""Cards of model folders of any kind: classifiers of images and clips, and aggregators of slides."""

from pathlib import Path

from ..finetune.model import ModelCard, load_card, save_card
from .model import MilCard, is_mil, load_mil_card, save_mil_card


def load_any_card(folder: Path) -> ModelCard | MilCard:
    """The card of a model folder (see `load_card`, `load_mil_card`)."""
    return load_mil_card(folder) if is_mil(folder) else load_card(folder)


def save_any_card(folder: Path, card: ModelCard | MilCard) -> None:
    """(Re)write the card of a model folder."""
    (save_mil_card if isinstance(card, MilCard) else save_card)(folder, card)
