"""Weights of strangers, before they fill the memory: what a file holds bounds what is allocated for it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .errors import UserError
from .weight_files import SLACK_BYTES, Sized, named_values, refuse_larger_than_file


def refuse_expanded(path: str | os.PathLike, content: Any) -> None:
    """Refuse tensors that are larger than the bytes of the file behind them, as views with stride 0 are.

    Args:
        path: The file, for messages.
        content: What was read of it: tensors in dicts, lists and tuples.

    Raises:
        UserError: Such a tensor, or one that is not dense, or all together are many times the file.
    """
    tensors = named_values(content, Tensor)
    refuse_larger_than_file(path, ((name, _sized(path, name, tensor)) for name, tensor in tensors))


def count(state: Mapping[str, Tensor]) -> int:
    """Return how many numbers a state dict holds."""
    return sum(tensor.numel() for tensor in state.values())


@contextmanager
def built_within(path: str | os.PathLike, state: dict[str, Tensor]) -> Iterator[None]:
    """Stop the building of a network that allocates much more than its weights are, whatever its card asks for.

    Args:
        path: The card or folder, for messages.
        state: The tensors of the file.

    Raises:
        UserError: It would take more than twice the bytes of the tensors (in float32) and `SLACK_BYTES`.
    """
    weights = count(state)
    with _Budget(path, 8 * weights + SLACK_BYTES, weights):
        yield


class _Budget(TorchDispatchMode):
    """Counts what is allocated; the size of a new tensor is compared before it is made."""

    def __init__(self, path: str | os.PathLike, budget: int, weights: int):
        super().__init__()
        self.path, self.left, self.weights = path, budget, weights

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(each.name == "device" for each in func._schema.arguments):  # it makes a tensor: of which size?
            made = func(*args, **{**kwargs, "device": "meta", "pin_memory": None})
            self._spend(made.numel() * made.element_size())
        return func(*args, **kwargs)

    def _spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise UserError(
                f"{self.path}: its card asks for a much larger network than its file has weights ({self.weights:,}). "
                "Copy the folder again."
            )


def _sized(path: str | os.PathLike, name: str, tensor: Tensor) -> Sized:
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        raise UserError(f"{path}: refused: {name} is not a dense tensor. Ask its makers for safetensors.")
    size = tensor.numel() * tensor.element_size()
    return Sized(size, size if tensor.is_quantized else tensor.untyped_storage().nbytes())
