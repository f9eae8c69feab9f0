"""The card beside a file of weights: what is known about a network, as JSON. The base of all cards."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, get_origin, get_type_hints

from .documents import read_json
from .errors import UserError
from .files import file_sha256, refuse_changed, write_json, written_aside


@dataclass(frozen=True)
class Card:
    """Base of the frozen dataclasses that say what is known about a network.

    On disk the fields are a JSON object, with `kind` and the SHA-256 of the weights. A card without a kind has the kind
    that its file is named after (`model.json`).

    Attributes:
        kind: Distinguishes cards with one file name.
        card_file: Name of the card in the folder.
        weights_file: Name of the weights in the folder.
        folder_words: What such a folder is and which command makes one.
        another_words: What is wrong with a card of another kind.
    """

    kind: ClassVar[str]
    card_file: ClassVar[str] = "model.json"
    weights_file: ClassVar[str] = "model.safetensors"
    folder_words: ClassVar[str] = "a model folder (`clinvit finetune` makes one)"
    another_words: ClassVar[str]

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {"kind": self.kind} | json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """Return the card of plain values: the inverse of `to_dict`."""
        types = get_type_hints(cls)
        return cls(**{name: _typed(types.get(name), value) for name, value in values.items() if name != "kind"})

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the card of a folder.

        Raises:
            UserError: There is none, it is of another kind, or it is damaged.
        """
        path = Path(folder) / cls.card_file
        try:
            values = read_json(path)
        except FileNotFoundError:
            raise UserError(f"{folder}: no {path.name} in it: not {cls.folder_words}.") from None
        if values.get("kind", path.stem) != cls.kind:
            raise UserError(f"{path}: {cls.another_words}")
        values.pop("sha256", None)
        with card_errors(path):
            card = cls.from_dict(values)
            card.validate()
            return card

    def validate(self) -> None:
        """Raise where the values do not go together."""

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write (or replace) the card of a folder whose weights are there."""
        folder = Path(folder)
        write_json(folder / self.card_file, self.to_dict() | {"sha256": file_sha256(folder / self.weights_file)})

    def save(self, folder: str | os.PathLike[str], network) -> Path:
        """Write a network's weights and this card; the card last, so that a folder with a card is whole."""
        from safetensors.torch import save_file

        folder = Path(folder)
        with written_aside(folder / self.weights_file) as aside:
            state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
            save_file(state, aside, metadata={"format": "pt"})
        self.write(folder)
        return folder

    @classmethod
    def refuse_changed_weights(cls, folder: str | os.PathLike[str]) -> None:
        """Refuse weights that are not those that the card was written for.

        Raises:
            UserError: Their SHA-256 is another.
        """
        folder = Path(folder)
        refuse_changed(folder / cls.weights_file, read_json(folder / cls.card_file).get("sha256"))


def stored_kind(path: Path) -> str:
    """Return the kind of the card in a file, of a missing one too, whose reading will say so.

    Raises:
        UserError: The file is damaged.
    """
    try:
        return str(read_json(path).get("kind", path.stem))
    except FileNotFoundError:
        return path.stem


@contextmanager
def card_errors(path: Path) -> Iterator[None]:
    """Turn what values of the wrong kind or size in a card let fail into a UserError that names it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}" if str(path.parent) not in str(error) else str(error)) from None
    except (TypeError, KeyError, ValueError, AttributeError, ArithmeticError, RuntimeError, AssertionError) as error:
        words = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: not a readable card of a model ({words}). Copy the folder again.") from None


def refuse_larger(path: Path, weights: float, stored: int) -> None:
    """Refuse a card of a much larger network than its weights are, before that fills the memory.

    Args:
        path: The folder, for messages.
        weights: Least number of weights of the card's network.
        stored: How many its file holds.

    Raises:
        UserError: The card's network is much larger.
    """
    if weights > 2 * stored + 1e7:
        raise UserError(
            f"{path}: its card has at least {weights:.3g} weights, its file has {stored:,}. Copy the folder again."
        )


def _typed(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        return kind(**value)
    return tuple(value) if get_origin(kind) is tuple else value
