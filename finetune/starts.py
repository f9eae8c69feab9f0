"""What a fine-tuning starts from: a ViT of ours, or a network of timm of whatever kind, with its weights."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backbone.encoder import EncoderCard, read_encoder_card
from ..backbone.public import known_weights
from ..backbone.sizes import IMAGENET_STATISTICS
from ..backbone.weights.timm_folder import empty_network
from ..core.documents import read_json
from ..core.errors import UserError
from ..core.files import file_sha256
from .timm_network import NOT_SETTINGS, check_name, check_settings

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class NetworkStart:
    """A network of timm and its weights.

    Attributes:
        network: timm's name.
        weights: The checkpoint file.
        how: How the network is known, in words.
        mean, std: What pixels in 0..1 are normalised with, one value per channel.
        image_size: Height and width that it was trained at, pixels.
        settings: What `timm.create_model` is given beside the name.
        assumed_statistics: Whether mean and std are only those usual for the name: nothing beside the file states them.
    """

    network: str
    weights: Path
    how: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: tuple[int, int]
    settings: dict[str, Any] = field(default_factory=dict)
    assumed_statistics: bool = True

    @property
    def method(self) -> str:
        """Return how cards name what it was."""
        return f"weights of {self.network}"

    def description(self) -> str:
        """Return what it is and what it serves for, in a line."""
        size = f"{self.image_size[0]} x {self.image_size[1]} px"
        usual = " (usual for it: nothing states them)" if self.assumed_statistics else ""
        return (
            f"the network {self.network} of timm, {self.how}; input {size}, mean {self.mean}, std {self.std}{usual}. "
            "It serves as it is: finetune --encoder in every mode but last_blocks, extract --encoder --features pooled"
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights."""
        return file_sha256(self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the card of a model."""
        return {"method": self.method, "file": str(self.weights), "network": self.network}


def find_start(encoder: str | Path, network: str = "vit", *, ours: bool = False) -> EncoderCard | NetworkStart:
    """Return what a checkpoint, folder or name is the start of.

    Folders of our own and of transformers, and checkpoints that one of our ViTs reads, are a ViT. Else it is the
    network of timm that the recipe, a `config.json` of timm, the table of public encoders or the file's name says; all
    tensors of that must be found in it.

    Args:
        encoder: A file or folder.
        network: The recipe's; `vit` where it names none.
        ours: A plain ViT in a folder of timm is taken as a ViT of ours, as fine-tuning needs it: any input size, grids
            that are no square, clips, low-rank updates. Else it is the network that timm would make, with its pooling.

    Raises:
        UserError: It is none of these.
    """
    path = Path(encoder)
    found = network_start(path, network)
    if ours and found is not None and network == "vit" and found.how == BY_CONFIG and not _pools_by_attention(found):
        with suppress(UserError):  # what is no ViT of ours stays what timm says that it is
            return read_encoder_card(path)
    if found is not None and (network != "vit" or found.how != BY_FILE_NAME):
        return found
    try:
        return read_encoder_card(path)
    except UserError as error:
        if found is not None:
            return found
        hint = " If it is another network, --network NAME says which of timm's." if path.is_file() else ""
        raise UserError(f"{error}{hint}") from None


BY_FILE_NAME, BY_CONFIG = "by the name of the file", f"by its {CONFIG}"


def _pools_by_attention(start: NetworkStart) -> bool:
    """Return whether a network of timm has an attention before its head (SigLIP), which a ViT of ours would lose."""
    pool = start.settings.get("global_pool")
    return (pool if pool is not None else getattr(empty_network(start.network), "global_pool", "")) == "map"


def network_start(path: Path, network: str = "vit") -> NetworkStart | None:
    """Return the network of timm that a file or folder holds; None where nothing says one.

    Raises:
        UserError: What is said contradicts the recipe, or timm does not know it.
    """
    facts, how = _said(path)
    if network != "vit":
        if facts and _base(facts["architecture"]) != _base(network):
            raise UserError(
                f"{path}: holds {facts['architecture']}, the recipe's network is {network}: leave that out."
            )
        facts, how = facts or {"architecture": network}, how or "by the recipe"
    if not facts:
        return None
    name = facts["architecture"]
    try:
        check_name(name)
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from None
    stated = facts.get("pretrained_cfg") or {}
    usual = _usual(name)
    mean, std = (stated.get(key, usual[key]) for key in ("mean", "std"))
    size = tuple(int(side) for side in stated.get("input_size", usual["input_size"])[1:])
    return NetworkStart(
        name, _weights(path), how, tuple(mean), tuple(std), size, _settings(facts.get("model_args") or {}, path),
        assumed_statistics=not {"mean", "std"} <= stated.keys(),
    )  # fmt: skip


def _said(path: Path) -> tuple[dict[str, Any], str]:
    """Return facts in the form of timm's config.json, and where they are from; empty where there are none."""
    facts: dict[str, Any] = {}
    how = ""
    if path.is_dir() and (path / CONFIG).is_file():
        config = read_json(path / CONFIG, remedy="Copy or download it again.")
        if isinstance(config.get("architecture"), str):
            facts, how = config, BY_CONFIG
    if (public := known_weights(path)) is not None and public.network:
        facts = {"architecture": public.network, "pretrained_cfg": public.input_facts()} | facts
        facts["model_args"] = {**public.settings, **(facts.get("model_args") or {})}
        how = f"as {public.name}"
    if not facts and path.is_file() and (name := _name_of(path)):
        facts, how = {"architecture": name}, BY_FILE_NAME
    return facts, how


def _name_of(file: Path) -> str:
    """Return the network of timm that a file is named after, as timm and torchvision name theirs; empty for none."""
    import timm

    stem = file.name.removesuffix(file.suffix)
    tries = [stem, stem.partition(".")[0], re.sub(r"[-_][0-9a-f]{8}$", "", stem)]
    return next((name for name in tries if timm.is_model(name)), "")


def _weights(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise UserError(f"{path}: no {' or '.join(WEIGHTS)} in it: download the folder again.")


def _settings(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return plain settings of a network; no file says which code runs."""
    kept = {key: value for key, value in given.items() if key not in NOT_SETTINGS}
    try:
        check_settings(kept)
    except ValueError as error:
        raise UserError(f"{path / CONFIG}: model_args {error}.") from None
    return kept


def _usual(name: str) -> dict[str, Any]:
    import timm

    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known is None:
        return {"mean": IMAGENET_STATISTICS[0], "std": IMAGENET_STATISTICS[1], "input_size": (3, 224, 224)}
    return {"mean": known.mean, "std": known.std, "input_size": known.input_size}


def _base(name: str) -> str:
    return name.partition(".")[0]
