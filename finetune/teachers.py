"""Teachers: one model or several, and what they say of a view."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import UserError
from ..core.files import file_sha256
from ..core.pixels import normalised
from ..datasets.manifest.seen import PRETRAINED_ON, TRAINED_ON, read_hashes
from .classifier import Classifier, NearestNeighbours, TimmClassifier
from .model import ModelCard, input_shape, load_model


@dataclass(frozen=True)
class Teacher:
    """A model that others learn from.

    Attributes:
        folder: Its model folder.
        network: In eval mode, on its device.
        card: Its card.
        columns: For each label of the student the teacher's output, -1 where it has none.
        width: Values of its features; 0 where it has none.
    """

    folder: Path
    network: nn.Module
    card: ModelCard
    columns: tuple[int, ...]
    width: int

    @property
    def side_px(self) -> int:
        """Return the side of its input at the finest scale, pixels."""
        return input_shape(self.card)[-1]

    def sha256(self) -> str:
        """Return that of its weights."""
        return file_sha256(self.folder / self.card.weights_file)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, L) float32 logits, NaN where it has no such output, and (B, D) features of unit length.

        Args:
            pixels: (B, C, [T,] S, S) uint8.
        """
        device = next(self.network.parameters()).device
        x = normalised(_in_channels(pixels, self.card.arch.channels).to(device), self.card.mean, self.card.std)
        features, logits = outputs(self.network, x)
        logits = logits.float().cpu()
        chosen = torch.full((len(logits), len(self.columns)), torch.nan)
        for place, column in enumerate(self.columns):
            if column >= 0:
                chosen[:, place] = logits[:, column]
        if features is None:
            return chosen, torch.zeros(len(logits), 0)
        return chosen, F.normalize(features.float().cpu(), dim=1)


def open_teachers(
    folders: Sequence[Path], labels: Sequence[str], exclusive: bool, channels: int, frames: int
) -> list[Teacher]:
    """Return the models in some folders as teachers of a student.

    Args:
        folders: Model folders.
        labels: Of the student.
        exclusive: Whether the student's classes exclude each other.
        channels: Of the student's input.
        frames: Of the student's input; 1 for images.

    Raises:
        UserError: A folder holds no model, or one that cannot teach this student.
    """
    return [_opened(Path(folder), tuple(labels), exclusive, channels, frames) for folder in folders]


def labels_of(folders: Sequence[Path]) -> tuple[list[str], dict[str, str]]:
    """Return all labels of the models in some folders, and what 1 means of each."""
    meaning: dict[str, str] = {}
    for folder in folders:
        card = ModelCard.read(_model_folder(folder))
        meaning = {label: card.meaning.get(label, f"1 = {label} present") for label in card.labels} | meaning
    return list(meaning), meaning


def _model_folder(folder: Path) -> Path:
    """Return the model folder, of a run folder the one in it."""
    own = Path(folder) / ModelCard.card_file
    return Path(folder) if own.is_file() or not (Path(folder) / "model").is_dir() else Path(folder) / "model"


def _opened(folder: Path, labels: tuple[str, ...], exclusive: bool, channels: int, frames: int) -> Teacher:
    folder = _model_folder(folder)
    network, card = load_model(folder)
    if card.targets:
        raise UserError(f"{folder}: a teacher is of findings; this model predicts {', '.join(card.columns)}.")
    columns = tuple(card.labels.index(label) if label in card.labels else -1 for label in labels)
    if max(columns) < 0:
        raise UserError(
            f"{folder}: a teacher of {', '.join(card.labels[:6])}, and none of these is a label here "
            f"({', '.join(labels[:6])}). Choose labels that it knows: --data.labels."
        )
    if exclusive != card.exclusive or (exclusive and set(labels) != set(card.labels)):
        kind = "classes that exclude each other" if card.exclusive else "findings that occur together"
        raise UserError(
            f"{folder}: a teacher of {kind} ({', '.join(card.labels[:6])}); a student learns the same: set --loss "
            f"{'ce' if card.exclusive else 'bce'} and the same labels."
        )
    if card.arch.frames != frames:
        raise UserError(f"{folder}: a teacher of {card.arch.frames} frame(s), the student has {frames}: set the same.")
    if card.arch.channels == 1 and channels == 3:
        raise UserError(f"{folder}: a teacher of grey images, the student's have colours: set --model.channels 1.")
    return Teacher(folder, network, card, columns, _width(network, card))


@torch.inference_mode()
def _width(network: nn.Module, card: ModelCard) -> int:
    x = torch.zeros(1, *input_shape(card), device=next(network.parameters()).device)
    features, _ = outputs(network, x)
    return 0 if features is None else features.shape[1]


def outputs(model: Any, x: Tensor, visible_ids: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
    """Return (B, D) features that a model's last layer sees, None where it gives none, and its (B, L) logits.

    Args:
        model: Any classifier of ours.
        x: (B, C, [T,] H, W) normalised input.
        visible_ids: See `Classifier.forward`.
    """
    if isinstance(model, Classifier):
        features = model.features(x, visible_ids)
        return features, model.head(model.head_drop(model.fc_norm(features)))
    if isinstance(model, NearestNeighbours):
        features = model.features(x)
        return features, model.logits(features)
    if isinstance(model, TimmClassifier):
        found = model.network.forward_features(x)
        return model.network.forward_head(found, pre_logits=True), model.network.forward_head(found)
    return None, model(x)


def hashes_of(teachers: Sequence[Teacher], name: str) -> frozenset[str] | None:
    """Return the hashes of what any of the teachers has seen, of a file of theirs; None where one does not say."""
    assert name in (TRAINED_ON, PRETRAINED_ON)
    found = [read_hashes(teacher.folder / name) for teacher in teachers]
    return None if any(each is None for each in found) else frozenset().union(*(each or () for each in found))


def _in_channels(pixels: Tensor, channels: int) -> Tensor:
    """Return grey pixels in three equal channels, for a teacher of colours."""
    return pixels.expand(-1, channels, *pixels.shape[2:]) if pixels.shape[1] != channels else pixels
