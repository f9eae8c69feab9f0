"""What a run will cost, before it is started: matmuls, time, memory, and the parts that its batches fit in."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch

from ..core.errors import UserError
from ..core.platform import free_memory as free_main_memory
from .footprint import Footprint, flops_per_case, footprint
from .trainer import processes
from .workload import Steps, Workload

# Of the memory that is free; the rest is for the kernels' own work and for gaps between tensors.
USABLE = 0.9
# A part of a batch that takes longer than this is long enough to be timed, seconds.
LONG_S = 2.0
REPEATS = 3


@dataclass(frozen=True)
class Timing:
    """Measured seconds.

    Attributes:
        cases: Cases at once.
        part: Of forward and backward pass of these, median.
        update: Of the optimiser.
        peak: Most memory in use, bytes; measured on a GPU, 0 elsewhere.
    """

    cases: int
    part: float
    update: float
    peak: int


def estimate(workload: Workload, title: str) -> str:
    """Return the estimate of a run on this machine as text for a reader.

    Args:
        workload: The training.
        title: What is trained.

    Raises:
        UserError: The batch does not divide over the devices, or is larger than the data set; or not a single case
            fits into memory.
    """
    optim, processes = workload.optim, _processes(workload)
    if workload.cases < optim.batch_size:
        raise UserError(f"optim.batch_size {optim.batch_size} is larger than the {workload.cases} training cases.")
    share = optim.batch_size // processes
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    workload = workload.resolved()
    kind = workload.run.precision
    free, where = free_memory(device)

    @cache
    def cost(cases: int, recompute: bool) -> Footprint:
        return footprint(
            workload, cases, recompute, fused=device.type == "cuda" or kind != "bf16-mixed", accumulate=cases < share
        )  # fmt: skip

    sizes = [cases for cases in range(1, share + 1) if share % cases == 0]
    fitting = {
        recompute: largest(sizes, lambda cases, r=recompute: cost(cases, r).peak <= USABLE * free)
        for recompute in ((False,) if workload.recompute is None else (False, True))
    }
    recompute = bool(workload.recompute)
    chosen = min(fitting[recompute], share // optim.accumulate)
    if not chosen:
        advice = "" if workload.recompute is not False else " Try --model.checkpoint_blocks true."
        raise UserError(
            f"{title}: one case takes {_size(cost(1, recompute).peak)}, more than the {_size(USABLE * free)} "
            f"that can be used of {where}.{advice}"
        )
    timing = timed(workload, chosen, device)
    return "\n".join(
        [
            f"{title}, {kind}, on {where}, {processes} process{'es' * (processes > 1)}; nothing is written.",
            "",
            *_costs(workload, cost(chosen, recompute), chosen, timing, processes, device),
            "",
            *_memory(workload, cost, sizes, fitting, share),
        ]
    )


def largest(sizes: list[int], fits) -> int:
    """Return the largest of rising sizes that fits, as smaller ones do; 0 where none does."""
    if fits(sizes[-1]):
        return sizes[-1]
    low, high = 0, len(sizes) - 1
    while low < high:
        middle = (low + high) // 2
        if fits(sizes[middle]):
            low = middle + 1
        else:
            high = middle
    return sizes[low - 1] if low else 0


def free_memory(device: torch.device) -> tuple[int, str]:
    """Return the bytes that may be used, and of what: the GPU, or main memory as system and control group allow."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        return free, f"{torch.cuda.get_device_name(device)} ({_size(free)} free)"
    free = free_main_memory()
    return free, f"{torch.get_num_threads()} CPU core{'s' * (torch.get_num_threads() > 1)} ({_size(free)} free)"


def timed(workload: Workload, cases: int, device: torch.device) -> Timing:
    """Time real steps on random pixels.

    On a GPU with as many cases as asked, or half of them as often as memory runs out; on a CPU with 1, 2, 4, ... until
    a part takes long enough, since there the time rises with the cases.
    """
    steps = Steps(workload, device)
    count = cases if device.type == "cuda" else 1
    while True:
        try:
            seconds = steps.run(steps.batch(count))[0]
        except torch.OutOfMemoryError:
            if count == 1:
                raise UserError("one case at a time does not fit into this GPU's memory.") from None
            steps.optimizer.zero_grad()
            torch.cuda.empty_cache()
            cases = count = count // 2
            continue
        if count >= cases or seconds >= LONG_S:
            break
        count = min(2 * count, cases)
    parts, updates = zip(*(steps.run(steps.batch(count)) for _ in range(REPEATS)))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Timing(count, statistics.median(parts), statistics.median(updates), peak)


def _costs(
    workload: Workload, cost: Footprint, chosen: int, timing: Timing, processes: int, device: torch.device
) -> Iterator[str]:
    optim = workload.optim
    steps = workload.cases // optim.batch_size
    step = timing.part * optim.batch_size / processes / timing.cases + timing.update
    seconds = step * steps * optim.epochs
    each = flops_per_case(workload, bool(workload.recompute))
    share, what = (1, "GPU") if device.type == "cuda" else (torch.get_num_threads(), "core")
    yield _line("FLOPs per case", f"{_count(each)}, forward and backward")
    total = each * optim.batch_size * steps * optim.epochs
    yield _line("FLOPs in all", f"{_count(total)}: {optim.epochs} epochs of {steps} steps of {optim.batch_size} cases")
    rate = _count(each * timing.cases / timing.part)
    yield _line("time per step", f"{step:.3g} s, measured with {timing.cases} cases at once, {rate}/s")
    hours = seconds / 3600 * processes * share
    yield _line("time in all", f"{_hours(seconds)} = {hours:.3g} {what}-hours; reading and exchange not counted")
    seen = f" (measured: {_size(timing.peak)})" if timing.peak else ""
    yield _line("memory", f"{_size(cost.peak)} at {chosen} cases at once{seen}")
    rest = cost.peak - cost.weights - cost.copies - cost.gradients - cost.states
    for name, value in (
        ("  weights", cost.weights + cost.copies), ("  gradients", cost.gradients), ("  optimiser", cost.states),
        ("  activations", rest),
    ):  # fmt: skip
        yield _line(name, _size(value))


def _memory(workload: Workload, cost, sizes: list[int], fitting: dict[bool, int], share: int) -> Iterator[str]:
    saving = f"  {'with gradient checkpointing':>27}" * (True in fitting)
    yield f"{'cases at once':>13}  {'optim.accumulate':>16}  {'memory':>9}{saving}"
    own = share // workload.optim.accumulate
    around = {own, *fitting.values(), *(size for size in sizes if own / 5 < size < own * 5)} - {0}
    for cases in sorted(around)[-8:]:
        needed = [_size(cost(cases, recompute).peak) for recompute in fitting]
        marks = "  <- the recipe" * (cases == own)
        yield f"{cases:13}  {share // cases:16}  {'  '.join(map(str.rjust, needed, (9, 27)))}{marks}"
    yield ""
    for recompute, words in ((False, ""), (True, " with --model.checkpoint_blocks true")):
        if most := fitting.get(recompute):
            yield (
                f"At most {most} cases at once fit{words}: --optim.accumulate {share // most} keeps the batch of "
                f"{workload.optim.batch_size}."
            )


def _processes(workload: Workload) -> int:
    count = processes(workload.run)
    if workload.optim.batch_size % (count * workload.optim.accumulate):
        raise UserError(
            f"optim.batch_size {workload.optim.batch_size} does not divide over {count} processes in "
            f"{workload.optim.accumulate} parts."
        )
    return count


def _line(name: str, text: str) -> str:
    return f"{name:16}{text}"


def _count(flops: float) -> str:
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9)):
        if flops >= size:
            return f"{flops / size:.3g} {unit}"
    return f"{flops / 1e6:.3g} MFLOP"


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"


def _hours(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 72 * 3600 else f"{seconds / 86400:.3g} days"
