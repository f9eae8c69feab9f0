"""What a compression begins with: a fine-tuned model, its recipe, its predictions of validation cases, their files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ...compress.variants import as_used, check_compressible
from ...core.documents import read_json, read_yaml
from ...core.errors import DataError, UserError
from ...datasets.manifest.tables import Manifest, Predictions, read_predictions
from ...engine.recipe import parse_recipe
from ...engine.run_folder import ENVIRONMENT, RECIPE
from ...eval.statistics.reservations import FEW
from ...finetune.distil_recipe import Distil
from ...finetune.model import ModelCard, load_card, load_model
from ...finetune.recipe import Finetune
from ..data import open_manifest
from .judge import rare_findings


@dataclass(frozen=True)
class Opened:
    """A model to be made smaller.

    Attributes:
        run: Its run folder.
        network: In eval mode, idle units merged.
        card: Of that.
        recipe: Of its training.
        predictions: Of its validation (and test) cases.
        manifest: Of the same cases.
        rare: Findings that no loss can be judged of, with the patients in their smaller class.
    """

    run: Path
    network: nn.Module
    card: ModelCard
    recipe: Finetune
    predictions: Predictions
    manifest: Manifest
    rare: dict[str, int]

    @property
    def model(self) -> Path:
        """Return the model folder."""
        return self.run / "model"

    @property
    def judged(self) -> Sequence[str]:
        """Return the findings that are judged."""
        return [label for label in self.card.labels if label not in self.rare]


def open_run(run: Path, data: Path | None) -> Opened:
    """Open a run folder.

    Args:
        run: Of `clinvit finetune` or `distil`; its model folder does too.
        data: Manifest or its folder; None for that of the run's own command, where it is still there.

    Raises:
        UserError: No run folder, no model that can be made smaller, or its data are not found.
        DataError: No validation case of it is scored, or none of its findings can be judged.
    """
    run = Path(run)
    if (run / ModelCard.card_file).is_file() and (run.resolve().parent / RECIPE).is_file():
        run = run.resolve().parent
    if not (run / RECIPE).is_file():
        raise UserError(f"{run}: no {RECIPE} in it: give the run folder of `clinvit finetune` (or distil).")
    check_compressible(load_card(run / "model"))
    recipe = _recipe(run / RECIPE)
    if "val" in recipe.data.splits:
        raise UserError(f"{run}: trained on val too (data.splits): no cases are left on which a loss could be seen.")
    predictions = _predictions(run)
    rare = rare_findings(predictions, "val")
    if len(rare) == len(predictions.labels):
        counts = ", ".join(f"{label} ({patients})" for label, patients in list(rare.items())[:6])
        raise DataError(
            f"{predictions.path}: no finding can be judged on validation: all have fewer than {FEW} patients with or "
            f"without it: {counts}. Give more patients the split val."
        )
    network, card = as_used(*load_model(run / "model"))
    return Opened(run, network.cpu(), card, recipe, predictions, _manifest(run, data, card), rare)


def _recipe(path: Path) -> Finetune:
    """Return the recipe of a run, a distillation's too."""
    own = Distil() if "alpha" in read_yaml(path) else Finetune()
    return parse_recipe(own, path)


def _predictions(run: Path) -> Predictions:
    path = run / "predictions.csv"
    if not path.is_file():
        raise DataError(f"{path}: missing: the model is judged by its scores of validation cases. Repeat its training.")
    found = read_predictions(path)
    if not len(found.rows("val").scored()):
        raise DataError(
            f"{path}: no scored case in the split val, on which a smaller model is judged. Give a tenth of the "
            "patients the split val, and train again."
        )
    return found


def _manifest(run: Path, data: Path | None, card: ModelCard) -> Manifest:
    """Return the cases that the model was trained and validated on."""
    place = data if data is not None else _data_of(run)
    if place is None:
        raise UserError("--data is missing: the manifest.csv that the model was trained on, or its folder.")
    manifest = open_manifest(place)
    if lacking := [label for label in card.labels if label not in manifest.labels]:
        raise DataError(
            f"{manifest.path}: no label {', '.join(lacking[:3])}, which the model has: give its own manifest."
        )
    manifest = manifest.with_labels(card.labels)
    stated = card.data.get("fingerprint")
    if stated and manifest.fingerprint() != stated:
        raise UserError(
            f"{manifest.path}: not the cases that the model was trained on, or changed since: give its own."
        )
    return manifest


def _data_of(run: Path) -> Path | None:
    """Return the manifest in the command that made a run, where it is still there."""
    command = read_json(run / ENVIRONMENT).get("command", "") if (run / ENVIRONMENT).is_file() else ""
    named = re.search(r"--data[= ](\S+)", str(command))
    return Path(named[1]) if named and Path(named[1]).exists() else None
