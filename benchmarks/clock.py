"""What an epoch takes. Imports neither torch nor ours: peers in an environment of their own use it too."""

import time

import psutil


class Clock:
    """Times of epochs, from the start of the training on: seconds of the clock and of the processor."""

    def __init__(self) -> None:
        self.process, self.times = psutil.Process(), []
        self.last = self._now()

    def lap(self) -> None:
        """An epoch is done."""
        now = self._now()
        self.times.append((now[0] - self.last[0], now[1] - self.last[1]))
        self.last = now

    def _now(self) -> tuple[float, float]:
        """The processor's seconds are of this process, of what it has waited for, and of what still runs."""
        below = [sum(child.cpu_times()[:4]) for child in self.process.children(recursive=True)]
        return time.perf_counter(), sum(self.process.cpu_times()[:4]) + sum(below)
