"""As many computing threads as other processes leave cores for, looked at anew while it computes.

OpenMP's threads meet several times in a step, and one that has no core keeps all others waiting, which spin meanwhile.
A tiny masked autoencoder on 2 cores did 7.2 steps/s alone, 0.2 with two threads beside one busy process, and 4.4 with
one thread (`benchmarks/shared_machine.py`). So a thread is worth having only where there is a core for it.
"""

import math
import time
from functools import cache

import torch

from ..core.platform import usable_cores, worked_seconds

# Seconds between two looks at the machine.
EVERY = 1.0
# A share of a core that others may take before a thread is given up for it.
_TOLERATED = 0.25


class SharedCores:
    """The computing threads of this process.

    Args:
        fixed: As many threads, whatever other processes do; 0 follows them.
        every: Seconds between two looks.

    Attributes:
        threads: How many there are now.
        most: How many there are alone: what torch began with (`OMP_NUM_THREADS`, or all cores), at most the cores that
            affinity and control groups leave.
        changes: How often the number has been changed.
    """

    def __init__(self, fixed: int = 0, every: float = EVERY):
        self.every = every if not fixed else math.inf
        self.most = fixed or max(1, min(torch.get_num_threads(), usable_cores()))
        self.threads = torch.get_num_threads()
        self.changes = 0
        self._looked = time.monotonic()
        self._worked, self._own = worked_seconds(), time.process_time()
        self._set(self.most)

    def look(self) -> None:
        """Take or give up threads by what other processes did since the last look; nothing before its time has come."""
        now = time.monotonic()
        passed = now - self._looked
        if self.most == 1 or passed < self.every:
            return
        worked, own = worked_seconds(), time.process_time()
        if worked is not None and self._worked is not None:
            others = max(0.0, (worked - self._worked) - (own - self._own)) / passed
            self._set(threads_beside(others, usable_cores(), self.most))
        self._looked, self._worked, self._own = now, worked, own

    def _set(self, threads: int) -> None:
        if threads != self.threads:
            torch.set_num_threads(threads)
            self.threads = threads
            self.changes += 1


def threads_beside(others: float, cores: int, most: int) -> int:
    """Return how many threads to compute with.

    Args:
        others: Cores that other processes use.
        cores: Cores that this process may use.
        most: Threads it has where there is nobody else.
    """
    return max(1, min(most, int(cores - others + _TOLERATED)))


@cache
def _shared() -> SharedCores:
    return SharedCores()


def share_cores() -> None:
    """Look at the machine if it is time; to be called before a batch is predicted. Trainings have `SharedCores`."""
    _shared().look()
