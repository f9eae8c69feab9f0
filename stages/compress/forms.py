"""What a network is shipped as: a graph in fp32 or int8, or PyTorch's weights; how large it is, and how fast."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...compress.quantise import write_dynamic
from ...core.files import own_folder, written_aside
from ...finetune.model import ModelCard, input_shape, predict_batch
from ..graphs import image_graph, write_onnx

ONNX, TORCH = TARGETS = ("onnx", "torch")
FP32, INT8 = "fp32", "int8"
GRAPHS = {FP32: "model.onnx", INT8: "model.int8.onnx"}
BATCH, ROUNDS = 8, 5

Scores = Callable[[np.ndarray], np.ndarray]  # of (B, C, [T,] H, W) normalised input, (B, L) probabilities


@dataclass(frozen=True)
class Measured:
    """Size and speed of one form of a network.

    Attributes:
        bytes: Of its file.
        rate: Cases a second on one thread.
    """

    bytes: int
    rate: float


def write_graphs(
    network: nn.Module, card: ModelCard, folder: Path, int8: bool, watched: bool = False
) -> dict[str, Path]:
    """Write a network as ONNX, in fp32 and, if asked, in int8, each in its own folder; return the files by form.

    Args:
        network: In eval mode, on the CPU.
        card: Of the model.
        folder: To write in.
        int8: Whether in int8 too.
        watched: Whether the graphs give features beside the scores.
    """
    files = {FP32: own_folder(folder / FP32) / GRAPHS[FP32]}
    with written_aside(files[FP32]) as aside:
        write_onnx(image_graph(network, card, watched), aside)
    if int8:
        files[INT8] = own_folder(folder / INT8) / GRAPHS[INT8]
        quantise(files[FP32], files[INT8])
    return files


def quantise(exact: Path, file: Path) -> None:
    """Write the int8 form of a graph: the one place that says how."""
    with written_aside(file) as aside:
        write_dynamic(exact, aside)


def graph_scores(file: Path) -> Scores:
    """Return what gives the probabilities of a graph on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def network_scores(network: nn.Module, card: ModelCard) -> Scores:
    """Return what gives the probabilities of a network in PyTorch."""
    device = next(network.parameters()).device
    return lambda x: predict_batch(network, torch.from_numpy(x).to(device), card).cpu().numpy()


def rates(scorers: Mapping[str, Scores], card: ModelCard, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the cases a second of each on one thread: medians, all in turn, after a round that does not count.

    The processor's seconds count, not the clock's: what else the machine does must not decide which model is kept.

    Args:
        scorers: By name.
        card: Says the input.
        rounds: That count.
    """
    x: Tensor = torch.randn(BATCH, *input_shape(card), generator=torch.Generator().manual_seed(0))
    batch, times = x.numpy(), {name: [] for name in scorers}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for counts in [False] + [True] * rounds:
            for name, scores in scorers.items():
                start = time.thread_time()
                scores(batch)
                if counts:
                    times[name].append(max(time.thread_time() - start, 1e-9))
    finally:
        torch.set_num_threads(threads)
    return {name: BATCH / statistics.median(each) for name, each in times.items()}


def weights_bytes(network: nn.Module) -> int:
    """Return how many bytes the weights of a network take in a file."""
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())
