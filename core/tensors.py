"""Weights of strangers, before they fill the memory: what a file holds bounds what is allocated for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .errors import UserError

# What a network may have beyond twice the weights of its file: tables of positions, buffers that are not stored.
SLACK_BYTES = 4 * 10**7
# Of a safetensors file: some 200 bytes for each of a few thousand tensors.
HEADER_BYTES = 4 * 10**6


def refuse_expanded(path: str | os.PathLike, content: Any) -> None:
    """Refuse tensors that are larger than the bytes of the file behind them, as views with stride 0 are.

    Args:
        path: The file, for messages.
        content: What was read of it: tensors in dicts, lists and tuples.

    Raises:
        UserError: Such a tensor, or one that is not dense, or all together are many times the file.
    """
    total, seen, waiting = 0, set(), [("", content)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            total += _bytes(path, name, value)
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            named = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(str(key), item) for key, item in named]
    if total > 4 * Path(path).stat().st_size + SLACK_BYTES:
        raise UserError(f"{path}: refused: its tensors are {total:.3g} bytes, many times the file. Ask its makers.")


def refuse_many(path: str | os.PathLike) -> None:
    """Refuse a safetensors file whose header names more tensors than any network has, before they are made.

    Raises:
        UserError: Its header is longer than `HEADER_BYTES`.
    """
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if HEADER_BYTES < length <= Path(path).stat().st_size:  # a longer one is damage, which its reader names
        raise UserError(
            f"{path}: refused: its header of {length:,} bytes names more tensors than any network has. Ask its makers."
        )


@contextmanager
def built_within(path: str | os.PathLike, state: dict[str, Tensor]) -> Iterator[None]:
    """Stop the building of a network that allocates much more than its weights are, whatever its card asks for.

    Args:
        path: The card or folder, for messages.
        state: The tensors of the file.

    Raises:
        UserError: It would take more than twice the bytes of the tensors (in float32) and `SLACK_BYTES`.
    """
    weights = sum(tensor.numel() for tensor in state.values())
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


def _bytes(path: str | os.PathLike, name: str, tensor: Tensor) -> int:
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        raise UserError(f"{path}: refused: {name} is not a dense tensor. Ask its makers for safetensors.")
    size = tensor.numel() * tensor.element_size()
    if not tensor.is_quantized and size > tensor.untyped_storage().nbytes():
        raise UserError(
            f"{path}: refused: {name} asks for {size:.3g} bytes of memory, but the file holds "
            f"{tensor.untyped_storage().nbytes():,} of it. Ask its makers for safetensors."
        )
    return size
