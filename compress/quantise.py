"""ONNX graphs with int8 matmuls whose ranges are known before, and graphs whose weights alone are in 4 or 8 bits."""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import UserError
from .ranges import Levels, best_channel_levels, best_levels, matmuls, seen_by_layers, weight_levels
from .scales import fold_scales, norm_pairs

_SAME = 1e-4  # largest difference of a logit that moving scales may make, of its own size
BLOCK = 32  # weights of one scale, where weights alone are quantised


@dataclass(frozen=True)
class Calibrated:
    """A network whose activations have ranges.

    Attributes:
        network: A copy with moved scales, which gives what the network gives.
        levels: Of what each linear layer sees, by name.
        folded: Norms whose channels got one scale.
    """

    network: nn.Module
    levels: dict[str, Levels]
    folded: int


def calibrate(network: nn.Module, pixels: Tensor, bits: int = 8) -> Calibrated:
    """Return a network with the ranges of its activations, chosen on calibration images.

    Args:
        network: A classifier, in eval mode, on the CPU.
        pixels: (B, C, [T,] H, W) normalised images of the training set.
        bits: Of the activations.

    Raises:
        UserError: The network has no linear layers but its last.
    """
    if not matmuls(network):
        raise UserError("static int8 is for networks of linear layers (ViTs); this one has none: leave --scheme out.")
    made = copy.deepcopy(network)
    pairs = norm_pairs(made, pixels[:1])
    folded = _fold(made, pixels, pairs, bits)
    if not _same(network, made, pixels):  # something else saw what a norm gave
        made, folded = copy.deepcopy(network), {}
    names = [name for name in matmuls(made) if name not in folded]
    levels = folded | {name: best_levels(seen, bits) for name, seen in seen_by_layers(made, pixels, names)}
    ordered = {name: levels[name] for name in matmuls(made)}
    return Calibrated(made, ordered, len({id(each) for each in folded.values()}))


def _fold(network: nn.Module, pixels: Tensor, pairs: Mapping[str, list[str]], bits: int) -> dict[str, Levels]:
    parts, wanted, found = dict(network.named_modules()), matmuls(network), {}
    firsts = {following[0]: norm for norm, following in pairs.items() if wanted.keys() >= set(following)}
    seen = {firsts[name]: best_channel_levels(values, bits) for name, values in seen_by_layers(network, pixels, firsts)}
    for norm, levels in seen.items():
        common = fold_scales(parts[norm], [parts[name] for name in pairs[norm]], levels)  # type: ignore[arg-type, misc]
        found |= dict.fromkeys(pairs[norm], common)
    return found


@torch.inference_mode()
def _same(network: nn.Module, other: nn.Module, pixels: Tensor) -> bool:
    wanted, found = network(pixels[:4]), other(pixels[:4])
    return float((found - wanted).abs().max()) <= _SAME * max(1.0, float(wanted.abs().max()))


def write_static(graph: Path, path: Path, network: nn.Module, levels: Mapping[str, Levels]) -> int:
    """Write a graph whose matmuls of some layers are in int8: activations in uint8, weights per output channel.

    What they give is float32; the runtime makes one kernel of the nodes around each.

    Args:
        graph: ONNX file of the network.
        path: File to write.
        network: The network, whose weights find the matmuls in the graph.
        levels: Of the inputs of the layers to be quantised, by name.

    Returns:
        How many matmuls are in int8.
    """
    import onnx
    from onnx import numpy_helper

    parts = dict(network.named_modules())
    wanted = {_key(parts[name].weight.detach().numpy().T): name for name in levels}
    with _folded(graph) as file:
        model = onnx.load(file)
    constants, nodes, done = {each.name: each for each in model.graph.initializer}, [], 0
    for node in model.graph.node:
        stored = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        name = None if stored is None else wanted.get(_key(numpy_helper.to_array(stored)))
        if name is not None:
            nodes += _in_int8(model.graph, node, name, parts[name].weight, levels[name])
            done += 1
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, kept)):
        del field[:]
        field.extend(values)
    onnx.save(model, path)
    return done


def write_dynamic(graph: Path, path: Path) -> None:
    """Write a graph with weights of matmuls in int8, and ranges of activations that are found anew for each input."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _folded(graph) as file:
        quantize_dynamic(file, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])


def write_weights_only(graph: Path, path: Path, bits: int) -> None:
    """Write a graph with weights of matmuls in 4 or 8 bits, in blocks of `BLOCK`; activations stay float32."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with _folded(graph) as file:
        made = MatMulNBitsQuantizer(onnx.load(file), bits, BLOCK, is_symmetric=True, accuracy_level=4)
    made.process()
    made.model.save_model_to_file(str(path))


def write_log_attention(graph: Path, bits: int = 8) -> int:
    """Store the attention weights of a graph as powers of the square root of 2 (`ranges.log_sqrt2`), in its file.

    ONNX Runtime has no kernel for such numbers: plain operators round to them, which shows what a device that has one
    would answer, and takes longer here.

    Returns:
        How many softmaxes there are.
    """
    import onnx
    from onnx import helper, numpy_helper

    model, nodes, done = onnx.load(graph), [], 0
    constants = {"least": 2.0 ** (-(2**bits - 1) / 2 - 0.25), "-2/ln2": -2 / np.log(2), "0.5": 0.5, "2": 2.0, "1": 1.0}
    constants |= {"sqrt2-1": np.sqrt(2) - 1, "0": 0.0}
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type != "Softmax":
            continue
        done, out = done + 1, node.output[0]
        node.output[0] = x = f"{out}.float"
        steps = [
            ("Max", [x, "log.least"], "safe"), ("Log", ["safe"], "ln"), ("Mul", ["ln", "log.-2/ln2"], "exact"),
            ("Round", ["exact"], "q"), ("Mul", ["q", "log.0.5"], "half"), ("Ceil", ["half"], "power"),
            ("Sub", ["power", "half"], "odd_half"), ("Mul", ["odd_half", "log.2"], "odd"),
            ("Mul", ["odd", "log.sqrt2-1"], "more"), ("Add", ["more", "log.1"], "factor"), ("Neg", ["power"], "minus"),
            ("Pow", ["log.2", "minus"], "base"), ("Mul", ["base", "factor"], "value"),
            ("GreaterOrEqual", [x, "log.least"], "kept"), ("Where", ["kept", "value", "log.0"], ""),
        ]  # fmt: skip
        for kind, inputs, name in steps:
            own = [each if each == x or each.startswith("log.") else f"{out}.{each}" for each in inputs]
            nodes.append(helper.make_node(kind, own, [f"{out}.{name}" if name else out]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.float32(value), f"log.{name}") for name, value in constants.items()
    )
    onnx.save(model, graph)
    return done


@contextmanager
def _folded(graph: Path) -> Iterator[Path]:
    """Give the graph as a file with weights as they are multiplied: exporters transpose them in the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        yield file


def _key(weight: np.ndarray) -> tuple:
    return weight.shape, np.ascontiguousarray(weight, np.float32).tobytes()


def _in_int8(graph: Any, node: Any, name: str, weight: Tensor, levels: Levels) -> list:
    """Return the nodes that go before a matmul, which is changed to take what they give."""
    from onnx import helper, numpy_helper

    stored, scale = weight_levels(weight)
    constants = {
        "scale": np.float32(levels.scale), "zero": np.uint8(levels.zero), "weight_int8": np.ascontiguousarray(stored.T),
        "weight_scale": scale.astype(np.float32), "weight_zero": np.zeros(len(scale), np.int8),
    }  # fmt: skip
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), f"{name}.{key}") for key, v in constants.items())
    grid, kernel = [f"{name}.scale", f"{name}.zero"], [f"{name}.weight_scale", f"{name}.weight_zero"]
    x, node.input[0], node.input[1] = node.input[0], f"{name}.restored", f"{name}.weight_restored"
    return [
        helper.make_node("QuantizeLinear", [x, *grid], [f"{name}.uint8"]),
        helper.make_node("DequantizeLinear", [f"{name}.uint8", *grid], [f"{name}.restored"]),
        helper.make_node("DequantizeLinear", [f"{name}.weight_int8", *kernel], [f"{name}.weight_restored"], axis=1),
    ]
