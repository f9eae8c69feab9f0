"""What a step cost: wall time, device and peak memory, kept in its folder and summed over interruptions."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...core.documents import read_json
from ...core.errors import UserError
from ...core.files import write_json
from ...core.platform import forget_peak_memory, peak_memory

FILE = "cost.json"
REMEDY = "Remove it; its step then counts from nought."
EVERY_S = 60.0  # how much of a run that is killed may be forgotten


@dataclass(frozen=True)
class Cost:
    """What one step, or a row of steps, took.

    Attributes:
        seconds: Wall time, all starts together.
        device_seconds: `seconds` times the number of devices (GPUs, or processes on a CPU).
        starts: How often it was started.
        device: GPU, or processor and cores; of the last start.
        memory: What `peak_gib` is of: `GPU`, or `host` (the whole process).
        peak_gib: Most memory held at once, GiB, the largest of all starts; of the first GPU where there are several.
    """

    seconds: float = 0.0
    device_seconds: float = 0.0
    starts: int = 0
    device: str = ""
    memory: str = ""
    peak_gib: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """Add two steps: times add up, the larger peak counts."""
        last = other if other.starts else self
        return Cost(
            self.seconds + other.seconds, self.device_seconds + other.device_seconds, self.starts + other.starts,
            last.device, last.memory, max(self.peak_gib, other.peak_gib),
        )  # fmt: skip


def read_cost(folder: Path) -> Cost:
    """Return what a step has cost so far; nothing before its first start."""
    path = folder / FILE
    try:
        return Cost(**read_json(path, remedy=REMEDY))
    except FileNotFoundError:
        return Cost()
    except TypeError as error:
        raise UserError(f"{path}: damaged ({error}). {REMEDY}") from None


def processes() -> int:
    """Return how many processes train together here."""
    import torch

    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1


def total(costs: Iterable[Cost]) -> Cost:
    """Return the cost of a row's steps together."""
    return sum(costs, Cost())


@contextmanager
def costed(folder: Path) -> Iterator[None]:
    """Add what the block costs to the folder's `cost.json`, also if it fails; written every minute meanwhile."""
    before, meter, over = read_cost(folder), _Meter(), threading.Event()

    def write() -> None:
        write_json(folder / FILE, asdict(before + replace(meter.read(), starts=1)))

    def watch() -> None:
        while not over.wait(EVERY_S):
            write()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        write()


class _Meter:
    """Time and peak memory since it was made."""

    def __init__(self):
        import torch

        from ...engine.run_folder import environment

        self.started, self.gpu, self.device = time.monotonic(), torch.cuda.is_available(), environment()["device"]
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            forget_peak_memory()

    def read(self) -> Cost:
        import torch

        peak = torch.cuda.max_memory_allocated() / 2**30 if self.gpu else peak_memory() / 2**30
        seconds = time.monotonic() - self.started
        return Cost(seconds, seconds * processes(), 0, self.device, "GPU" if self.gpu else "host", peak)
