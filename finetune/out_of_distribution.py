"""Cases unlike those of training: how far their features are from the training cases', with a limit from validation.

The distance is Mahalanobis' of what the last layer sees (Lee et al. 2018, NeurIPS 31), from one normal distribution of
all training cases, for labels that do not exclude each other make no classes. Its covariance is shrunk (Ledoit & Wolf
2004, J. Multivar. Anal. 88:365). The limit is conformal, by patient (Vovk et al. 2005, Algorithmic Learning in a Random
World, chapter 4): of patients like those of validation it flags no more than the stated share. A model keeps mean,
covariance and limit beside its weights, and no features of a case.
"""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from ..core.errors import UserError
from ..core.files import file_sha256, written_aside
from .classifier import Classifier, TimmClassifier
from .context_head import ContextHead
from .feature_limit import RECORD as RECORD
from .feature_limit import Limit, conformal
from .feature_limit import Watched as Watched
from .feature_limit import why_none as why_none
from .model import ModelCard, safetensors_state

FILE = "out_of_distribution.safetensors"
MOST_CASES = 5000  # of training, drawn at random: more change the covariance little


def fit_limit(training: np.ndarray, validation: np.ndarray, patients: Sequence[str]) -> Limit | str:
    """Return the limit, or why there is none.

    Args:
        training: (N, D) features.
        validation: (M, D) features.
        patients: M names.
    """
    from sklearn.covariance import LedoitWolf

    training = training[np.isfinite(training).all(axis=1)]
    known = np.isfinite(validation).all(axis=1)
    validation, patients = validation[known], np.asarray(patients, dtype=object)[known].tolist()
    if few := why_none(len(training), len(set(patients))):
        return few
    covariance = LedoitWolf().fit(training.astype(np.float64)).covariance_
    values, vectors = np.linalg.eigh(covariance)
    if values.max() <= 0:
        return "the features of all training cases are equal"
    values = np.maximum(values, values.max() * 1e-9)
    mean = training.mean(axis=0, dtype=np.float64)
    open_ended = Limit(mean, vectors / np.sqrt(values), math.inf, 1.0, len(training), 0)
    return conformal(open_ended, open_ended.distances(validation), patients)


def write_limit(folder: Path, limit: Limit, weights: Path) -> None:
    """Write a limit into a model folder, for these weights."""
    state = {
        "mean": torch.from_numpy(np.ascontiguousarray(limit.mean)),
        "whiten": torch.from_numpy(np.ascontiguousarray(limit.whiten)),
        "numbers": torch.tensor([limit.limit, limit.rate, limit.training, limit.patients], dtype=torch.float64),
        "weights": torch.tensor(list(bytes.fromhex(file_sha256(weights))), dtype=torch.uint8),
    }
    with written_aside(folder / FILE) as aside:
        safetensors.torch.save_file(state, aside, metadata={"format": "pt"})


def read_limit(folder: str | os.PathLike[str], card: ModelCard, network: nn.Module) -> Limit | None:
    """Return the limit of a model folder; None where it has none.

    Raises:
        UserError: It is damaged, or of other weights.
    """
    layer = last_layer(network)
    return stored_limit(folder, card, None if layer is None else layer.in_features)


def stored_limit(folder: str | os.PathLike[str], card: Any, width: int | None) -> Limit | None:
    """Return the limit of a model folder of any kind; None where it has none.

    Args:
        folder: The model folder.
        card: Its card.
        width: Features that the limit is on; None for a network that has none.

    Raises:
        UserError: It is damaged, or of other weights.
    """
    folder = Path(folder)
    path = folder / FILE
    if not path.is_file():
        if RECORD in card.data and "rate" in card.data[RECORD]:
            raise UserError(f"{path}: missing, so no case could be flagged as the card says. Copy the folder again.")
        return None
    state = safetensors_state(path)
    remedy = "Copy the folder again."
    if state.keys() != {"mean", "whiten", "numbers", "weights"} or state["numbers"].shape != (4,):
        raise UserError(f"{path}: not what `clinvit finetune` writes. {remedy}")
    if bytes(state["weights"].tolist()) != bytes.fromhex(file_sha256(folder / card.weights_file)):
        raise UserError(f"{path}: made for other weights than {card.weights_file} beside it. {remedy}")
    fits = state["mean"].shape == (width,) and state["whiten"].shape == (width, width)
    if not fits or not all(state[name].isfinite().all() for name in ("mean", "whiten", "numbers")):
        raise UserError(f"{path}: does not fit the model, or is damaged. {remedy}")
    limit, rate, training, patients = state["numbers"].tolist()
    return Limit(state["mean"].numpy(), state["whiten"].numpy(), limit, rate, int(training), int(patients))


def last_layer(network: nn.Module) -> nn.Linear | ContextHead | None:
    """Return the layer that makes the logits; None where the network has none, or not of one vector per case."""
    found: Any = None
    if isinstance(network, Classifier):
        found = network.head
    elif isinstance(network, TimmClassifier):
        found = network.network.get_classifier()
    return found if isinstance(found, nn.Linear | ContextHead) else None


def with_features(scores: Callable[[Tensor], Tensor], layer: nn.Linear | ContextHead) -> Callable[[Tensor], Tensor]:
    """Return what gives (B, L + D) scores and what the last layer sees, of an image and its mirror image the mean."""

    def values(pixels: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().float()))
        try:
            found = scores(pixels).float()
        finally:
            handle.remove()
        return torch.cat([found, torch.stack(seen).mean(dim=0)], dim=1)

    return values
