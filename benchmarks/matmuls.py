"""The physical limit of a step: how long its matmuls alone take on this CPU, one by one."""

import time
from collections import Counter
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

SHORTEST = 0.05  # seconds that each matmul is repeated for

Operand = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]  # shape, strides, type


class Matmuls(TorchDispatchMode):
    """Counts the matmuls of what runs under it by their operands, which are as the step lays them out."""

    def __init__(self):
        super().__init__()
        self.counts: Counter[tuple[Operand, Operand]] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        aten = torch.ops.aten
        if function in (aten.mm.default, aten.bmm.default, aten.addmm.default):
            left, right = args[-2:]
            self.counts[_operand(left), _operand(right)] += 1
        return function(*args, **(kwargs or {}))


def matmuls_of(step: Callable[[torch.Tensor], None], batch: torch.Tensor) -> Matmuls:
    """The matmuls of a step, those within attention included."""
    with sdpa_kernel(SDPBackend.MATH), Matmuls() as matmuls:
        step(batch)
    return matmuls


def seconds_alone(matmuls: Matmuls) -> tuple[float, float]:
    """Seconds that the matmuls take when nothing else runs, and how many floating-point operations they are."""
    seconds, operations = 0.0, 0
    for (left, right), count in matmuls.counts.items():
        seconds += count * _fastest(_tensor(left), _tensor(right))
        # (..., m, k) by (k, n)
        operations += count * 2 * torch.Size(left[0]).numel() * right[0][-1]
    return seconds, operations


def limit(matmuls: Matmuls, step_seconds: float) -> str:
    """The line that a benchmark prints of a step."""
    seconds, operations = seconds_alone(matmuls)
    return (
        f"matmuls alone ({operations / 1e9:.0f} GFLOP) would take {seconds:.2f} s at the measured "
        f"{operations / seconds / 1e9:.0f} GFLOP/s: {seconds / step_seconds:.0%} of the step"
    )


def _operand(tensor: torch.Tensor) -> Operand:
    return tuple(tensor.shape), tensor.stride(), tensor.dtype


def _tensor(operand: Operand) -> torch.Tensor:
    shape, strides, dtype = operand
    extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    return torch.randn(extent, dtype=dtype).as_strided(shape, strides)


def _fastest(left: torch.Tensor, right: torch.Tensor) -> float:
    """Least seconds of a matmul, after one that does not count."""
    best, begin = float("inf"), None
    while begin is None or time.perf_counter() - begin < SHORTEST:
        start = time.perf_counter()
        left @ right
        if begin is None:
            begin = time.perf_counter()
        else:
            best = min(best, time.perf_counter() - start)
    return best
