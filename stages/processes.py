"""One prediction by several processes that a launcher started (torchrun, srun): who does what, and one table of it all.

They speak through `torch.distributed` (gloo), in numbers and text. One that ends early closes its connections, which
ends the others as soon as they need it.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ..core.documents import parse_json
from ..core.errors import RunError, UserError
from ..engine.launcher import meeting_point
from ..engine.run_folder import rank, world_size
from ..finetune.scored import Scored
from .share import ALONE as ALONE
from .share import Share as Share

# How long the others may take to begin, and process 0 to need the scores of one that is done sooner.
BEGIN, WORK = timedelta(minutes=10), timedelta(days=60)


def own_share() -> Share:
    """Return the share of this process by what a launcher says (torchrun, srun)."""
    of = world_size()
    return Share(rank(), of) if of > 1 else ALONE


def wait_for_first(out: Path) -> None:
    """Let all processes of a launch wait for the first, however long its work takes.

    All call it, in the same order. They need no process group, which a training makes for its own devices.

    Args:
        out: What is written, for messages.

    Raises:
        RunError: The first process has ended.
    """
    share = own_share()
    if share.of == 1:
        return
    key = f"done-{next(_WAITS)}"
    try:
        store = _store()
        if share.rank == 0:
            store.set(key, str(out))
        else:
            store.wait([key], WORK)
    except RuntimeError as error:
        raise RunError(f"{out}: process 0 has ended before its work was done; see what it says.") from error


_WAITS = itertools.count()


@functools.cache
def _store() -> dist.Store:
    """Return what the processes of a launch leave words for each other in."""
    store, _, _ = next(rendezvous(meeting_point(), rank(), world_size(), timeout=BEGIN))
    # torchrun's outlives its processes, which it may start anew.
    return dist.PrefixStore(f"clinvit-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


class Team:
    """The processes of a prediction, as one of them sees them; connected within a `with` block.

    Args:
        out: The table that is made in the end.
        share: Of this process.

    Raises:
        RunError: A process did not begin, or ended before its work was done.
    """

    def __init__(self, out: Path, share: Share):
        self.out, self.share = out, share
        self._group: Any = None

    @property
    def first(self) -> bool:
        """Whether this is process 0, which writes."""
        return self.share.rank == 0

    def __enter__(self) -> Self:
        number, of = self.share
        if of > 1:
            assert not dist.is_initialized(), "these processes are connected for another work already"
            words = f"not all of the {of} processes have begun. Start all with the same command (torchrun or srun)."
            where = meeting_point()
            with self._ended(words):
                dist.init_process_group("gloo", where, rank=number, world_size=of, timeout=BEGIN)
                self._group = dist.new_group(backend="gloo", timeout=WORK)
        return self

    def __exit__(self, *_) -> None:
        if self._group is not None:
            with contextlib.suppress(RuntimeError):  # of one that has ended, which is reported already
                dist.destroy_process_group()

    def agree(self, asked: str) -> None:
        """Wait for all processes.

        Args:
            asked: What must be the same for all.

        Raises:
            UserError: A process was asked for something else.
        """
        if self.share.of == 1:
            return
        own = _bytes(hashlib.sha256(asked.encode()).digest())
        of_all = [torch.empty_like(own) for _ in range(self.share.of)]
        with self._ended("another process has ended before all had begun; see what it says."):
            dist.all_gather(of_all, own, group=self._group)
        if other := [number for number, each in enumerate(of_all) if not torch.equal(each, of_all[0])]:
            raise UserError(
                f"{self.out}: process {other[0]} finds other files than process 0, or has another --batch. Give all "
                "processes the same command, in the same folder."
            )

    def send(self, own: Scored) -> None:
        """Give process 0 the scores of the own rows."""
        text, scores = _bytes(json.dumps([list(own.reasons), list(own.regions)]).encode()), own.scores
        with self._ended(_early(0)):
            for each in (torch.tensor([len(text)]), text, torch.from_numpy(np.ascontiguousarray(scores))):
                dist.send(each, dst=0, group=self._group)

    def gather(self, cases: int, width: int, batch: int) -> Iterator[Scored]:
        """Yield, in process 0, the scores of all others.

        Args:
            cases: All cases.
            width: Scores of each.
            batch: Cases per batch.
        """
        for number in range(1, self.share.of):
            if number == 1:
                print(f"{self.out}: waiting for the other processes", file=sys.stderr, flush=True)
            rows = self.share._replace(rank=number).rows(cases, batch)
            size, scores = torch.empty(1, dtype=torch.int64), torch.empty(len(rows), width, dtype=torch.float64)
            with self._ended(_early(number)):
                dist.recv(size, src=number, group=self._group)
                text = torch.empty(int(size), dtype=torch.uint8)
                dist.recv(text, src=number, group=self._group)
                dist.recv(scores, src=number, group=self._group)
            yield Scored(rows, scores.numpy(), *parse_json(text.numpy().tobytes()))

    @contextlib.contextmanager
    def _ended(self, words: str) -> Iterator[None]:
        """Make one line of what a lost connection lets fail."""
        try:
            yield
        except RuntimeError as error:
            raise RunError(f"{self.out}: {words}") from error


def _bytes(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _early(number: int) -> str:
    return (
        f"process {number} has ended before its share was done. Repeat the command with --resume: what is finished is "
        "kept."
    )
