"""Weights, cards and recipes that a command names, looked at before PyTorch is imported: what is hostile ends here."""

import os
import re
from pathlib import Path

from ..backbone.card import EncoderCard
from ..backbone.sizes import Architecture
from ..core.alone import refuse_linked
from ..core.cards import Card, card_errors, refuse_larger
from ..core.documents import read_json, read_yaml
from ..core.errors import DataError
from ..core.weight_files import refuse_hostile, safetensors_sizes
from ..engine.run_folder import ENVIRONMENT, RECIPE

# timm's networks with such a word in their names have at least 340 million weights, unless settings make them smaller.
GIANT = re.compile(r"giant|gigantic|huge|enormous|xxlarge|so400m")
GIANT_WEIGHTS = 1e8
CARDS = {Card.card_file: Card.weights_file, EncoderCard.card_file: EncoderCard.weights_file}


def refuse_hostile_weights(place: str | os.PathLike) -> None:
    """Refuse a checkpoint, an encoder, model or run folder by its headers; leave what is none to its reader.

    Raises:
        UserError: As of `core.weight_files.refuse_hostile`; a card is damaged or asks for a much larger network than
            its file has weights.
    """
    place = Path(place)
    if (place / "model").is_dir():  # a run folder
        refuse_hostile_weights(place / "model")
    for card, weights in CARDS.items():
        if (place / card).is_file():
            _refuse_card(place, place / card, place / weights)
    refuse_hostile(place)


def refuse_hostile_facts(place: str | os.PathLike) -> None:
    """Refuse what stands beside a manifest, or in a folder of tiles or features, if it is damaged or hostile.

    Raises:
        UserError: As of `core.documents`.
    """
    place = Path(place)
    manifest = place / "manifest.csv" if place.is_dir() else place
    if manifest.suffix.lower() == ".csv" and (facts := manifest.with_suffix(".json")).is_file():
        read_json(facts, DataError)
    if (place / RECIPE).is_file():
        read_yaml(place / RECIPE)


def refuse_hostile_out(out: str | os.PathLike) -> None:
    """Refuse to write where links lie in the places of our locks, or go on in a run folder whose facts are damaged.

    Raises:
        UserError: It names the file.
    """
    out = Path(out)
    refuse_linked(out)
    for name, read in ((RECIPE, read_yaml), (ENVIRONMENT, read_json)):
        if (out / name).is_file():
            read(out / name, remedy="Choose another --out.")


def _refuse_card(folder: Path, path: Path, weights: Path) -> None:
    values = read_json(path)
    if not weights.is_file():
        return
    with card_errors(path):
        refuse_larger(folder, _least(values), sum(safetensors_sizes(weights).values()))


def _least(values: dict) -> float:
    """Return how many weights a card's network has at least: of a ViT, of the neighbours of a k-NN, by a name."""
    network, cases = values.get("network", "vit"), values.get("reference_cases", 0)
    least = float(cases) if isinstance(cases, int) else 0.0
    if network == "vit" and isinstance(values.get("arch"), dict):
        least += Architecture(**values["arch"]).weights
    elif isinstance(network, str) and GIANT.search(network) and not values.get("settings"):
        least += GIANT_WEIGHTS
    return least
