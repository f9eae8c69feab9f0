"""What a step costs in products and in memory, found by a dry run: real shapes and kinds, no numbers, no memory."""

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .recipe import Optim, Run
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
        optim, run: The shared parts of the recipe; `run.precision` is resolved.
        recompute: Whether the recipe asks for gradient checkpointing.
    """

    make: Callable[[bool, str], Training]
    batch: Callable[[int], dict[str, Tensor]]
    cases: int
    optim: Optim
    run: Run
    recompute: bool

    def training(self, recompute: bool, device: str = "cpu") -> Training:
        """The training, attached to what a step asks of Lightning's Trainer."""
        training = self.make(recompute, device)
        steps = max(1, self.cases // self.optim.batch_size) * self.optim.epochs
        training.trainer = SimpleNamespace(
            world_size=1, global_rank=0, current_epoch=0, global_step=0, precision=self.run.precision,
            estimated_stepping_batches=steps,
        )  # fmt: skip
        return training.train()

    def loss(self, training: Training, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch in the run's precision."""
        kind = MIXED.get(self.run.precision)
        device = batch["row"].device.type
        with torch.autocast(device, kind) if kind else nullcontext():
            return training.loss(batch)


@dataclass(frozen=True)
class Footprint:
    """Memory of one process, in bytes.

    Attributes:
        weights: Of the trained model, frozen ones too.
        gradients: Of its trained weights.
        states: The optimiser's.
        copies: A moving average or a teacher.
        activations: What the forward pass leaves for the backward pass, with the batch and casts of the weights.
        peak: The most at any time of a step; what the rest does not explain are intermediate values.
    """

    weights: int
    gradients: int
    states: int
    copies: int
    activations: int
    peak: int


def footprint(workload: Workload, cases: int, recompute: bool, *, fused: bool, accumulate: bool) -> Footprint:
    """Memory of a step, found on tensors that have a shape and a kind but no memory.

    Args:
        workload: The training.
        cases: Cases at once.
        recompute: With gradient checkpointing.
        fused: Attention as on a GPU, whose matrix is never whole; else as the run on this CPU would do it.
        accumulate: A further part of a batch, while the gradients of the parts before are there.
    """
    training, batch, without_memory = _dry(workload, cases, recompute, fused)
    with without_memory:
        optimizer = training.configure_optimizers()["optimizer"]
        live = LiveBytes([*training.parameters(), *training.buffers()])
        with live:
            batch = {name: torch.empty_like(tensor, device="cpu") for name, tensor in batch.items()}
            for _ in range(1 + accumulate):
                before = live.now
                loss = workload.loss(training, batch)
                activations = live.now - before
                loss.backward()
                del loss
        optimizer.step()
    weights, everything = bytes_of(training.model.state_dict().values()), bytes_of(training.state_dict().values())
    states = bytes_of(tree_leaves([list(state.values()) for state in optimizer.state.values()]))
    return Footprint(
        weights,
        bytes_of(p.grad for p in training.model.parameters()),
        states,
        everything - weights,
        activations,
        everything + states + live.peak,
    )


def flops_per_case(workload: Workload, recompute: bool) -> float:
    """Operations of forward and backward pass, two per multiplication and addition; products, convolutions and
    attention alone, and what gradient checkpointing does twice.
    """
    cases = 2
    training, batch, without_memory = _dry(workload, cases, recompute, fused=True)
    # Not while memory is counted: the counter holds on to tensors.
    with without_memory, FlopCounterMode(display=False) as counter:
        batch = {name: torch.empty_like(tensor, device="cpu") for name, tensor in batch.items()}
        workload.loss(training, batch).backward()
    return counter.get_total_flops() / cases


def _dry(workload: Workload, cases: int, recompute: bool, fused: bool):
    """The training and a batch for a dry run, and the mode for it."""
    training, without_memory = workload.training(recompute, "meta"), FakeTensorMode(allow_non_fake_inputs=True)
    with without_memory:
        training.to_empty(device="cpu")
    if not fused:
        training.on_fit_start()
    with torch.device("meta"):
        batch = workload.batch(cases)
    # Which tokens are masked depends on numbers.
    training.begin(batch, 0)
    return training, batch, without_memory


def bytes_of(values) -> int:
    """Bytes of those that are tensors."""
    return sum(value.nbytes for value in values if isinstance(value, Tensor))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made within it, until they are freed.

    Args:
        known: Tensors from before, which do not count.

    Attributes:
        now, peak: Bytes at the moment, and at most so far.
    """

    def __init__(self, known: Sequence[Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self.known = list(known)
        self.sizes = {tensor.untyped_storage()._cdata: 0 for tensor in self.known}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.sizes:
            return
        self.sizes[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.now -= self.sizes.pop(key)
