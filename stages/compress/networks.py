"""The networks of a compression: measured before they are trained, trained where they are tried, and their scores."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ...backbone.encoder import EncoderCard, save_encoder
from ...compress.student import Continued, student_recipe
from ...compress.variants import Variant, as_used, start_of, untrained
from ...datasets.manifest.seen import PRETRAINED_ON, TRAINED_ON, read_hashes, save_hashes
from ...datasets.manifest.tables import Predictions, read_predictions, write_predictions
from ...finetune.feature_limit import Limit
from ...finetune.model import ModelCard, load_model
from ...finetune.out_of_distribution import read_limit
from ...finetune.pipeline import manifest_cases, predicted
from ...finetune.run import finetune
from ...finetune.teachers import open_teachers
from ..data import cache_place
from ..finetune import after_training
from ..onnx_runtime import graph_predictor
from ..quantised import own_limit
from .forms import FP32, INT8, TORCH, graph_scores, network_scores, rates, weights_bytes, write_graphs
from .opened import Opened
from .result import Try


@dataclass
class Networks:
    """What has been made of a model so far.

    Attributes:
        opened: The model.
        folder: Where the tries lie; a training that is there goes on.
        target: `onnx` or `torch`.
        int8: Whether graphs are written in int8 too.
        epochs: Of each training.
        cache: As of `cache_place`.
    """

    opened: Opened
    folder: Path
    target: str
    int8: bool
    epochs: int
    cache: Path | None
    _models: dict[str, Path] = field(default_factory=dict)
    _graphs: dict[str, dict[str, Path]] = field(default_factory=dict)
    _tables: dict[str, Predictions] = field(default_factory=dict)
    _limits: dict[str, Limit | str] = field(default_factory=dict)

    def measured(self, variants: Sequence[Variant]) -> list[dict]:
        """Return `variant, form, bytes, rate, parameters` of every form, from untrained networks."""
        scorers, rows = {}, []
        with tempfile.TemporaryDirectory() as folder:
            for variant in variants:
                network, card = untrained(variant, self.opened.network, self.opened.card)
                parameters = sum(part.numel() for part in network.parameters())
                if self.target == TORCH:
                    found = {FP32: (network_scores(network, card), weights_bytes(network))}
                else:
                    files = write_graphs(network, card, Path(folder) / variant.name, self.int8)
                    found = {form: (graph_scores(file), file.stat().st_size) for form, file in files.items()}
                for form, (scores, size) in found.items():
                    scorers[f"{variant.name}/{form}"] = scores
                    rows.append({"variant": variant.name, "form": form, "bytes": size, "parameters": parameters})
            speeds = rates(scorers, self.opened.card)
        return [row | {"rate": speeds[f"{row['variant']}/{row['form']}"]} for row in rows]

    def model(self, variant: Variant) -> Path:
        """Return the model folder of a variant, which is trained where it is not there yet."""
        if not variant.learns:
            return self.opened.model
        if variant.name not in self._models:
            self._models[variant.name] = self._trained(variant)
        return self._models[variant.name]

    def network(self, variant: Variant) -> tuple[nn.Module, ModelCard]:
        """Return the network of a variant as it is used, on the CPU, and its card."""
        if not variant.learns:
            return self.opened.network, self.opened.card
        network, card = as_used(*load_model(self.model(variant)))
        return network.cpu(), card

    def limit(self, variant: Variant) -> Limit | None:
        """Return the limit on what is out of distribution of a variant's own features, where it has one."""
        folder = self.model(variant)
        return read_limit(folder, *reversed(self.network(variant)))

    def form_limit(self, each: Try) -> Limit | str | None:
        """Return the limit of a form, whose predictions are made: in int8 one of its own, or why there is none."""
        return self._limits.get(each.name) or self.limit(each.variant)

    def graph(self, each: Try) -> Path:
        """Return the ONNX file of a form."""
        name = each.variant.name
        if name not in self._graphs:
            network, card = self.network(each.variant)
            watched = self.limit(each.variant) is not None
            self._graphs[name] = write_graphs(network, card, self.folder / name / "graphs", self.int8, watched)
        return self._graphs[name][each.form]

    def predictions(self, each: Try) -> Predictions:
        """Return the predictions of a form on validation and test cases."""
        if each.name not in self._tables:
            self._tables[each.name] = self._predicted(each)
        return self._tables[each.name]

    def rule(self) -> str:
        """Return the rule of the model's own thresholds."""
        rules = [own["how"] for own in self.opened.card.thresholds.values() if own.get("how")]
        return rules[0] if rules else "youden"

    def _predicted(self, each: Try) -> Predictions:
        if self.target == TORCH:
            return read_predictions(self.model(each.variant).parent / "predictions.csv")
        _, card = self.network(each.variant)
        cases, graph = self.opened.manifest.rows("val", "test"), self.graph(each)
        table, limit = self.folder / each.variant.name / f"predictions-{each.form}.csv", self.limit(each.variant)
        if limit is not None and each.form == INT8:
            self._limits[each.name] = own_limit(graph, card, cases, table, limit)
        else:
            predictor = graph_predictor(graph, card, limit=limit)
            write_predictions(table, predicted(*manifest_cases(cases, card.labels), predictor))
        return read_predictions(table)

    def _trained(self, variant: Variant) -> Path:
        """Train a variant, or go on with it; return its model folder."""
        opened, run = self.opened, self.folder / variant.name / "run"
        start, card = start_of(variant, opened.network, opened.card)
        recipe = student_recipe(opened.recipe, variant, card.arch, self.epochs)
        own = None if variant.size else start
        encoder = None if own is None else self._start_folder(self.folder / variant.name / "start", own, card)
        place = cache_place(opened.manifest, self.folder.parent, self.cache)
        model = recipe.model
        teachers = open_teachers([opened.model], card.labels, card.exclusive, model.channels, model.frames)
        teaching = Continued(recipe, teachers, place, own)
        folder = finetune(recipe, opened.manifest, run, place, encoder, teaching=teaching)
        after_training(folder, run, self.rule(), self._calibration())
        return folder

    def _start_folder(self, folder: Path, start: nn.Module, card: ModelCard) -> Path:
        """Write what a training begins with as an encoder folder.

        What it has seen without labels is what the model's encoder had seen; those with labels are known from the
        teacher.
        """
        folder.mkdir(parents=True, exist_ok=True)
        encoder = EncoderCard(card.arch, card.mean, card.std, method="a fine-tuned model", data=card.data)
        save_encoder(folder, start.encoder, encoder)
        save_hashes(folder / TRAINED_ON, read_hashes(self.opened.model / PRETRAINED_ON))
        return folder

    def _calibration(self) -> str | None:
        """Return how the model's own scores are calibrated; None where they are not."""
        methods = {own["method"] for own in self.opened.card.calibration.values()} - {"none"}
        return next(iter(methods), None)
