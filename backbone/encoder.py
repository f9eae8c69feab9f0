"""The encoder folder: `encoder.safetensors` + `encoder.json`, the only thing that passes from pre-training on."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import safetensors.torch

from ..errors import UserError
from ..files import file_sha256, write_json, written_aside
from .sizes import IMAGENET_STATISTICS, Architecture
from .vit import ViT
from .weights import (
    LoadReport,
    infer_architecture,
    load_into,
    read_checkpoint,
    recognise,
)

WEIGHTS, CARD = "encoder.safetensors", "encoder.json"


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
        """Plain values for JSON."""
        return asdict(self) | {"arch": self.arch.to_dict(), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, card: dict) -> "EncoderCard":
        """The inverse of `to_dict`."""
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
    """The card of an encoder folder, or one inferred from a foreign checkpoint file (MAE, DINO, timm, ...).

    Raises:
        UserError: Neither an encoder folder nor a checkpoint of a ViT.
    """
    path = Path(path)
    if path.is_dir():
        try:
            card = json.loads((path / CARD).read_text(encoding="utf-8"))
            card.pop("sha256", None)
            return EncoderCard.from_dict(card)
        except FileNotFoundError:
            raise UserError(f"{path}: no {CARD} in it: not an encoder folder (`clinvit pretrain` makes one).") from None
        except (json.JSONDecodeError, TypeError, KeyError, ValueError) as error:
            raise UserError(f"{path / CARD}: not a readable encoder card ({error}).") from None
    state = read_checkpoint(path)
    source = recognise(state)
    arch = infer_architecture(state)
    # The thorax paper normalises every channel of ChestX-ray14 alike (util/datasets.py of its code).
    mean, std = ((0.5056,) * 3, (0.252,) * 3) if source == "thorax-mae" else IMAGENET_STATISTICS
    return EncoderCard(arch, mean[: arch.channels], std[: arch.channels], method=source)


def load_encoder(vit: ViT, path: str | Path) -> LoadReport:
    """Set a ViT's weights from an encoder folder or a checkpoint file, fitted to the ViT's input size and channels."""
    path = Path(path)
    if path.is_dir():
        grid = read_encoder_card(path).arch.grid
        report = load_into(vit, read_checkpoint(path / WEIGHTS), grid)
        return replace(report, source="clinvit")
    state = read_checkpoint(path)
    stored = "pos_embed" in state
    return load_into(vit, state, None if stored else infer_architecture(state, vit.arch.heads).grid)
