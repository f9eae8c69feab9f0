"""What a step costs in matmuls and in memory, found by a dry run: real shapes and kinds, no numbers, no memory."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .workload import Workload


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
    """Return the memory of a step, found on tensors that have a shape and a kind but no memory.

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
    """Return the operations of forward and backward pass, two per multiplication and addition.

    Matmuls, convolutions and attention alone are counted, and what gradient checkpointing does twice.
    """
    cases = 2
    training, batch, without_memory = _dry(workload, cases, recompute, fused=True)
    # Not while memory is counted: the counter holds on to tensors.
    with without_memory, FlopCounterMode(display=False) as counter:
        batch = {name: torch.empty_like(tensor, device="cpu") for name, tensor in batch.items()}
        workload.loss(training, batch).backward()
    return counter.get_total_flops() / cases


def _dry(workload: Workload, cases: int, recompute: bool, fused: bool):
    """Return the training and a batch for a dry run, and the mode for it."""
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
    """Return the bytes of those that are tensors."""
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
