"""Commands that something happens to in the middle: a reading process dies, an input is NaN, somebody watches.

Not in the tests' own files: processes import these by name.
"""

import itertools
import json
import os
import signal
from pathlib import Path

import numpy as np
import torch
from clinvit.engine.training import Training
from clinvit.tests.reliability.commands import run_command

PAGE = os.sysconf("SC_PAGE_SIZE")


def training_that_loses_a_reader(arguments: list[str], output: Path) -> None:
    """The command; in its eleventh step a process that reads for it is killed."""
    step, count = Training.training_step, itertools.count()

    def losing(self, batch, index):
        if next(count) == 10:
            os.kill(self.trainer.fit_loop._combined_loader._iterator.iterators[0]._workers[0].pid, signal.SIGKILL)
        return step(self, batch, index)

    Training.training_step = losing
    run_command(arguments, output)


def poisoned(arguments: list[str], output: Path, at: int) -> None:
    """The command; the input of one step is NaN, as that of a damaged file would be. Writes the ids of its batch."""
    step, count = Training.training_step, itertools.count()

    def with_nan(self, batch, index):
        if next(count) == at:
            if "features" in batch:
                batch["features"][:] = np.nan
            else:
                normalised = self.normalised
                self.normalised = lambda pixels: normalised(pixels) * torch.nan
            Path(f"{output}.ids").write_text(json.dumps([str(self.ids[row]) for row in batch["row"].tolist()]))
        return step(self, batch, index)

    Training.training_step = with_nan
    run_command(arguments, output)


def watched(arguments: list[str], output: Path, steps: int, looks: int, metrics: Path) -> None:
    """The command for so many steps; writes what it held at so many looks."""
    step, seen, count = Training.training_step, [], itertools.count()

    def noting(self, batch, index):
        done = next(count)
        if done and done % (steps // looks) == 0:
            seen.append(_held() | {"step": done, "epoch": self.current_epoch})
        if done == steps:
            metrics.write_text(json.dumps(seen))
            os._exit(0)
        return step(self, batch, index)

    Training.training_step = noting
    run_command(arguments, output)


def _held() -> dict[str, int]:
    """By this process: resident bytes, open files, threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "bytes": pages * PAGE,
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
    }
