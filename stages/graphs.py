"""Models as graphs that run without ClinViT: ONNX (dynamic batch, dynamic number of tiles) and `torch.export`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..backbone.card import EncoderCard
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..core.extras import require
from ..finetune.classifier import pooled
from ..finetune.model import ModelCard, input_shape, predict_batch
from ..finetune.objectives import objective
from ..finetune.out_of_distribution import last_layer, with_features
from ..finetune.scored import score_width
from ..mil.model import MilCard
from ..mil.score import bag_logits
from .onnx_runtime import onnx_session

OPSET = 18
FEATURES = "features"
TOLERANCE = 1e-4  # between the network and its graph


class Scores(nn.Module):
    """(B, C, [T,] H, W) normalised input to (B, L) probabilities, before any calibration."""

    def __init__(self, network: nn.Module, card: ModelCard):
        super().__init__()
        self.network, self.card = network, card

    def forward(self, pixels: Tensor) -> Tensor:
        return predict_batch.__wrapped__(self.network, pixels, self.card)


class WatchedScores(Scores):
    """(B, C, [T,] H, W) normalised input to (B, L) probabilities and (B, D) features, which the last layer sees."""

    def __init__(self, network: nn.Module, card: ModelCard):
        super().__init__(network, card)
        layer = last_layer(network)
        assert layer is not None, "a network with a limit has a last layer"
        self.values = with_features(super().forward, layer)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        values, labels = self.values(pixels), score_width(self.card)
        return values[:, :labels], values[:, labels:]


class BagScores(nn.Module):
    """(1, N, D) features of one bag to (1, L) probabilities and (1, A, N) attention."""

    def __init__(self, network: nn.Module, card: MilCard):
        super().__init__()
        self.network, self.card = network, card

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        out = self.network(features, None)
        return objective(self.card).activate(bag_logits(out, None, self.card.score)), out.attention


class PooledTokens(nn.Module):
    """(B, C, [T,] H, W) normalised input to (B, D): mean of the patch tokens."""

    def __init__(self, vit: ViT):
        super().__init__()
        self.vit = vit

    def forward(self, pixels: Tensor) -> Tensor:
        return pooled(self.vit(pixels), "mean")


@dataclass(frozen=True)
class Graph:
    """A network ready to be traced.

    Attributes:
        network: In eval mode, on the CPU.
        example: Its input; what is dynamic has a size of 2 or more.
        names: Of the input and the outputs.
        dynamic: Axis of the input to its name.
    """

    network: nn.Module
    example: Tensor
    names: tuple[str, ...]
    dynamic: dict[int, str]

    def inputs(self, seed: int = 0) -> list[Tensor]:
        """Inputs of several sizes to try a graph with."""
        generator, found = torch.Generator().manual_seed(seed), []
        for size in (1, 2, 5):
            shape = [size if axis in self.dynamic else length for axis, length in enumerate(self.example.shape)]
            found.append(torch.randn(shape, generator=generator))
        return found


def image_graph(network: nn.Module, card: ModelCard, watched: bool = False) -> Graph:
    """Of a classifier of images or clips: `pixels` -> `probabilities`, or the `scores` of targets (`card.columns`).

    Args:
        network: In eval mode, on the CPU.
        card: Of the model.
        watched: Give `features` too, which a limit on what is out of distribution is held against.
    """
    example, names = torch.zeros(2, *input_shape(card)), ("pixels", _scores_name(card))
    if watched:
        return Graph(WatchedScores(network, card).eval(), example, (*names, FEATURES), {0: "batch"})
    return Graph(Scores(network, card).eval(), example, names, {0: "batch"})


def _scores_name(card: ModelCard | MilCard) -> str:
    return "scores" if card.targets else "probabilities"


def encoder_graph(vit: ViT, card: EncoderCard) -> Graph:
    """Of an encoder: `pixels` -> `features`."""
    arch = card.arch
    example = torch.zeros(2, arch.channels, *([arch.frames] if arch.frames > 1 else []), *arch.image_size)
    return Graph(PooledTokens(vit).eval(), example, ("pixels", "features"), {0: "batch"})


def bag_graph(network: nn.Module, card: MilCard) -> Graph:
    """Of an aggregator: `features` of one bag of any size -> `probabilities`, `attention`.

    Raises:
        UserError: TransMIL, which folds a bag into a square of a size that depends on it.
    """
    if card.aggregator == "transmil":
        raise UserError("TransMIL lays its instances in a square whose size a graph cannot follow: it is not exported.")
    names = ("features", _scores_name(card), "attention")
    return Graph(BagScores(network, card).eval(), torch.zeros(1, 7, card.width), names, {1: "tiles"})


GRAPHS = {EncoderCard.kind: encoder_graph, ModelCard.kind: image_graph, MilCard.kind: bag_graph}  # by kind of card


def write_onnx(graph: Graph, path: Path) -> float:
    """Write a graph and try it with inputs of several sizes; gives the largest difference of an output.

    Raises:
        UserError: `onnx`, `onnxscript` or `onnxruntime` is missing, or the graph does not give what the network gives.
    """
    require_onnx()
    input_name, *outputs = graph.names
    torch.onnx.export(
        graph.network, (graph.example,), path, input_names=[input_name], output_names=outputs, opset_version=OPSET,
        dynamo=True, dynamic_shapes=({axis: torch.export.Dim(name) for axis, name in graph.dynamic.items()},),
        external_data=False, verbose=False, optimize=True,
    )  # fmt: skip
    return largest_difference(graph, onnx_session(path), path)


def largest_difference(graph: Graph, run, path: Path) -> float:
    """Between the network and `run(input) -> outputs`.

    Raises:
        UserError: It is larger than 1e-4.
    """
    largest = 0.0
    for x in graph.inputs():
        with torch.inference_mode():
            wanted = graph.network(x)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for place, (own, theirs) in enumerate(zip(wanted, run(x.numpy()), strict=True)):
            # Features beside the scores have no scale of their own.
            size = max(1.0, float(own.abs().max())) if place else 1.0
            largest = max(largest, float(np.abs(own.numpy() - theirs).max()) / size)
    if not largest <= TOLERANCE:
        raise UserError(f"{path}: the exported graph differs by {largest:.2g} from the network; it was not kept.")
    return largest


def write_program(graph: Graph, path: Path) -> float:
    """Write a `torch.export` program (.pt2) and try it; gives the largest difference of an output."""
    shapes = ({axis: torch.export.Dim(name) for axis, name in graph.dynamic.items()},)
    # Nothing in it learns: where a frozen encoder turns gradients off, the program would not be read back.
    with torch.no_grad():
        program = torch.export.export(graph.network, (graph.example,), dynamic_shapes=shapes)
    torch.export.save(program, path)
    program = torch.export.load(path).module()

    def run(x: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            out = program(torch.from_numpy(x))
        return [each.numpy() for each in (out if isinstance(out, tuple) else (out,))]

    return largest_difference(graph, run, path)


def require_onnx() -> None:
    """Raise UserError where what ONNX needs is missing."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        require(name, "export", "export to ONNX")
