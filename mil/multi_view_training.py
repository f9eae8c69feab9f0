"""Training a model of several views: an aggregator on features of images, which an encoder makes once."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from ..backbone.encoder import load_encoder
from ..core.files import file_sha256
from ..datasets.manifest.seen import PRETRAINED_ON, TRAINED_ON, read_hashes
from ..datasets.manifest.tables import Manifest, unit_ids
from ..engine.launcher import alone
from ..engine.recipe import plain
from ..engine.run_folder import rank, versions, world_size
from ..finetune.features import FeatureMaker
from ..finetune.features_recipe import Features
from ..finetune.model import ModelCard, best_device, build_model, load_model
from ..finetune.pipeline import apart, manifest_cases
from ..finetune.predict import pooled_features
from ..finetune.starting_targets import answers
from ..finetune.starts import NetworkStart, find_start
from ..finetune.timm_weights import load_network
from .aggregator import Aggregator
from .multi_view import MultiView, MultiViewCard, load_multi_view, vectors_of
from .recipe import Mil, settings
from .run import checked_manifest, train_on_bags
from .units import VectorBags


def train_multi_view(recipe: Mil, manifest: Manifest, encoder: Path, out: Path, unit: str) -> Path:
    """Train an aggregator of the images of units; write `out/model/` and `out/predictions.csv` (validation and test).

    One process does it all: features are made once, and what is trained is small.

    Args:
        recipe: The resolved recipe.
        manifest: The images.
        encoder: As of `open_source`.
        out: The run folder. A run that was interrupted there goes on.
        unit: `study`, `patient` or `case`.

    Returns:
        The model folder.

    Raises:
        DataError: No column of the unit, or labels that cannot be learned.
        UserError: The encoder is none.
    """
    if world_size() > 1:
        if rank() == 0:
            with alone():
                _train(recipe, manifest, encoder, out, unit)
    else:
        _train(recipe, manifest, encoder, out, unit)
    return out / "model"


def _train(recipe: Mil, manifest: Manifest, encoder: Path, out: Path, unit: str) -> None:
    manifest = checked_manifest(recipe, manifest)
    unit_ids(manifest.path, manifest.table, unit)
    source = open_source(encoder)
    print(f"encoder {encoder}: {source.card.network_words()}; its features stay as they are", flush=True)
    cases, _ = manifest_cases(manifest, ())
    vectors, texts = source.vectors(cases)
    reasons, _ = apart(vectors[:, :1], texts)
    bags = VectorBags(vectors, reasons, encoder, {"encoder_sha256": source.sha256})
    train_on_bags(recipe, manifest, bags, out, ViewParts(source, unit), unit)


@dataclass(frozen=True)
class Source:
    """What sees each image.

    Attributes:
        network: In eval mode.
        card: How images are read and shown to it.
        sha256: Of its weights.
        hashes: Of cases that it has seen; None where that is not known.
    """

    network: nn.Module
    card: ModelCard
    sha256: str
    hashes: frozenset[str] | None

    def vectors(self, cases: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
        """Return (N, D) features of cases, NaN where one failed, and N reasons."""
        return vectors_of(pooled_features(self.network), self.card, cases)


def open_source(encoder: Path) -> Source:
    """Open an encoder, a network of timm, or a model folder whose fine-tuned features are taken.

    Raises:
        UserError: It is none of these.
    """
    if (encoder / "model.json").is_file():
        network, card = load_model(encoder, units=True)
        return Source(network.eval(), card, file_sha256(encoder / card.weights_file), _seen(encoder))
    start, maker = find_start(encoder), FeatureMaker(encoder, Features())
    own = replace(maker.card, labels=("features",))
    if isinstance(start, NetworkStart):
        own = replace(own, network=start.network, settings=start.settings)
    built: Any = build_model(own)
    if isinstance(start, NetworkStart):
        load_network(built.encoder, start.weights)
    else:
        load_encoder(built.encoder, encoder)
    return Source(built.eval().to(best_device()), own, maker.sha256, read_hashes(encoder / TRAINED_ON))


def _seen(model: Path) -> frozenset[str] | None:
    """Return hashes of what a model has seen, with and without labels; None where the folder does not say."""
    found = [read_hashes(model / name) for name in (TRAINED_ON, PRETRAINED_ON)]
    return None if None in found else frozenset().union(*found)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ViewParts:
    """A network of several views around an aggregator (`run.Parts`).

    Attributes:
        source: What sees each image.
        unit: Whose images are put together.
    """

    source: Source
    unit: str

    def card(self, recipe: Mil, manifest: Manifest, bags: Any) -> MultiViewCard:
        """Return the card of the model to come."""
        hidden, attention, _ = settings(recipe)
        own = {each.name: getattr(self.source.card, each.name) for each in fields(ModelCard)}
        new = {
            "thresholds": {}, "calibration": {}, "encoder": {}, "merge": {}, "compression": {}, "parameters": {},
            "contexts": {}, "head_norm": "none",
            "recipe": plain(recipe), "versions": versions(),
            "data": {"fingerprint": manifest.fingerprint(), "cases": manifest.table["split"].value_counts().to_dict()},
            "aggregation": {"unit": self.unit, "rule": "learned"},
        }  # fmt: skip
        return MultiViewCard(
            **own | answers(recipe, manifest) | new, aggregator=recipe.aggregator, hidden=hidden,
            attention=attention or None, score=recipe.score, standardise=recipe.standardise, width=bags.width,
            source=self.source.card.to_dict() | {"sha256": self.source.sha256},
        )  # fmt: skip

    def seen(self) -> frozenset[str] | None:
        """Return hashes of what the encoder has seen."""
        return self.source.hashes

    def save(self, folder: Path, model: Aggregator, card: MultiViewCard) -> None:
        """Write encoder and aggregator as one network."""
        card.save(folder, MultiView(self.source.network, model))

    def load(self, folder: Path) -> tuple[Aggregator, MultiViewCard]:
        """Read the aggregator again."""
        network, card = load_multi_view(folder)
        return network.aggregator, card
