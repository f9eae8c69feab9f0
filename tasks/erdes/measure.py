"""What a step of masked pre-training costs, measured: seconds and peak memory, in a process of its own.

Every recipe is measured in a fresh process: what one frees, the next would otherwise find ready to take, and a peak of
memory is that of a whole process. The step is the real one (forward, backward, optimiser) in the recipe's precision, on
noise in place of clips, since its cost does not depend on what is seen.
"""

import contextlib
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import RunError
from ...pretrain.recipe import Pretrain
from ..reproduce.work import Work

if TYPE_CHECKING:
    from ...eval.intervals import Estimate

# Clips in the measured batch: as many as fit a workstation's GPU, or a laptop's memory.
CLIPS = {"cuda": 32, "cpu": 2}
WARM_UP, STEPS = 2, 10
GIB = 2**30


def training_cost(work: Work) -> "Mapping[str, Estimate]":
    """`step_seconds` and `peak_memory_gib` of the pre-training step of `work.recipe`, on a GPU if there is one.

    Raises:
        RunError: The process was ended from outside, as happens when memory runs out.
    """
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as process:
        try:
            return process.submit(measure_steps, work.recipe).result()
        except BrokenProcessPool:
            raise RunError(
                f"{work.out}: the measuring process was ended from outside; most often memory ran out. Measure on a "
                "larger machine."
            ) from None


def measure_steps(recipe: Pretrain, clips: int | None = None, steps: int = STEPS) -> "dict[str, Estimate]":
    """Measure in this process.

    Args:
        recipe: Of a masked autoencoder of clips; its `optim.batch_size` is not used.
        clips: Size of the batch, repeated draws counted; None for `CLIPS`.
        steps: How many are timed, after `WARM_UP` that are not.

    Returns:
        `step_seconds`, the median with the range that 95 % of the steps lie in, and `peak_memory_gib`: on a GPU what
        tensors took at most, on a CPU what the process took at most beyond what it had taken before the model was made.
    """
    import torch

    from ...eval.intervals import Estimate

    device = "cuda" if torch.cuda.is_available() else "cpu"
    clips = clips or CLIPS[device]
    before = 0 if device == "cuda" else peak_resident()
    step = training_step(recipe, clips, device)
    times = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else peak_resident() - before
    low, middle, high = np.quantile(times[WARM_UP:], (0.025, 0.5, 0.975)).tolist()
    name = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    where = f"{clips} clips a step on {name}"
    return {
        "step_seconds": Estimate(middle, low, high, where, f"range of {steps} steps"),
        "peak_memory_gib": Estimate(peak / GIB, reason=where),
    }


def training_step(recipe: Pretrain, clips: int, device: str) -> Callable[[], None]:
    """A function that takes one optimiser step on `clips` clips of noise; it returns when the device is done."""
    import torch
    from timm.layers import Attention

    from ...engine.optim import make_optimizer, parameter_groups
    from ...engine.trainer import precision
    from ...pretrain.masked import build_mae, recipe_masks

    model = build_mae(recipe).to(device)
    how = precision(recipe.run, model)
    arch = model.encoder.arch
    groups = parameter_groups(model.named_parameters(), weight_decay=recipe.optim.weight_decay)
    optimizer = make_optimizer(groups, recipe.optim, 1e-5)
    draw = torch.Generator(device).manual_seed(recipe.run.seed)
    x = torch.rand(clips, arch.channels, arch.frames, *arch.image_size, generator=draw, device=device)
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(how)
    if device == "cpu" and how == "bf16-mixed":
        for part in model.modules():
            if isinstance(part, Attention):
                part.fused_attn = False  # as the engine runs it

    def step() -> None:
        masks = recipe_masks(recipe, clips, draw)
        cast = contextlib.nullcontext() if kind is None else torch.autocast(device, kind)
        with cast:
            loss = model(x, masks).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def peak_resident() -> int:
    """Bytes that this process has held in memory at most.

    Not `ru_maxrss` on Linux: there it counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
