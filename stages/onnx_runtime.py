"""Graphs run by ONNX Runtime on the CPU, without torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..core.pixels import normalised
from ..core.platform import usable_cores
from ..finetune.array_predictor import ArrayPredictor
from ..finetune.feature_limit import Limit, Watched
from ..finetune.scored import Predictor, score_width


def onnx_session(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return `run(input) -> outputs` of an ONNX file, on the cores that this process may use.

    Its threads sleep while they wait: on a machine with other work, those that spin keep each other waiting.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors: a graph without a batch of fixed size warns at every load
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})


def graph_predictor(graph: Path, card: Any, batch: int = 32, workers: int = 1, limit: Limit | None = None) -> Predictor:
    """Return the predictor of an ONNX file of a model of images or clips.

    Args:
        graph: The file.
        card: Of the model: `ModelCard` or `Exported`.
        batch: Cases per batch.
        workers: Reading processes.
        limit: Beyond which a case is flagged as out of distribution; its graph gives features too. None flags none.
    """
    run = onnx_session(graph)
    if limit is None:
        return ArrayPredictor(card, lambda images: run(normalised(images, card.mean, card.std))[0], batch, workers)

    def values(images: np.ndarray) -> np.ndarray:
        return np.concatenate(run(normalised(images, card.mean, card.std))[:2], axis=1)

    return Watched(ArrayPredictor(card, values, batch, workers, score_width(card) + len(limit.mean)), limit)
