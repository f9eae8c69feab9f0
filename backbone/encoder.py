"""The encoder folder: `encoder.safetensors` + `encoder.json`, the only thing that passes from pre-training on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch

from ..core.errors import UserError, about
from ..core.files import file_sha256, read_json, refuse_changed, write_json, written_aside
from .sizes import Architecture
from .vit import ViT
from .weights import (
    Checkpoint,
    LoadReport,
    Named,
    Source,
    State,
    load_checkpoint,
    open_checkpoint,
    read_checkpoint,
    set_weights,
)
from .weights.hub import is_timm_name
from .weights.hugging_face import is_hugging_face

WEIGHTS, CARD = "encoder.safetensors", "encoder.json"
OURS = Source("clinvit", lambda state: False)


@dataclass(frozen=True)
class EncoderCard:
    """What is known about an encoder.

    Attributes:
        arch: Architecture, input size and channels included.
        mean, std: What pixels in 0..1 are normalised with, one value per channel.
        method: How it was trained: `mae`, `dino`, `none`, or the source of a foreign checkpoint.
        recipe: The resolved recipe, plain values.
        data: Fingerprint and counts of the data it saw.
        versions: Of the packages that made it.
    """

    arch: Architecture
    mean: tuple[float, ...]
    std: tuple[float, ...]
    method: str = "none"
    recipe: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return asdict(self) | {"arch": self.arch.to_dict(), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, card: dict) -> "EncoderCard":
        """Return the inverse of `to_dict`."""
        fields = card | {
            "arch": Architecture(**card["arch"]),
            "mean": tuple(card["mean"]),
            "std": tuple(card["std"]),
        }
        return cls(**fields)


def save_encoder(folder: str | Path, vit: ViT, card: EncoderCard) -> Path:
    """Write an encoder folder; the card last, so that a folder with a card is whole."""
    folder = Path(folder)
    with written_aside(folder / WEIGHTS) as aside:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in vit.state_dict().items()}
        safetensors.torch.save_file(state, aside, metadata={"format": "pt"})
    write_json(folder / CARD, card.to_dict() | {"sha256": file_sha256(folder / WEIGHTS)})
    return folder


def read_encoder_card(path: str | Path) -> EncoderCard:
    """Read the card of an encoder folder, or one inferred from a foreign checkpoint (MAE, DINO, timm, ...).

    Args:
        path: An encoder folder, a folder of Hugging Face's transformers, or a checkpoint file.

    Raises:
        UserError: None of these.
    """
    path = Path(path)
    return _read_card(path) if _is_ours(path) else _foreign_card(open_checkpoint(path))


def load_encoder(vit: ViT, path: str | Path) -> LoadReport:
    """Set a ViT's weights from whatever `read_encoder_card` reads, fitted to the ViT's input size and channels."""
    path = Path(path)
    if _is_ours(path):
        return set_weights(vit, _stored(path), _read_card(path).arch.grid)
    return load_checkpoint(vit, path)


def open_vit(path: str | Path) -> tuple[ViT, EncoderCard]:
    """Open the ViT of an encoder folder or a foreign checkpoint, in eval mode on the CPU, and its card.

    Where the file has no final norm (fine-tuned with the mean of unnormed tokens), the ViT has none either.

    Args:
        path: As of `read_encoder_card`.

    Raises:
        UserError: Not a ViT's weights, or not all of them.
    """
    vit, card, _ = open_reported(path)
    return vit, card


def open_reported(path: str | Path) -> tuple[ViT, EncoderCard, LoadReport]:
    """Open as `open_vit` does, and return what became of the tensors."""
    path = Path(path)
    if _is_ours(path):
        card, named = _read_card(path), _stored(path)
    else:
        found = open_checkpoint(path)
        card, named = _foreign_card(found), found.named
    has_norm = "norm.weight" in named.state
    if not has_norm:
        named.adapted.append("no final norm, since the file has none")
    refuse_larger(path, card.arch.weights, named.state)
    with card_errors(path / CARD):
        vit = ViT(card.arch, final_norm=has_norm)
    with about(path):
        return vit.eval(), card, set_weights(vit, named, card.arch.grid)


def _is_ours(path: Path) -> bool:
    if not path.exists() and is_timm_name(str(path)):
        raise UserError(f"{path}: convert it first: `clinvit weights convert {path} --out encoder`.")
    return path.is_dir() and not is_hugging_face(path)


def _stored(folder: Path) -> Named:
    state = read_checkpoint(folder / WEIGHTS)
    refuse_changed(folder / WEIGHTS, read_json(folder / CARD).get("sha256"))
    return Named(OURS, state, [])


def _foreign_card(found: Checkpoint) -> EncoderCard:
    return EncoderCard(found.arch, found.mean, found.std, method=found.named.source.name)


def _read_card(folder: Path) -> EncoderCard:
    try:
        card = read_json(folder / CARD)
    except FileNotFoundError:
        raise UserError(f"{folder}: no {CARD} in it: not an encoder folder (`clinvit pretrain` makes one).") from None
    card.pop("sha256", None)
    with card_errors(folder / CARD):
        return EncoderCard.from_dict(card)


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


def refuse_larger(path: Path, weights: float, state: State) -> None:
    """Refuse a card that tells of a much larger network than its weights are, before that fills the memory.

    Raises:
        UserError: It does.
    """
    stored = sum(tensor.numel() for tensor in state.values())
    if weights > 2 * stored + 1e7:
        raise UserError(
            f"{path}: its card tells of {weights:.3g} weights, its file has {stored}. Copy the folder again."
        )
