"""What the benchmarks share: the line that names the machine and the peers, a step of any model, and fair turns."""

import argparse
import contextlib
import ctypes
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from clinvit.backbone.sizes import architecture
from clinvit.core.platform import usable_cores
from clinvit.engine.allocation import keep_freed_memory
from clinvit.engine.trainer import cpu_multiplies_bf16
from timm.layers import Attention
from torch import Tensor, nn

Step = Callable[[Tensor], None]


@dataclass(frozen=True)
class Timing:
    """What is asked of a benchmark of steps.

    Attributes:
        device: cpu or cuda.
        batch: Cases of a step.
        steps: Timed steps of each row.
        size: Of our ViT and of the peer's.
        eager: Whether rows under torch.compile are left out.
    """

    device: str = "cpu"
    batch: int = 8
    steps: int = 3
    size: str = "base"
    eager: bool = False

    @classmethod
    def asked(cls, doc: str, batch: int, steps: int) -> "Timing":
        """Return what the command line of a benchmark asks for, by these defaults."""
        parser = argparse.ArgumentParser(description=doc.splitlines()[0])
        parser.add_argument("--device", default="cpu")
        parser.add_argument("--batch", type=int, default=batch)
        parser.add_argument("--steps", type=int, default=steps)
        parser.add_argument("--size", default="base")
        parser.add_argument("--eager", action="store_true")
        return cls(**vars(parser.parse_args()))


def encoder_of(size: str) -> dict[str, int]:
    """Return a named size in the words of Hugging Face's configs."""
    vit = architecture(size)
    return {
        "hidden_size": vit.width, "num_hidden_layers": vit.depth, "num_attention_heads": vit.heads,
        "intermediate_size": int(vit.width * vit.mlp_ratio),
    }  # fmt: skip


def machine(*peers: str, device: str = "cpu") -> str:
    """The first line of every benchmark: processor, cores, threads, and versions of Python, torch and the peers.

    Args:
        peers: Names of the peers' distributions, as pip knows them.
        device: Where it runs.
    """
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", cpu)
    bf16 = next((what for flag, what in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512")) if flag in cpu), "none")
    parts = [
        f"{name[1] if name else platform.processor()} (bf16 matmuls: {bf16})",
        f"{usable_cores()} cores, {torch.get_num_threads()} threads",
        f"Python {platform.python_version()}, torch {torch.__version__}",
        *[f"{peer} {version(peer)}" for peer in peers],
    ]
    gpu = [torch.cuda.get_device_name()] if device == "cuda" else []
    return "; ".join(gpu + parts)


def multiplies_bf16(device: str) -> bool:
    """Whether rows in bf16 make sense: without bf16 units a processor takes several times as long as in fp32."""
    return device == "cuda" or cpu_multiplies_bf16()


def stepper(
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    bf16: bool,
    device: str,
    compiled: bool = False,
    peer: bool = False,
) -> Step:
    """forward, backward and optimiser step on a batch.

    On a CPU ours runs as our engine runs it: in bf16 with plain attention, and freed memory is kept for the next step.
    A peer allocates as PyTorch comes.
    """
    if compiled:
        model.compile()
    if bf16 and device == "cpu":
        for part in model.modules():
            if isinstance(part, Attention):
                part.fused_attn = False
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    cast = torch.autocast(device, torch.bfloat16) if bf16 else contextlib.nullcontext()

    def step(batch: Tensor) -> None:
        if device == "cpu":
            (allocate_as_it_comes if peer else keep_freed_memory)()
        with cast:
            value = loss(batch)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def allocate_as_it_comes() -> None:
    """Undo `keep_freed_memory`: what glibc comes to by itself when a program frees large blocks (mallopt(3))."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for option, value in ((-4, 65_536), (-3, 32 << 20), (-1, 64 << 20)):
            library.mallopt(option, value)


def medians(steps: Mapping[str, Step], batch: Tensor, rounds: int) -> dict[str, float]:
    """Return the median seconds of each step, all in turn, after one round that does not count.

    Of two steps of a turn the second is timed, as in a training, where the step before was one's own.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for timed in [False] + [True] * rounds:
        for name, step in steps.items():
            step(batch)
            start = time.perf_counter()
            step(batch)
            if timed:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def against(goal: float | None, ratio: float) -> str:
    """What a table says of a goal."""
    if goal is None:
        return ""
    return f"goal {goal:g}x {'met' if ratio >= goal else 'not met'}"


def peak_memory(device: str) -> str:
    """The most GPU memory that the process has held, or nothing on a CPU."""
    return f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device == "cuda" else ""


def per_item(work: Callable[[int], object], items: int, rounds: int = 3) -> float:
    """Median seconds per item of `work(i)`."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for i in range(items):
            work(i)
        times.append((time.perf_counter() - start) / items)
    return statistics.median(times)
