"""ClinViT for Python: a ViT by its size, and folders that the command has written, as objects.

import clinvit

model = clinvit.load("runs/ft/model")
table = model.predict("new-cases/")  # a pandas table, one row per file
vectors = model.features(["a.png", "b.dcm"])  # (2, D), NaN where a file failed
vit = clinvit.vit("small", weights="runs/mae/encoder")
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from .backbone.vit import ViT

Paths = str | os.PathLike | Sequence[str | os.PathLike]


class Features(NamedTuple):
    """Vectors of files.

    Attributes:
        files: The N files, in the order asked for.
        values: (N, D) float32; NaN where a file failed.
        reasons: N texts, empty where a file went well.
    """

    files: list[Path]
    values: np.ndarray
    reasons: list[str]


class Classifier:
    """A model folder of images or clips (`clinvit finetune`); see `load`.

    Attributes:
        labels: Names of the scores.
        card: All that is known of the model: what 1 means, thresholds, calibration, recipe, data.
    """

    def __init__(self, folder: str | os.PathLike):
        from .finetune.model import load_model

        self._network, self.card = load_model(folder)
        self.labels: tuple[str, ...] = self.card.labels

    def predict(self, paths: Paths, *, batch: int = 32, workers: int = 1, progress: bool = False) -> "pd.DataFrame":
        """Scores of files, after the model's calibration.

        Args:
            paths: A file, a folder (searched below), a glob, a manifest CSV, or several files, folders and globs.
            batch: Files per batch.
            workers: Reading processes, at least one.
            progress: Whether to show a bar.

        Returns:
            A row per file: `id, path, patient, split, status, reason`, per label `y_<label>` (1, 0 or NaN, where a
            manifest says), `p_<label>` (NaN where the file failed) and `pred_<label>` where the model has a threshold.
            Names are those of the files: nothing is hashed here.

        Raises:
            DataError: A folder or glob without a file, or a wrong manifest. A file that cannot be read is a row.
        """
        from .finetune.pipeline import predicted
        from .finetune.predict import model_predictor
        from .stages.requested import requested_cases

        cases, truth = requested_cases(_texts(paths), self.labels, self.card.suffixes())
        predictor = model_predictor(self._network, self.card, batch, workers)
        table = predicted(cases, truth, predictor, progress)
        table.insert(1, "path", cases["path"].tolist())
        return table

    def features(self, paths: Paths, *, batch: int = 32, workers: int = 1) -> Features:
        """What the last layer sees of files: pooled tokens of a ViT, pooled features of a timm network.

        Args:
            paths, batch, workers: As of `predict`.

        Raises:
            UserError: A network that has no such features.
        """
        from .finetune.predict import pooled_features

        return _features(self._network, self.card, pooled_features(self._network), paths, batch, workers)


class Encoder:
    """An encoder folder (`clinvit pretrain`) or a checkpoint of a ViT; see `load`.

    Attributes:
        card: Architecture, normalisation, method, recipe and data.
    """

    def __init__(self, path: str | os.PathLike):
        from .backbone.encoder import open_reported
        from .finetune.model import best_device

        self.vit, self.card, self.report = open_reported(path)
        self.vit.to(best_device())

    def features(self, paths: Paths, *, pool: str = "mean", batch: int = 32, workers: int = 1) -> Features:
        """Pooled tokens of images or clips.

        Args:
            paths: A file, a folder (searched below), a glob, or several of these.
            pool: `mean` of the patch tokens, or the `class` token.
            batch: Files per batch.
            workers: Reading processes, at least one.

        Raises:
            UserError: Another pool, or no class token.
        """
        from .finetune.classifier import pooled
        from .finetune.model import ModelCard
        from .finetune.recipe import View

        if pool not in ("mean", "class") or (pool == "class" and not self.card.arch.class_token):
            raise UserError(f"pool {pool!r}: `mean`, or of an encoder with a class token `class`.")
        arch = self.card.arch
        card = ModelCard(
            (),
            {},
            False,
            "linear",
            "vit",
            pool,
            arch,
            self.card.mean,
            self.card.std,
            View(resize_px=None),
            cache_px=2 * arch.image_size[0],
        )
        return _features(self.vit, card, lambda pixels: pooled(self.vit(pixels), pool), paths, batch, workers)


class Aggregator:
    """A model folder of bags (`clinvit finetune slides`); see `load`.

    Attributes:
        labels: Names of the scores.
        card: All that is known of the model: what its features are, what 1 means, thresholds, calibration.
    """

    def __init__(self, folder: str | os.PathLike):
        from .mil.model import load_mil

        self._network, self.card = load_mil(folder)
        self.labels: tuple[str, ...] = self.card.labels

    def predict(self, paths: Paths) -> "pd.DataFrame":
        """Scores of bags, after the model's calibration.

        Args:
            paths: Feature files (`<slide>.h5`, of `clinvit extract`, CLAM or TRIDENT), or folders of them.

        Returns:
            A row per bag: `id, path, patient, split, status, reason, y_<label>, p_<label>` and, where the model has a
            threshold, `pred_<label>`.
        """
        import numpy as np
        import pandas as pd

        from .finetune.pipeline import predicted
        from .mil.predict import BagPredictor, predict_feature_files
        from .stages.requested import expand

        files = expand(_texts(paths), self.card.suffixes())
        names = [file.stem for file in files]
        cases = pd.DataFrame({"id": names, "path": map(str, files), "patient": names, "split": "new"})
        predictor = BagPredictor(self.card, lambda _: predict_feature_files(self._network, self.card, files))
        unknown = np.full((len(files), len(self.labels)), np.nan)
        table = predicted(cases, unknown, predictor, progress=False)
        table.insert(1, "path", cases["path"])
        return table


def load(folder: str | os.PathLike) -> Classifier | Encoder | Aggregator:
    """What is in a folder that the command has written, or in a checkpoint file of a ViT.

    Args:
        folder: A model folder (`clinvit finetune`), an encoder folder (`clinvit pretrain`), a run folder with either,
            or a checkpoint (MAE, DINO, timm, VideoMAE, ...).

    Raises:
        UserError: It is none of these, or it is damaged. No code in it is ever run.
    """
    from .mil.cards import load_any_card

    path = Path(folder)
    if path.is_file():
        return Encoder(path)
    for kind in ("model", "encoder"):
        path = path / kind if (path / kind).is_dir() else path
    if (path / "encoder.json").is_file():
        return Encoder(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder or file.")
    return (Aggregator if load_any_card(path).kind == "mil" else Classifier)(path)


def vit(size: str = "small", *, weights: str | os.PathLike | None = None, **changes: Any) -> "ViT":
    """A Vision Transformer.

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


def _texts(paths: Paths) -> list[str]:
    return [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else [os.fspath(path) for path in paths]


def _features(network, card, values_of, paths: Paths, batch: int, workers: int) -> Features:
    import torch

    from .finetune.model import input_shape
    from .finetune.pipeline import collected
    from .finetune.predict import PixelPredictor
    from .stages.requested import requested_cases

    cases, _ = requested_cases(_texts(paths), card.labels, card.suffixes())
    device = next(network.parameters()).device
    with torch.inference_mode():
        width = values_of(torch.zeros(1, *input_shape(card), device=device)).shape[1]
        predictor = PixelPredictor(card, values_of, device, batch, workers, width)
        values, reasons = collected(predictor.scores(cases), len(cases), width)
    return Features([Path(path) for path in cases["path"]], values.astype(np.float32), reasons)
