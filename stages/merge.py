"""The stage `merge`: models that hospitals fine-tuned from one encoder become one; no data leave their house."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.alone import folder_alone
from ..core.errors import UserError
from ..core.files import file_sha256
from .facts import refuse_targets

if TYPE_CHECKING:
    from ..finetune.model import ModelCard

METHODS = ("orthogonal", "average", "task-arithmetic", "ties")
# What must be equal in the cards, and what it is called. The labels may differ.
_SHARED = {
    "arch": "architecture", "network": "network", "pool": "pooling", "mean": "mean", "std": "std", "view": "view",
    "scales": "scales", "cache_px": "size of stored images", "clip": "sampling of frames",
    "exclusive": "kind of labels",
}  # fmt: skip


def merge_stage(
    base: Path, models: Mapping[str, Path], out: Path, method: str = "orthogonal", alpha: float = 0.5
) -> "ModelCard":
    """Write `out/model` from models that started from one encoder; return its card.

    The encoder's weights are merged one model after the other. Rows of the head are joined: a label that several models
    have gets the mean of their rows. Thresholds and calibration are left out, since they hold for other scores.

    Args:
        base: The encoder that all started from.
        models: Model folders by name of the site, in the order of merging.
        out: Run folder to write.
        method: One of `METHODS`.
        alpha: Of the orthogonal method.

    Raises:
        UserError: Fewer than two models, another start, architecture or preprocessing, weights that are not finite, or
            labels that cannot be joined.
    """
    from ..backbone.encoder import fingerprint
    from ..datasets.manifest.seen import CHOSEN_ON, PRETRAINED_ON, TRAINED_ON, read_hashes, save_hashes
    from ..finetune import merging
    from ..finetune.model import load_card, refuse_dense, save_model

    if method not in METHODS:
        raise UserError(f"--method {method}: one of {', '.join(METHODS)}.")
    if len(models) < 2:
        raise UserError("merging takes two models or more: NAME=FOLDER NAME=FOLDER.")
    if not 0 <= alpha <= 1:
        raise UserError(f"--alpha {alpha:g}: a share, 0 to 1.")
    parent = fingerprint(base)
    cards = {name: load_card(path) for name, path in models.items()}
    for name, card in cards.items():
        refuse_dense(card, models[name])
        _check(models[name], card, models, cards, parent, base)
    first = next(iter(cards.values()))
    network, start = _start(first, base)
    heads: list = []
    options = {"linear": _linear(network), "alpha": alpha} if method == "orthogonal" else {}
    merged = merging.METHODS[method](start, _encoders(models, cards, heads), **options)
    labels, weight, bias = merging.joined_heads(heads)
    seen = {
        file: [read_hashes(path / file) for path in models.values()] for file in (TRAINED_ON, CHOSEN_ON, PRETRAINED_ON)
    }
    trained = [hashes or frozenset() for hashes in seen[TRAINED_ON]]  # as far as they are made with your key
    shared = sum(map(len, trained)) - len(frozenset().union(*trained))
    facts = {
        "method": method, "base": parent, **({"alpha": alpha} if method == "orthogonal" else {}),
        "models": [
            {"name": name, "sha256": file_sha256(path / card.weights_file), "labels": list(card.labels)}
            for (name, path), card in zip(models.items(), cards.values(), strict=True)
        ],
        "norms": merged.norms, "factors": merged.factors, "shared_cases": shared,
    }  # fmt: skip
    meaning = {label: text for card in reversed(cards.values()) for label, text in card.meaning.items()}
    card = replace(
        first, labels=tuple(labels), meaning={label: meaning[label] for label in labels}, thresholds={},
        calibration={}, recipe={}, data={"holds": first.holds}, parameters={}, merge=facts,
    )  # fmt: skip
    model = _filled(card, merged.weights, weight, bias)
    with folder_alone(Path(out)):
        folder = Path(out) / "model"
        save_model(folder, model, card)
        for file, known in seen.items():
            if all(hashes is not None for hashes in known):
                save_hashes(folder / file, frozenset().union(*known))
    return card


def _check(
    path: Path, card: "ModelCard", models: Mapping[str, Path], cards: Mapping[str, "ModelCard"], parent: str, base: Path
) -> None:
    """Refuse a model that does not go with the first one and with the start.

    Raises:
        UserError: Names the folder and what is another.
    """
    from ..finetune.adaptation import FROZEN

    refuse_targets(card, f"{path}: merging")
    (first_path, first), *_ = zip(models.values(), cards.values(), strict=True)
    if card.network != "vit" or card.mode in FROZEN or card.pool == "attention":
        raise UserError(
            f"{path}: {card.network}, mode {card.mode}, pooling {card.pool}: a ViT is merged whose own weights were "
            "trained (--mode full, norm, bitfit, lora or last_blocks) and that pools by mean or class."
        )
    if not card.plain_head:
        raise UserError(
            f"{path}: its head sees features of unit length (head_norm l2): merge models with a plain head."
        )
    if found := card.arch.compressed:
        raise UserError(f"{path}: {', '.join(found)}: its units have an order of their own; merge plain ViTs only.")
    if card.arch.stem:
        raise UserError(f"{path}: a stem of convolutions, which the common start has not: merge models without one.")
    started = card.encoder.get("sha256")
    if started is None:
        raise UserError(
            f"{path}: its card does not say which encoder it started from; only models with one start merge. "
            "Fine-tune it again from the encoder."
        )
    if started != parent:
        raise UserError(f"{path}: it started from another encoder than {base}; only models with one start merge.")
    for name, words in _SHARED.items():
        if getattr(card, name) != getattr(first, name):
            raise UserError(
                f"{path}: {words} is {getattr(card, name)}, of {first_path} {getattr(first, name)}: not to be merged."
            )
    if card.exclusive and card.labels != first.labels:
        raise UserError(
            f"{path}: its classes are {', '.join(card.labels)}, of {first_path} {', '.join(first.labels)}: classes "
            "that exclude each other must be the same in all models."
        )
    for label in card.labels:
        if label in first.meaning and card.meaning.get(label) != first.meaning[label]:
            raise UserError(
                f"{path}: 1 of {label} means {card.meaning.get(label)!r}, in {first_path} {first.meaning[label]!r}."
            )


def _start(card: "ModelCard", base: Path):
    """Return the network of a card and the weights that its encoder starts from."""
    from ..backbone.encoder import load_encoder
    from ..finetune.model import build_model

    network = build_model(card)
    load_encoder(network.encoder, base)
    return network, dict(network.encoder.state_dict())


def _linear(network) -> set[str]:
    from torch import nn

    return {f"{name}.weight" for name, part in network.encoder.named_modules() if isinstance(part, nn.Linear)}


def _encoders(models: Mapping[str, Path], cards: Mapping[str, "ModelCard"], heads: list) -> Iterator[dict]:
    """Yield the weights of each encoder; its head, the norm before it folded in, is left in `heads`."""
    from ..finetune.model import safetensors_state

    for name, path in models.items():
        cards[name].refuse_changed_weights(path)
        state = safetensors_state(path / cards[name].weights_file)
        weight, bias = state["head.weight"].double(), state["head.bias"].double()
        if "fc_norm.weight" in state:
            bias = bias + weight @ state["fc_norm.bias"].double()
            weight = weight * state["fc_norm.weight"].double()
        heads.append((cards[name].labels, weight, bias))
        yield {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}


def _filled(card: "ModelCard", encoder: dict, weight, bias):
    """Return the network of a card with an encoder's weights and a head; its own norm does nothing but normalise."""
    import torch

    from ..finetune.model import build_model

    model = build_model(card).eval()
    model.encoder.load_state_dict(encoder)
    with torch.no_grad():
        model.head.weight.copy_(weight)
        model.head.bias.copy_(bias)
    return model
