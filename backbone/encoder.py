"""The encoder folder: `encoder.safetensors` + `encoder.json`, the only thing that passes from pre-training on."""

import hashlib
import os
from pathlib import Path

from ..core.cards import card_errors, refuse_larger
from ..core.errors import UserError, about
from ..core.files import file_sha256
from ..core.tensors import built_within, count
from ..core.weight_files import bare_file
from .card import EncoderCard
from .vit import ViT
from .weights import (
    Checkpoint,
    LoadReport,
    Named,
    Source,
    load_checkpoint,
    open_checkpoint,
    read_checkpoint,
    set_weights,
)
from .weights.hub import is_timm_name
from .weights.hugging_face import is_hugging_face
from .weights.reading import weight_files
from .weights.said import NOTHING, Said

OURS = Source("clinvit", lambda state: False)


def save_encoder(folder: str | Path, vit: ViT, card: EncoderCard) -> Path:
    """Write an encoder folder; the card last, so that a folder with a card is whole."""
    return card.save(folder, vit)


def read_encoder_card(path: str | Path) -> EncoderCard:
    """Read the card of an encoder folder, or one inferred from a foreign checkpoint (MAE, DINO, timm, ...).

    Args:
        path: An encoder folder, a folder of Hugging Face's transformers, or a checkpoint file.

    Raises:
        UserError: None of these.
    """
    path = _place(path)
    return EncoderCard.read(path) if _is_ours(path) else _foreign_card(open_checkpoint(path))


def fingerprint(path: str | Path) -> str:
    """Return the SHA-256 of an encoder's weights: of an encoder folder, a folder of transformers, or a checkpoint."""
    path = _place(path)
    if is_hugging_face(path):
        files = weight_files(path)
        if len(files) == 1:
            return file_sha256(files[0])
        return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
    return file_sha256(path / EncoderCard.weights_file if path.is_dir() else path)


def load_encoder(vit: ViT, path: str | os.PathLike[str]) -> LoadReport:
    """Set a ViT's weights from whatever `read_encoder_card` reads, fitted to the ViT's input size and channels."""
    path = _place(path)
    if _is_ours(path):
        return set_weights(vit, _stored(path), EncoderCard.read(path).arch.grid)
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


def open_reported(path: str | os.PathLike[str], said: Said = NOTHING) -> tuple[ViT, EncoderCard, LoadReport]:
    """Open as `open_vit` does, and return what became of the tensors.

    Args:
        path: As of `open_vit`.
        said: What the user says of a foreign checkpoint.

    Raises:
        UserError: As of `open_vit`.
    """
    path = _place(path)
    if _is_ours(path):
        if said != NOTHING:
            raise UserError(f"{path}: an encoder folder, whose card says all: leave out what is said of it.")
        card, named = EncoderCard.read(path), _stored(path)
    else:
        found = open_checkpoint(path, said=said)
        card, named = _foreign_card(found), found.named
    has_norm = "norm.weight" in named.state
    if not has_norm:
        named.adapted.append("no final norm, since the file has none")
    refuse_larger(path, card.arch.weights, count(named.state))
    with card_errors(path / EncoderCard.card_file), built_within(path, named.state):
        vit = ViT(card.arch, final_norm=has_norm)
    with about(path):
        return vit.eval(), card, set_weights(vit, named, card.arch.grid)


def _place(path: str | os.PathLike[str]) -> Path:
    """Return the path, or the one file of weights in a folder that says nothing of them."""
    path = Path(path)
    return (bare_file(path) if os.path.isdir(path) else None) or path  # noqa: PTH112, which fails on no path


def _is_ours(path: Path) -> bool:
    if not path.exists() and is_timm_name(str(path)):
        raise UserError(f"{path}: convert it first: `clinvit weights convert {path} --out encoder`.")
    return path.is_dir() and not is_hugging_face(path)


def _stored(folder: Path) -> Named:
    state = read_checkpoint(folder / EncoderCard.weights_file)
    EncoderCard.refuse_changed_weights(folder)
    return Named(OURS, state, [], {})


def _foreign_card(found: Checkpoint) -> EncoderCard:
    return EncoderCard(
        found.arch, found.mean, found.std, found.named.source.name, assumed_statistics=found.assumed_statistics
    )
