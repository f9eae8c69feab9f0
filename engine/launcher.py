"""Processes that torchrun or SLURM started together, as their environment tells; Lightning reads the same variables."""

import os
from typing import NamedTuple


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
    """What started this process together with others; None for a process that stands for itself."""
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
