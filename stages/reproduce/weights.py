"""Weights that the user gives for a row: an encoder starts it at fine-tuning, a model at prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import DataError, UserError
from ...core.files import file_sha256
from ...datasets.manifest.tables import Manifest, write_predictions
from .table import Finetune, Row

if TYPE_CHECKING:
    from ...finetune.start_head import StartHead


@dataclass(frozen=True)
class Given:
    """The weights that the user gave for a row.

    Attributes:
        encoder: Encoder folder or checkpoint.
        model: Model folder, or a checkpoint with a head for the labels.
    """

    encoder: Path | None = None
    model: Path | None = None

    def paths(self) -> list[Path]:
        """Return the paths of what was given."""
        return [path for path in (self.encoder, self.model) if path is not None]


def sort_weights(row: Row, paths: Sequence[Path], recipes: dict[str, Any], labels: Sequence[str]) -> Given:
    """Separate encoders from models.

    Args:
        row: The row that they are for.
        paths: Folders and checkpoint files.
        recipes: The row's recipes by the kind of step.
        labels: Labels that the row predicts.

    Raises:
        UserError: Neither of both, two of a kind, or weights that the row would not use.
    """
    paths_of: dict[str, Path] = {}
    for path in paths:
        kind = "model" if _is_model(path, recipes, len(labels), _whole_head(row)) else "encoder"
        if kind in paths_of:
            raise UserError(f"row {row.name}: {paths_of[kind]} and {path} are both {kind}s: give one.")
        paths_of[kind] = path
    given = Given(**paths_of)
    starts = [step.encoder for step in row.steps if hasattr(step, "encoder")]
    if given.encoder is not None and (not starts or starts[0] == "none"):
        raise UserError(
            f"row {row.name}: {given.encoder} is an encoder, but the row starts from scratch: leave it out."
        )
    if given.model is not None and not any(step.trains == "model" for step in row.steps):
        raise UserError(f"row {row.name}: {given.model} is a model, but the row has none: leave it out.")
    if given.model is not None and given.encoder is not None and any(isinstance(s, Finetune) for s in row.steps):
        raise UserError(f"row {row.name}: {given.model} is a whole model: leave the encoder {given.encoder} out.")
    return given


def check_given(row: Row, given: Given, recipes: dict[str, Any], labels: Sequence[str]) -> None:
    """Refuse weights now that would fail later, or that are not those of the row.

    Args:
        row: The row that they are for.
        given: The weights.
        recipes: The row's recipes by the kind of step.
        labels: Labels that the row predicts.

    Raises:
        UserError: A model of other labels, an encoder of another size, a checkpoint of another network.
    """
    if given.model is not None and given.model.is_dir():
        from ...mil.cards import load_any_card

        known = load_any_card(given.model).labels
        if set(known) != set(labels):
            raise UserError(
                f"row {row.name}: {given.model} predicts {', '.join(known)}; the row needs {', '.join(labels)}."
            )
    if given.encoder is not None:
        _check_encoder(row, given.encoder, recipes.get("finetune") or recipes["pretrain"], len(labels))


def _check_encoder(row: Row, encoder: Path, recipe: Any, labels: int) -> None:
    network = getattr(recipe, "network", "vit")
    if network != "vit":
        from ...finetune.classifier import TimmClassifier
        from ...finetune.timm_weights import load_network

        if encoder.is_dir():
            raise UserError(f"row {row.name}: {encoder} is an encoder folder; {network} starts from a checkpoint file.")
        load_network(TimmClassifier(network, labels, recipe.model.channels), encoder)
        return
    from ...backbone.encoder import read_encoder_card

    found, asked = read_encoder_card(encoder).arch, recipe.model.architecture()
    if (found.width, found.depth) != (asked.width, asked.depth):
        raise UserError(
            f"row {row.name}: {encoder} is a ViT of width {found.width} and depth {found.depth}; the row's has width "
            f"{asked.width} and depth {asked.depth}. Give an encoder of its size."
        )


def weights_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a checkpoint, or of the weights in an encoder or model folder."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UserError(f"{path}: no weights there.")
    return file_sha256(files[0])


def predict_given(model: Path, recipe: Any, manifest: Manifest, out: Path, head: "StartHead | None" = None) -> None:
    """Predict validation and test with a given model of images or clips into `out/predictions.csv`.

    Args:
        model: Model folder, or a checkpoint with a head: that becomes the model folder `out/model` first.
        recipe: The row's fine-tuning: how images are shown, and what the outputs mean.
        manifest: The cases.
        out: The step's folder.
        head: Which classes of a checkpoint's head the labels are; None where they are all of them.

    Raises:
        DataError: The model predicts other labels.
    """
    from ...finetune.model import load_model
    from ...finetune.pipeline import manifest_cases, predicted
    from ...finetune.predict import model_predictor

    folder = model if model.is_dir() else _adopt(model, recipe, manifest, out / "model", head)
    network, card = load_model(folder)
    if set(card.labels) != set(manifest.labels):
        raise DataError(f"{model}: predicts {', '.join(card.labels)}; the row needs {', '.join(manifest.labels)}.")
    cases, truth = manifest_cases(manifest.rows("val", "test"), card.labels)
    write_predictions(out / "predictions.csv", predicted(cases, truth, model_predictor(network, card)))


def _whole_head(row: Row) -> "StartHead | None":
    """Return the head by which a checkpoint is a whole model for the row's labels; None where there is none."""
    return next((step.head for step in row.steps if isinstance(step, Finetune) and step.as_is), None)


def _is_model(path: Path, recipes: dict[str, Any], labels: int, head: "StartHead | None") -> bool:
    from ...backbone.weights import read_checkpoint
    from ...finetune.classifier import TimmClassifier
    from ...finetune.timm_weights import head_size
    from ...finetune.volumes.weights import published_network

    if not path.exists():
        raise UserError(f"{path}: no such file or folder.")
    if path.is_dir():
        if not (path / "model.json").is_file() and not (path / "encoder.json").is_file():
            raise UserError(f"{path}: neither a model folder (model.json) nor an encoder folder (encoder.json).")
        return (path / "model.json").is_file()
    recipe = recipes.get("finetune")
    if recipe is None:
        return False
    state = read_checkpoint(path)
    if recipe.network != "vit" and recipe.model.frames > 1:
        published = published_network(state)
        return published is not None and published[0] == recipe.network
    if recipe.network != "vit":
        return head_size(TimmClassifier(recipe.network, labels, recipe.model.channels), state) == labels
    if head is not None and len(head.rows) == labels and head.of(state):
        return True
    return "head.weight" in state and len(state["head.weight"]) == labels


def _adopt(checkpoint: Path, recipe: Any, manifest: Manifest, out: Path, rows: "StartHead | None") -> Path:
    """Make a model folder of a checkpoint with a head; every tensor of the classifier must be in it."""
    from ...backbone.encoder import load_encoder, read_encoder_card
    from ...backbone.weights import read_checkpoint
    from ...finetune.model import build_model, save_model
    from ...finetune.new_card import make_card
    from ...finetune.timm_weights import load_network
    from ...finetune.volumes.weights import load_published

    if recipe.network != "vit" and recipe.model.frames > 1:
        _, model, _ = load_published(checkpoint, recipe.pool_ratio)
        return save_model(out, model, make_card(recipe, manifest, None))
    if recipe.network != "vit":
        card = make_card(recipe, manifest, None)
        model = build_model(card)
        load_network(model, checkpoint, head=True)
        return save_model(out, model, card)
    card = make_card(recipe, manifest, read_encoder_card(checkpoint))
    model, state = build_model(card), read_checkpoint(checkpoint)
    load_encoder(model.encoder, checkpoint)
    state |= {} if rows is None else rows.of(state)
    head = [name for name in model.state_dict() if not name.startswith("encoder.")]
    missing = [name for name in head if name not in state]
    if missing:
        raise UserError(f"{checkpoint}: has a head, but no {', '.join(missing)} (pool {recipe.pool!r}).")
    model.load_state_dict({name: state[name] for name in head}, strict=False)
    return save_model(out, model, card)
