"""A training without its data, and its steps on random pixels: what estimates and measurements are made of."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .recipe import Optim, Run
from .trainer import precision
from .training import Training

MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Workload:
    """A training without its data.

    Attributes:
        make: Makes it anew, with or without gradient checkpointing, its model on a device (`meta`: without memory);
            its loaders are never asked for.
        batch: A batch of random pixels of n cases, as the loader would give it.
        cases: Cases per epoch.
        optim, run: The shared parts of the recipe.
        recompute: Whether the recipe asks for gradient checkpointing; None for a network that has none.
    """

    make: Callable[[bool, str], Training]
    batch: Callable[[int], dict[str, Tensor]]
    cases: int
    optim: Optim
    run: Run
    recompute: bool | None

    def resolved(self) -> "Workload":
        """Return the same in the precision that a run would choose here."""
        return replace(self, run=replace(self.run, precision=precision(self.run, self.make(False, "meta"))))

    def training(self, recompute: bool, device: str = "cpu") -> Training:
        """Return the training, attached to what a step asks of Lightning's Trainer."""
        training = self.make(recompute, device)
        steps = max(1, self.cases // self.optim.batch_size) * self.optim.epochs
        trainer: Any = SimpleNamespace(
            world_size=1, global_rank=0, current_epoch=0, global_step=0, precision=self.run.precision,
            estimated_stepping_batches=steps,
        )  # fmt: skip
        training.trainer = trainer
        return training.train()

    def loss(self, training: Training, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch in the run's precision."""
        kind = MIXED.get(self.run.precision)
        device = batch["row"].device.type
        with torch.autocast(device, kind) if kind else nullcontext():
            return training.loss(batch)


class Steps:
    """Real steps of a workload on a device: forward, backward, optimiser.

    Args:
        workload: What is trained, its precision resolved.
        device: Where.

    Attributes:
        training, optimizer: What takes the steps.
    """

    def __init__(self, workload: Workload, device: torch.device):
        self.workload, self.device = workload, device
        self.training = workload.training(bool(workload.recompute)).to(device)
        self.training.on_fit_start()
        self.optimizer = self.training.configure_optimizers()["optimizer"]

    def batch(self, cases: int) -> dict[str, Tensor]:
        """Return a batch of so many cases on the device, `image` (B, C, [T,] S, S) uint8."""
        return {name: tensor.to(self.device) for name, tensor in self.workload.batch(cases).items()}

    def run(self, batch: dict[str, Tensor]) -> tuple[float, float]:
        """Take a step; return the seconds of forward and backward pass, and of the optimiser."""
        started = self._now()
        self.training.begin(batch, 0)
        self.workload.loss(self.training, batch).backward()
        computed = self._now()
        self.training.configure_gradient_clipping(self.optimizer, self.workload.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return computed - started, self._now() - computed

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
