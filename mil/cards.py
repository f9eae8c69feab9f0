"""Model folders of any kind: classifiers of images and clips, aggregators of slides, models of several views."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..core.cards import stored_kind
from ..finetune.model import ModelCard, load_model, refuse_units
from .model import MilCard, load_mil
from .multi_view import MultiViewCard, load_multi_view

CARDS = {card.kind: card for card in (ModelCard, MilCard, MultiViewCard)}
OPENED_BY: dict[str, Callable[..., Any]] = {ModelCard.kind: load_model, MilCard.kind: load_mil}


def load_any_card(folder: str | Path) -> ModelCard | MilCard:
    """Return the card of a model folder of whatever kind.

    Raises:
        UserError: It is none, or the card is damaged.
    """
    kind = stored_kind(Path(folder) / ModelCard.card_file)
    return CARDS.get(kind, ModelCard).read(folder)


def load_any_model(folder: str | Path) -> tuple[nn.Module, ModelCard | MilCard]:
    """Return network and card of a model folder of whatever kind (see `load_model`, `load_mil`).

    Raises:
        UserError: It is none, or a model of units larger than a case.
    """
    card = load_any_card(folder)
    refuse_units(folder, card)
    return OPENED_BY[card.kind](folder)


def load_predicting(
    folder: str | os.PathLike[str], network: nn.Module | None = None, dense: bool = False
) -> tuple[nn.Module, ModelCard]:
    """Return network and card of a model of images or clips, alone or of units.

    Args:
        folder: The model folder.
        network: As of `load_model`.
        dense: The same.
    """
    if load_any_card(Path(folder)).kind == MultiViewCard.kind:
        return load_multi_view(folder)
    return load_model(folder, network, dense=dense, units=True)
