"""Features of the cases of a manifest, by an encoder of any kind or by a model, for the stages that compare cases."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..core.errors import masked
from ..datasets.manifest.tables import Manifest

if TYPE_CHECKING:
    from torch import nn

    from ..finetune.model import ModelCard
    from ..finetune.predict import PixelPredictor, Values

BATCH = 32


class Maker(Protocol):
    """What makes one vector of a case."""

    card: "ModelCard"
    network: "nn.Module"
    values: "Values"
    width: int
    sha256: str

    def predictor(self, batch: int, workers: int) -> "PixelPredictor":
        """Return what gives the vectors of cases, batch after batch."""
        ...


class ModelFeatures:
    """The vectors that a model's last layer sees.

    Args:
        folder: Model folder.

    Attributes:
        card: The model's.
        network: The model, in eval mode.
        values: From normalised pixels to vectors.
        width: Values of a vector.
        sha256: Of the weights.
    """

    def __init__(self, folder: Path):
        import torch

        from ..core.files import file_sha256
        from ..finetune.model import best_device, input_shape, load_model
        from ..finetune.predict import pooled_features

        network, self.card = load_model(folder)
        self.network = network.eval().requires_grad_(False).to(best_device())
        self.values = pooled_features(self.network)
        self.sha256 = file_sha256(folder / self.card.weights_file)
        with torch.inference_mode():
            self.width = self.values(torch.zeros(1, *input_shape(self.card), device=best_device())).shape[1]

    def predictor(self, batch: int, workers: int) -> "PixelPredictor":
        """Return what gives the vectors of cases, batch after batch."""
        from ..finetune.model import best_device
        from ..finetune.predict import PixelPredictor

        return PixelPredictor(self.card, self.values, best_device(), batch, workers, self.width)


def is_model(source: str | Path) -> bool:
    """Return whether it is a model folder, not an encoder's."""
    return (Path(source) / "model.json").is_file()


def feature_maker(source: str | Path) -> Maker:
    """Open a model folder, or an encoder's folder, checkpoint or public name."""
    if is_model(source):
        return ModelFeatures(Path(source))
    from ..backbone.public import encoder_place
    from ..finetune.features import FeatureMaker
    from ..finetune.features_recipe import Features

    return FeatureMaker(encoder_place(source), Features())


def features_of(maker: Maker, manifest: Manifest) -> tuple[np.ndarray, list[str]]:
    """Return (N, D) features of the cases of a manifest, NaN where one failed, and N reasons, empty where none did."""
    import torch

    from ..datasets.loading.loaders import reading_workers
    from ..finetune.pipeline import apart, collected, manifest_cases, shown

    cases, _ = manifest_cases(manifest, ())
    with torch.inference_mode():
        found = maker.predictor(BATCH, reading_workers(-1, True)).scores(cases)
        values, reasons = collected(shown(found, len(cases), maker.card.unit), len(cases), maker.width)
    reasons, _ = apart(values, reasons)
    return values, [masked(*each) for each in zip(reasons, cases["path"], cases["shown"], strict=True)]
