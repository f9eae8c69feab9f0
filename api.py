"""ClinViT for Python: a ViT by its size, and folders that the command has written, as objects.

import clinvit

model = clinvit.load("runs/ft/model")
table = model.predict("new-cases/")  # a pandas table, one row per file
table = model.predict("manifest.csv", split="test")
table = model.predict([array, image, tensor])  # arrays, PIL images and tensors
vectors = model.features(["a.png", "b.dcm"])  # (2, D), NaN where a file failed
maps = model.explain("a.png")  # where it looked, per label
vit = clinvit.vit("small", weights="runs/mae/encoder")
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike
    from PIL.Image import Image
    from torch import Tensor, nn

    from .backbone.card import EncoderCard
    from .backbone.vit import ViT
    from .eval.units import Rule
    from .explain.maps import Explained
    from .finetune.model import ModelCard
    from .finetune.predict import Values
    from .finetune.scored import Predictor
    from .mil.model import MilCard

    Images = ArrayLike | Image | Tensor | Sequence[ArrayLike | Image | Tensor]

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
MOST_SHOWN = 12  # labels in a `repr`


class Features(NamedTuple):
    """Vectors of cases.

    Attributes:
        files: The N files, in the order asked for; of images in memory `array-0`, `array-1`, ...
        values: (N, D) float32; NaN where a case failed.
        reasons: N texts, empty where a case went well.
    """

    files: list[Path]
    values: np.ndarray
    reasons: list[str]


class _Loaded:
    """What a folder holds, as an object that shows what it is."""

    def facts(self) -> dict[str, str]:
        """Return what it is, in words."""
        raise NotImplementedError

    def __repr__(self) -> str:
        lines = [f"  {name}: {value}" for name, value in self.facts().items()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])

    def __dir__(self) -> list[str]:
        return sorted(name for name in super().__dir__() if not name.startswith("_"))


class Classifier(_Loaded):
    """A model folder of images or clips (`clinvit finetune`); see `load`.

    Attributes:
        network: The PyTorch module, in eval mode.
        labels: Names of the scores.
        card: All that is known of the model: what 1 means, thresholds, calibration, recipe, data.
    """

    def __init__(self, folder: str | os.PathLike[str], network: "nn.Module | None" = None):
        from .finetune.out_of_distribution import read_limit
        from .mil.cards import load_predicting

        self.network: nn.Module
        self.card: ModelCard
        self.network, self.card = load_predicting(folder, network)
        self.labels: tuple[str, ...] = self.card.labels
        self._limit = read_limit(folder, self.card, self.network)

    def facts(self) -> dict[str, str]:
        """Return network, input, labels and thresholds in words."""
        return {
            "network": self.card.network_words(),
            "input": self.card.input_words(),
            "labels": _listed(self.labels),
            "thresholds": _thresholds(self.card),
        }

    def predict(
        self, inputs: "Paths | Images", *, split: str | None = None, batch: int = 32, workers: int = 1,
        progress: bool = False, unit: str | None = None, unit_rule: "Rule" = None,
    ) -> "pd.DataFrame":  # fmt: skip
        """Return scores of cases, after the model's calibration.

        Args:
            inputs: A file, a folder (searched below), a glob, a manifest CSV, or several files, folders and globs; or
                of a model of images an array, (H, W) or (H, W, 3), uint8, uint16 or floats in 0..1, a PIL image, a
                tensor, also with channels first, or several of these.
            split: Only the cases of this split of a manifest.
            batch: Cases per batch.
            workers: Reading processes, at least one; images in memory are read here.
            progress: Whether to show a bar.
            unit: `study`, `patient` or `case`: a row for each of these; None as the model was trained.
            unit_rule: How the scores of its images become its own: `max`, `mean`, `noisy-or`, or one by label.

        Returns:
            A row per case: `id, path, patient, split, status, reason`, per label `y_<label>` (1, 0 or NaN, where a
            manifest says), `p_<label>` (NaN where the case failed) and `pred_<label>` where the model has a threshold.
            A model of numbers, grades or times has its own columns (`datasets.manifest.targets`).
            Names are those of the files, and patients those of DICOM headers, or else the file: nothing is hashed here.
            Of DICOM also the `view`, and where there is something to warn of, `warning`. `attrs["left_out"]` counts
            what else is in folders, by reason. The ids of images in memory are `array-0`, ...

        Raises:
            DataError: A folder or glob without a file, a wrong manifest, or no case of the split. A file or an array
                that cannot be read is a row.
            UserError: Images in memory for a model of clips, or an unknown unit or rule.
        """
        from .finetune.pipeline import predicted
        from .finetune.predict import model_predictor
        from .mil.multi_view import MultiViewCard, MultiViewPredictor
        from .stages.given import given_cases
        from .stages.requested import marked
        from .stages.units import Asked, image_card, units_table

        units = Asked(unit, unit_rule).units(self.card)
        cases, truth = given_cases(inputs, self.card.asked, self.card.holds, split)
        card = self.card if units is None else image_card(self.card)
        predictor: Predictor
        if isinstance(card, MultiViewCard):
            predictor = MultiViewPredictor(self.network, card, batch, workers)
        else:
            predictor = model_predictor(self.network, card, batch, workers, limit=self._limit)
        table = predicted(cases, truth, predictor, progress)
        table = marked(table, cases)
        if units is not None:
            return units_table(table, cases, units, self.card)
        table.insert(1, "path", cases["path"])
        return table

    def features(self, inputs: "Paths | Images", *, batch: int = 32, workers: int = 1) -> Features:
        """Return what the last layer sees of cases: pooled tokens of a ViT, pooled features of a timm network.

        Args:
            inputs: As of `predict`.
            batch: Cases per batch.
            workers: Reading processes, at least one.

        Raises:
            UserError: A network that has no such features.
        """
        from .finetune.predict import pooled_features

        return _features(self.network, self.card, pooled_features(self.network), inputs, batch, workers)

    def explain(
        self, paths: Paths, *, labels: Sequence[str] | None = None, method: str = "gradient", batch: int = 8,
        workers: int = 0,
    ) -> "list[Explained]":  # fmt: skip
        """Return where the model looks in files of images.

        Args:
            paths: As of `predict`.
            labels: K labels or targets to explain; None for all.
            method: `gradient`, a map per label (gradient-weighted attention of a ViT, Grad-CAM of a timm network), or
                `attention` (rollout), the same map for each.
            batch: Images whose gradients are held at once.
            workers: Reading processes.

        Returns:
            Per file its `maps` (K, gh, gw), what part of the image they cover (`extent_px`), the image's size, and the
            `reason` where there are none.

        Raises:
            UserError: An unknown label or method, or a model of clips or of several scales.
        """
        from .explain.maps import explain_files
        from .stages.given import as_texts
        from .stages.requested import requested_cases

        if self.card.unit != "image" or len(self.card.scales) > 1:
            raise UserError("maps are of models that see images at one scale.")
        wanted = self.labels if labels is None else tuple(labels)
        if unknown := [label for label in wanted if label not in self.labels]:
            raise UserError(f"no label {unknown[0]!r} in the model: {', '.join(self.labels)}.")
        cases, _ = requested_cases(as_texts(paths), self.card.asked, self.card.holds)
        targets = np.tile([self.labels.index(label) for label in wanted], (len(cases), 1))
        files = [Path(path) for path in cases["path"]]
        return list(explain_files(self.network, self.card, files, targets, method, batch, workers))


class Encoder(_Loaded):
    """An encoder folder (`clinvit pretrain`) or a checkpoint of a ViT; see `load`.

    Attributes:
        path: Where it lies.
        vit: The network, in eval mode.
        card: Architecture, normalisation, method, recipe and data.
        report: What became of the tensors of the file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        from .backbone.encoder import open_reported
        from .finetune.model import best_device

        self.path = Path(path)
        self.card: EncoderCard
        self.vit, self.card, self.report = open_reported(path)
        self.vit.to(best_device())

    def facts(self) -> dict[str, str]:
        """Return network, input and method in words."""
        arch = self.card.arch
        return {
            "network": f"ViT, width {arch.width}, depth {arch.depth}, patch {arch.patch_size}",
            "input": self.card.input_words(),
            "method": self.card.method,
        }

    def features(self, inputs: "Paths | Images", *, pool: str = "mean", batch: int = 32, workers: int = 1) -> Features:
        """Return pooled tokens of images or clips.

        Args:
            inputs: A file, a folder (searched below), a glob, or several of these; or images in memory, as of
                `Classifier.predict`.
            pool: `mean` of the patch tokens, or the `class` token.
            batch: Cases per batch.
            workers: Reading processes, at least one.

        Raises:
            UserError: Another pool, or no class token.
        """
        from .finetune.classifier import pooled
        from .finetune.model import ModelCard
        from .finetune.recipe import View

        if pool not in ("mean", "class") or (pool == "class" and not self.card.arch.class_token):
            raise UserError(f"pool {pool!r}: `mean`, or of an encoder with a class token `class`.")
        own, side = self.card, self.card.arch.image_size[0]
        card = ModelCard(
            labels=(), meaning={}, exclusive=False, mode="linear", network="vit", pool=pool, arch=own.arch,
            mean=own.mean, std=own.std, view=View(resize_px=None), cache_px=2 * side,
        )  # fmt: skip
        return _features(self.vit, card, lambda pixels: pooled(self.vit(pixels), pool), inputs, batch, workers)


class Network(_Loaded):
    """A frozen network of timm that is no ViT of ours (Swin, ConvNeXt, ResNet, ...); see `load`.

    Attributes:
        path: Where its weights lie.
        network: The PyTorch module, in eval mode; gives (B, D) vectors.
        card: How images are read and normalised.
    """

    def __init__(self, path: str | os.PathLike[str]):
        from .finetune.features import FeatureMaker
        from .finetune.features_recipe import Features as Recipe

        self.path = Path(path)
        self._maker = FeatureMaker(self.path, Recipe())
        self.network, self.card = self._maker.network, self._maker.card

    def facts(self) -> dict[str, str]:
        """Return network, input and width in words."""
        return {
            "network": self._maker.name,
            "input": self.card.input_words(),
            "features": f"{self._maker.width} values",
        }

    def features(self, inputs: "Paths | Images", *, batch: int = 32, workers: int = 1) -> Features:
        """Return what its own last layer would see of images; arguments as of `Encoder.features`."""
        return _features(self.network, self.card, self._maker.values, inputs, batch, workers)


class Aggregator(_Loaded):
    """A model folder of bags (`clinvit finetune slides`); see `load`.

    Attributes:
        network: The PyTorch module, in eval mode.
        labels: Names of the scores.
        card: All that is known of the model: what its features are, what 1 means, thresholds, calibration.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        from .finetune.out_of_distribution import stored_limit
        from .mil.model import load_mil

        self.card: MilCard
        self._folder = folder
        self.network, self.card = load_mil(folder, units=True)
        self.labels: tuple[str, ...] = self.card.labels
        self._limit = stored_limit(folder, self.card, self.card.width)

    def facts(self) -> dict[str, str]:
        """Return network, input, labels and thresholds in words."""
        return {
            "network": self.card.network_words(),
            "input": f"features of {self.card.features.get('encoder', 'an unknown encoder')}",
            "labels": _listed(self.labels),
            "thresholds": _thresholds(self.card),
        }

    def predict(self, paths: Paths) -> "pd.DataFrame":
        """Return scores of bags, after the model's calibration.

        Args:
            paths: Feature files (`<slide>.h5`, of `clinvit extract`, CLAM or TRIDENT), or folders of them.

        Returns:
            A row per bag: `id, path, patient, split, status, reason, y_<label>, p_<label>` and, where the model has a
            threshold, `pred_<label>`.

        Raises:
            UserError: A model of patients or cases: which slides are whose, files of features do not say.
        """
        import pandas as pd

        from .datasets.manifest.tables import truth_width
        from .finetune.model import refuse_units
        from .finetune.pipeline import predicted
        from .mil.predict import BagPredictor, predict_feature_files
        from .stages.given import as_texts
        from .stages.requested_files import expand

        refuse_units(self._folder, self.card)
        files = expand(as_texts(paths), "features").files()
        names = [file.stem for file in files]
        cases = pd.DataFrame({"id": names, "path": [str(file) for file in files], "patient": names, "split": "new"})
        predictor = BagPredictor(
            self.card, lambda _: predict_feature_files(self.network, self.card, files, self._limit)
        )
        table = predicted(cases, np.full((len(files), truth_width(self.card.asked)), np.nan), predictor, progress=False)
        table.insert(1, "path", cases["path"])
        return table


def load(
    folder: str | os.PathLike[str], *, network: "nn.Module | None" = None
) -> Classifier | Encoder | Network | Aggregator:  # fmt: skip
    """Return what is in a folder that the command has written, or in a checkpoint.

    Args:
        folder: A model folder (`clinvit finetune`), an encoder folder (`clinvit pretrain`), a run folder with either,
            a checkpoint (MAE, DINO, VideoMAE, any network of timm, ...), a folder of a hub, or the name of a public
            encoder whose weights are on this machine (`clinvit weights list`).
        network: Of a model that was trained with a module of one's own: that module, built as in training.

    Raises:
        UserError: It is none of these, or it is damaged. No code in it is ever run.
    """
    from .backbone.public import encoder_place
    from .mil.cards import load_any_card

    path = encoder_place(folder)
    if path.is_file() or ((path / "config.json").is_file() and not (path / "model.json").is_file()):
        return _encoder(path)
    for kind in ("model", "encoder"):
        path = path / kind if (path / kind).is_dir() else path
    if (path / "encoder.json").is_file():
        return Encoder(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder or file.")
    return Aggregator(path) if load_any_card(path).kind == "mil" else Classifier(path, network)


def _encoder(path: Path) -> Encoder | Network:
    from .finetune.starts import NetworkStart, find_start

    return Network(path) if isinstance(find_start(path), NetworkStart) else Encoder(path)


def vit(size: str = "small", *, weights: str | os.PathLike[str] | None = None, **changes: Any) -> "ViT":
    """Return a Vision Transformer.

    Args:
        size: `tiny` to `giant` (`backbone.sizes`).
        weights: Encoder folder or checkpoint to start from, fitted to the input size and the channels; random without.
        changes: Of the architecture: `image_size`, `channels`, `patch_size`, `frames`, `tubelet`, `class_token`,
            `positions`, ... (`backbone.sizes.Architecture`).

    Raises:
        UserError: The size is unknown, or the weights are of another width or depth.
    """
    from .backbone.encoder import load_encoder
    from .backbone.sizes import architecture
    from .backbone.vit import ViT

    network = ViT(architecture(size, **changes))
    if weights is not None:
        load_encoder(network, weights)
    return network.eval()


def _features(
    network: "nn.Module", card: "ModelCard", values_of: "Values", inputs: "Paths | Images", batch: int, workers: int
) -> Features:
    import torch

    from .finetune.model import input_shape
    from .finetune.pipeline import apart, collected
    from .finetune.predict import PixelPredictor
    from .stages.given import given_cases

    cases, _ = given_cases(inputs, card.asked, card.holds)
    device = next(network.parameters()).device
    with torch.inference_mode():
        width = values_of(torch.zeros(1, *input_shape(card), device=device)).shape[1]
        predictor = PixelPredictor(card, values_of, device, batch, workers, width)
        values, reasons = collected(predictor.scores(cases), len(cases), width)
    reasons, _ = apart(values, reasons)
    named = cases["id" if "image" in cases else "path"]
    return Features([Path(name) for name in named], values.astype(np.float32), reasons)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _thresholds(card: "ModelCard | MilCard") -> str:
    found = {label: (card.thresholds.get(label) or {}).get("value") for label in card.labels}
    return _listed([f"{label} {cut:.3g}" for label, cut in found.items() if cut is not None]) or "none"
