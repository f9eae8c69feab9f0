"""Progress of long work: a bar on a terminal, elsewhere a line now and then, with rate and time left."""

import sys
import time

from tqdm import tqdm


class Counter:
    """Progress of the work in a `with` block.

    Args:
        total: How much there is to do.
        title: What is done, such as "reading files".
        unit: What is counted, such as "file".
        shown: Whether to say anything.
        every: Seconds between two lines where there is no terminal.
    """

    def __init__(self, total: int, title: str, unit: str, shown: bool = True, every: float = 30.0):
        self.total, self.title, self.unit, self.every = total, title, unit, every
        self.lines = shown and not sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=title, unit=unit, disable=not shown or self.lines)
        self.done, self.started = 0, time.monotonic()
        self.spoken = self.started

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()
        # Work that was over before the first line needs none.
        if self.lines and self.spoken > self.started:
            self._line(time.monotonic())

    def update(self, count: int = 1) -> None:
        """Count some more as done."""
        self.done += count
        self.bar.update(count)
        now = time.monotonic()
        if self.lines and now - self.spoken >= self.every:
            self._line(now)

    def _line(self, now: float) -> None:
        self.spoken = now
        rate = self.done / max(now - self.started, 1e-9)
        left = f", {(self.total - self.done) / rate / 60:.1f} min left" if 0 < self.done < self.total else ""
        print(
            f"{self.title}: {self.done} of {self.total}, {rate:.1f} {self.unit}s/s{left}", file=sys.stderr, flush=True
        )
