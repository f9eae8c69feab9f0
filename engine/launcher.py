"""Processes that torchrun or SLURM started together, as their environment tells; Lightning reads the same variables."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from ..core.platform import REQUEUE_SIGNAL


class Launch(NamedTuple):
    """What a launcher started.

    Attributes:
        name: `torchrun` or `SLURM`.
        rank: This process among all.
        world: All processes.
        here: Processes on each machine; 0 where SLURM does not say it.
        option: The launcher's option for the last.
    """

    name: str
    rank: int
    world: int
    here: int
    option: str


def launched() -> Launch | None:
    """Return what started this process together with others; None for a process on its own."""
    seen = os.environ
    if "TORCHELASTIC_RUN_ID" in seen:
        rank, world, here = (int(seen[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return Launch("torchrun", rank, world, here, "--nproc-per-node")
    # A shell of SLURM's (`srun --pty bash`, `salloc`) has the variables of its job, but is none of its tasks.
    if {"SLURM_NTASKS", "SLURM_PROCID"} <= seen.keys() and seen.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        world = int(seen["SLURM_NTASKS"])
        here = int(seen.get("SLURM_NTASKS_PER_NODE", 0)) if world > 1 else 1
        return Launch("SLURM", int(seen["SLURM_PROCID"]), world, here, "--ntasks-per-node")
    return None


# The variables by which a process knows that a launcher started it.
LAUNCHERS = (
    "TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID",
    "SLURM_LOCALID",
)  # fmt: skip


@contextmanager
def alone() -> Iterator[None]:
    """Let what is done within go on as if no launcher had started this process, and none were connected with it."""
    global _alone
    hidden = {name: os.environ.pop(name) for name in LAUNCHERS if name in os.environ}
    _alone = True
    try:
        yield
    finally:
        _alone = False
        os.environ.update(hidden)


_alone = False


def connected() -> bool:
    """Return whether this process trains together with others, connected by `torch.distributed`."""
    from torch import distributed as dist

    return dist.is_available() and dist.is_initialized() and not _alone


def meeting_point() -> str:
    """Return the address by which the processes of a launch find each other (`torch.distributed`'s `init_method`)."""
    launch = launched()
    if launch is None or launch.name == "torchrun":
        return "env://"
    from lightning.fabric.plugins.environments import SLURMEnvironment

    seen = os.environ
    nodes = seen.get("SLURM_STEP_NODELIST", seen.get("SLURM_NODELIST", "127.0.0.1"))
    address = seen.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)
    # A port that all processes find by themselves, another one for each step of a job.
    job, step = (int(seen.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return f"tcp://{address}:{seen.get('MASTER_PORT') or 15000 + (job + 97 * step) % 20000}"


def requeue() -> None:
    """Ask SLURM to start this process's job anew; nothing where there is none."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"what is done is saved, but SLURM did not requeue job {job}: {error}", file=sys.stderr)


@contextmanager
def requeued_when_warned() -> Iterator[None]:
    """Let SLURM's warning (SIGUSR1) to a job stop a command as Ctrl-C does, and have the job started anew.

    It may come while files are still read; training, whose state is to be saved before, handles it itself
    (`Interruption`).
    """
    in_main = threading.current_thread() is threading.main_thread()
    if REQUEUE_SIGNAL is None or "SLURM_JOB_ID" not in os.environ or not in_main:
        yield
        return
    before = signal.signal(REQUEUE_SIGNAL, _stop)
    try:
        yield
    finally:
        signal.signal(REQUEUE_SIGNAL, before)


def _stop(number: int, frame: FrameType | None) -> None:
    launch = launched()
    if launch is None or launch.rank == 0:
        requeue()
    raise KeyboardInterrupt
