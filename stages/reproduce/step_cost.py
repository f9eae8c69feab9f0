"""What a step of masked pre-training costs, measured: seconds and peak memory, in a process of its own.

Every recipe is measured in a fresh process: what one frees, the next would otherwise find ready to take, and a peak of
memory is that of a whole process. The step is the real one (forward, backward, optimiser) in the recipe's precision, on
noise in place of clips, since its cost does not depend on what is seen.
"""

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import RunError
from ...core.platform import peak_memory
from ...pretrain.recipe import Pretrain
from .work import Work

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.workload import Steps
    from ...eval.statistics.intervals import Estimate

# Clips in the measured batch: as many as fit a workstation's GPU, or a laptop's memory.
CLIPS = {"cuda": 32, "cpu": 2}
WARM_UP, STEPS = 2, 10
GIB = 2**30


def training_cost(work: Work) -> "Mapping[str, Estimate]":
    """Return `step_seconds` and `peak_memory_gib` of the pre-training step of `work.recipe`, on a GPU if possible.

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
        recipe: A recipe of a masked autoencoder of clips; its `optim.batch_size` is not used.
        clips: Size of the batch, repeated samples included; None for `CLIPS`.
        steps: How many are timed, after `WARM_UP` that are not.

    Returns:
        `step_seconds`, the median with the range that 95 % of the steps lie in, and `peak_memory_gib`: on a GPU what
        tensors took at most, on a CPU what the process took at most beyond what it had taken before the model was made.
    """
    import torch

    from ...eval.statistics.intervals import Estimate

    device = "cuda" if torch.cuda.is_available() else "cpu"
    clips = clips or CLIPS[device]
    before = 0 if device == "cuda" else peak_memory()
    training, batch = training_steps(recipe, clips, device)
    times = [sum(training.run(batch)) for _ in range(WARM_UP + steps)]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory() - before
    low, middle, high = np.quantile(times[WARM_UP:], (0.025, 0.5, 0.975)).tolist()
    name = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    where = f"{clips} clips a step on {name}"
    return {
        "step_seconds": Estimate(middle, low, high, where, f"range of {steps} steps"),
        "peak_memory_gib": Estimate(peak / GIB, reason=where),
    }


def training_steps(recipe: Pretrain, clips: int, device: str) -> "tuple[Steps, dict[str, Tensor]]":
    """Return the steps of a recipe, and a batch of `clips` clips of noise."""
    import torch

    from ...engine.workload import Steps
    from ...pretrain.workload import workload

    recipe = replace(recipe, data=replace(recipe.data, clip=replace(recipe.data.clip, repeats=1)))
    steps = Steps(workload(recipe, clips).resolved(), torch.device(device))
    return steps, steps.batch(clips)
