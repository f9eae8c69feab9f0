"""Features of cases by an encoder or a model: of the Python API and of `curate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..core.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from ..backbone.card import EncoderCard
    from ..finetune.model import ModelCard
    from ..finetune.predict import Values


def features_of(path: Path, cases: pd.DataFrame, batch: int = 32, workers: int = 1) -> tuple[np.ndarray, list[str]]:
    """Return what an encoder, or the encoder of a model, makes of cases, as of `values_of_cases`.

    Args:
        path: Encoder folder or checkpoint (the mean of its patch tokens is taken), model folder (what its last layer
            sees), or a run folder with either.
        cases: N rows with `path`.
        batch: Cases per batch.
        workers: Reading processes.
    """
    from ..backbone.encoder import open_reported
    from ..finetune.classifier import pooled
    from ..finetune.model import best_device, load_model
    from ..finetune.predict import pooled_features

    if not path.exists():
        raise UserError(f"{path}: no such folder or file: give an encoder (`clinvit pretrain` makes one).")
    for kind in ("model", "encoder"):
        path = path / kind if (path / kind).is_dir() else path
    if (path / "model.json").is_file():
        network, card = load_model(path)
        return values_of_cases(network, card, pooled_features(network), cases, batch, workers, True)
    vit, own, _ = open_reported(path)
    vit.to(best_device())
    return values_of_cases(
        vit, view_card(own, "mean"), lambda pixels: pooled(vit(pixels), "mean"), cases, batch, workers
    )


def view_card(own: "EncoderCard", pool: str) -> "ModelCard":
    """Return how an encoder is shown its cases: whole, at its own input size."""
    from ..finetune.model import ModelCard
    from ..finetune.recipe import View

    return ModelCard(
        labels=(), meaning={}, exclusive=False, mode="linear", network="vit", pool=pool, arch=own.arch, mean=own.mean,
        std=own.std, view=View(resize_px=None), cache_px=2 * own.arch.image_size[0],
    )  # fmt: skip


def values_of_cases(
    network: "nn.Module", card: "ModelCard", values_of: "Values", cases: pd.DataFrame, batch: int, workers: int,
    progress: bool = False,
) -> tuple[np.ndarray, list[str]]:  # fmt: skip
    """Return (N, D) float32, NaN where a case failed, and N reasons, empty where it went well.

    Args:
        network: In eval mode; on its device the values are made.
        card: How cases are read and shown.
        values_of: From normalised pixels to (B, D).
        cases: N rows with `path`, or with `id` and `image`.
        batch: Cases per batch.
        workers: Reading processes.
        progress: Whether to show a bar.
    """
    import torch

    from ..finetune.model import input_shape
    from ..finetune.pipeline import apart, collected, shown
    from ..finetune.predict import PixelPredictor

    device = next(network.parameters()).device
    with torch.inference_mode():
        width = values_of(torch.zeros(1, *input_shape(card), device=device)).shape[1]
        predictor = PixelPredictor(card, values_of, device, batch, workers, width)
        found = predictor.scores(cases)
        values, reasons = collected(shown(found, len(cases), card.unit) if progress else found, len(cases), width)
    return values.astype(np.float32), apart(values, reasons)[0]
