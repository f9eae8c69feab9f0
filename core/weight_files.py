"""Weight files of strangers by their headers alone, without PyTorch: what is hostile is refused before it is loaded.

To import PyTorch takes seconds and hundreds of megabytes, and no bad file is worth that. A checkpoint's pickle is
walked with stand-ins for everything that it names: nothing is imported, called or allocated.
"""

import builtins
import io
import math
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from .errors import UserError
from .files import wrong_checksum

# What a network may have beyond twice the weights of its file: tables of positions, buffers that are not stored.
SLACK_BYTES = 4 * 10**7
# Of a safetensors file: some 200 bytes for each of a few thousand tensors. Of a pickle, what is walked here.
HEADER_BYTES = 4 * 10**6
SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".safetensors")
MOST_FILES = 200  # of a folder
# What says of a folder what its weights are; the last one are weights of ours, whose card is missing.
SAYING = ("config.json", "encoder.json", "model.json", "encoder.safetensors")
# Modules whose parts PyTorch's restricted reader knows some of; it judges these itself.
_KNOWN = {"torch", "numpy", "collections", "argparse", "_codecs"}
_BUILTINS = ("builtins", "__builtin__")
_NAMED = re.compile(r"\w+(\.\w+)*")
# Bytes of a value, of those kinds of storage that are not of one byte; of others nothing is known here.
_ITEM_BYTES = {
    "DoubleStorage": 8, "LongStorage": 8, "FloatStorage": 4, "IntStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip


class Sized(NamedTuple):
    """A tensor of a checkpoint.

    Attributes:
        size: Bytes that it asks for in memory.
        stored: Bytes that the file holds of it.
    """

    size: int
    stored: int


def refuse_hostile(path: str | os.PathLike) -> None:
    """Refuse a file of weights, or those in a folder, by what their headers say; leave everything else to its reader.

    Raises:
        UserError: A packed archive, an expanded tensor, a pickle that asks for code, more tensors than any network has.
    """
    path = Path(path)
    if path.is_dir():
        for file in weight_files_in(path):
            refuse_hostile(file)
    elif path.is_file():
        if is_safetensors(path):
            safetensors_sizes(path)
        else:
            refuse_archive(path, checksums=False)
            _refuse_pickle(path)


def weight_files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that are named as weights are, by name; of very many the first ones."""
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())[:MOST_FILES]


def bare_file(folder: Path) -> Path | None:
    """Return the one file of weights in a folder that says nothing of them; None of a folder with a card or an index.

    Raises:
        UserError: There are several.
    """
    if any((folder / name).is_file() for name in SAYING) or any(folder.glob("*.index.json")):
        return None
    files = weight_files_in(folder)
    if len(files) > 1:
        raise UserError(
            f"{folder}: holds {len(files)} files of weights, {files[0].name}, {files[1].name}, ..., and no config.json "
            "or encoder.json that says what they are: give one of the files, or copy the folder again."
        )
    return files[0] if files else None


def is_safetensors(path: Path) -> bool:
    """Return whether a file is of safetensors, by content or name: what is named so is never unpickled."""
    if path.suffix == ".safetensors" or not path.is_file():
        return path.suffix == ".safetensors"
    with path.open("rb") as file:
        head = file.read(9)
    header = int.from_bytes(head[:8], "little")  # its length, before the JSON
    return head[8:] == b"{" and header <= path.stat().st_size


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


def safetensors_sizes(path: Path) -> dict[str, int]:
    """Return how many numbers each tensor of a safetensors file has, by its header.

    Raises:
        UserError: The file is damaged.
    """
    import safetensors

    refuse_many(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (no dict)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). Copy or download it again.") from None


def refuse_archive(path: Path, checksums: bool = True) -> None:
    """Refuse an archive that PyTorch did not write so, or that was damaged since.

    Args:
        path: The file; one that is no archive passes.
        checksums: Whether to read all of it, too.

    Raises:
        UserError: It says what is wrong.
    """
    if wrong := wrong_checksum(path, checksums):
        raise UserError(
            f"{path}: not a readable PyTorch checkpoint: {wrong}. Copy or download it again; if it was saved without "
            "checksums (torch.serialization.set_crc32_options), save it with them."
        )


def refuse_code(path: Path, asked: str) -> None:
    """Refuse a pickle that asks for something to be run.

    Raises:
        UserError: Always.
    """
    raise UserError(
        f"{path}: refused: the file asks to run `{asked}` when it is opened, and weights need no code. Ask its makers "
        "for safetensors."
    )


def refuse_larger_than_file(path: str | os.PathLike, tensors: Iterable[tuple[str, Sized]]) -> None:
    """Refuse tensors that are larger than the bytes of the file behind them, as views with stride 0 are.

    Args:
        path: The file.
        tensors: With their names; the same storage may stand behind several.

    Raises:
        UserError: Such a tensor, or all together are many times the file.
    """
    total = 0
    for name, tensor in tensors:
        if tensor.size > tensor.stored:
            raise UserError(
                f"{path}: refused: {name} asks for {tensor.size:.3g} bytes of memory, but the file holds "
                f"{tensor.stored:,} of it. Ask its makers for safetensors."
            )
        total += tensor.size
    if total > 4 * Path(path).stat().st_size + SLACK_BYTES:
        raise UserError(f"{path}: refused: its tensors are {total:.3g} bytes, many times the file. Ask its makers.")


def named_values(content: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the values of a kind in nested dicts, lists and tuples, each with its own key."""
    seen, waiting = set(), [("", content)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, kind):
            yield name, value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            named = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(str(key), item) for key, item in named]


def _refuse_pickle(path: Path) -> None:
    """Refuse a PyTorch file whose pickle names code or expanded tensors; pass what cannot be walked."""
    try:
        content = _walked(path)
    except UserError:
        raise
    except Exception:  # no file of PyTorch, or one of a kind that is not known here: its reader says so
        return
    tensors = ((name, tensor.sized) for name, tensor in named_values(content, _Tensor) if tensor.sized is not None)
    refuse_larger_than_file(path, tensors)


def _walked(path: Path) -> Any:
    """Return the content of a PyTorch file with stand-ins; None of a pickle that is too long here, and of other files.

    PyTorch's pickles begin with their version. Letters are instructions too: a text would seem to ask for something.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
        if not start.startswith(pickle.PROTO):
            return None
        whole, stream = path.stat().st_size, io.BytesIO(start)
        found = _Walker(path, stream, {}, whole).load()
        # Files from before PyTorch 1.6: a number, a version, facts of the machine, then the content, then the storages.
        return [_Walker(path, stream, {}, whole).load() for _ in range(3)][-1] if isinstance(found, int) else found
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry.file_size for entry in archive.infolist()}
        name = next(name for name in entries if name.endswith("/data.pkl"))
        if entries[name] > HEADER_BYTES:
            return None
        stored = {key.removeprefix(name.removesuffix("data.pkl") + "data/"): size for key, size in entries.items()}
        return _Walker(path, io.BytesIO(archive.read(name)), stored, 0).load()


class _StandIn(dict):
    """Stands for whatever a pickle makes: it takes items and attributes, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any):
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def append(self, item: Any) -> None:
        """Take an item as a list does; it is dropped."""

    def extend(self, items: Any) -> None:
        """Take items as a list does; they are dropped."""


class _Storage(NamedTuple):
    item_bytes: int | None
    stored: int


class _Tensor(_StandIn):
    """A tensor's stand-in; `sized` is None where its size cannot be told."""

    def __init__(self, storage: Any = None, offset: Any = 0, size: Any = (), *more: Any):
        super().__init__()
        self.sized = None
        if isinstance(storage, _Storage) and storage.item_bytes is not None and isinstance(size, tuple):
            self.sized = Sized(math.prod(size) * storage.item_bytes, storage.stored)


class _Parameter(_StandIn):
    """A parameter is the tensor that it is made of."""

    def __new__(cls, tensor: Any = None, *more: Any):
        return tensor if isinstance(tensor, _Tensor) else super().__new__(cls)


_MADE = {
    "_rebuild_tensor_v2": _Tensor,
    "_rebuild_tensor": _Tensor,
    "_rebuild_parameter": _Parameter,
    **{name: type(name, (_StandIn,), {}) for name in _ITEM_BYTES},
}


class _Walker(pickle._Unpickler):
    """Walks a pickle: PyTorch's own reader without its parts. The memo is a dict, so that no index allocates."""

    dispatch: ClassVar[dict[int, Any]] = {  # without the opcode that allocates before it reads
        code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def __init__(self, path: Path, stream: io.BytesIO, stored: dict[str, int], whole: int):
        super().__init__(stream, encoding="utf-8")
        self.path, self.stored, self.whole = path, stored, whole

    def find_class(self, module: str, name: str) -> type:
        """Return a stand-in; refuse what is no part of a checkpoint."""
        function = module in _BUILTINS and not isinstance(getattr(builtins, name, None), type)
        if function or module.partition(".")[0] not in {*_KNOWN, *_BUILTINS}:
            asked = f"{module}.{name}"
            refuse_code(self.path, asked if _NAMED.fullmatch(asked) else "something")
        return _MADE.get(name, _StandIn)

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage of a tensor: its bytes in the file."""
        _, kind, key, _, count, *_ = pid
        item_bytes = _ITEM_BYTES.get(kind.__name__)
        if key in self.stored:
            return _Storage(item_bytes, self.stored[key])
        return _Storage(item_bytes, min(count * (item_bytes or 1), self.whole))
