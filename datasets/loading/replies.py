"""What a reading process answers, as bytes that run nothing where they arrive: plain values as JSON, arrays as bytes.

A process that was taken over by a file must not take over the one that asked, as a pickle would.
"""

import importlib
import json
import math
import struct
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.documents import parse_json
from ...core.errors import DataError, RunError, UserError

# Arrays from this size on are sent as they lie in memory, after the rest.
LARGE_BYTES = 1 << 16
# The types of ours that may arrive, by module below `datasets`; nothing else is ever made of a reply.
_TYPES = {
    "images.colour": {"Read"},
    "images.image_maps": {"ImageMaps"},
    "quality.looks": {"Look"},
    "slides.stain": {"Normaliser", "Macenko", "Reinhard", "_PerTile"},
    "slides.tiles": {"TileGrid"},
    "slides.tiling": {"Tiled"},
    "video.region": {"Region", "ClipRead"},
}
_ROOT = __package__.rpartition(".")[0]
_ERRORS: dict[str, type[Exception]] = {kind.__name__: kind for kind in (DataError, UserError, RunError)}
_HEAD = struct.Struct("<Q")


class BadReply(Exception):
    """What arrived is no answer."""


def packed(number: int, result: Any) -> tuple[bytes, list[memoryview]]:
    """Return an answer as bytes, and those of the large arrays in it, which follow.

    Args:
        number: Of the item.
        result: None, numbers, texts, bytes, paths, arrays, our errors and the types of `_TYPES`, in lists, tuples and
            dicts.

    Raises:
        TypeError: It holds something else.
    """
    arrays: list[np.ndarray] = []
    value = _plain(result, arrays)
    kinds = [[array.dtype.str, list(array.shape)] for array in arrays]
    text = json.dumps([number, value, kinds]).encode()
    pieces = [_bytes(array) for array in arrays]
    small = [piece for piece in pieces if piece.nbytes < LARGE_BYTES]
    return b"".join([_HEAD.pack(len(text)), text, *small]), [each for each in pieces if each.nbytes >= LARGE_BYTES]


def unpacked(head: bytes, receive: Callable[[memoryview], None], most_bytes: float) -> tuple[int, Any]:
    """Return number and result of an answer.

    Args:
        head: The first part of `packed`.
        receive: Fills an array with the bytes that come next.
        most_bytes: Of all its arrays.

    Raises:
        BadReply: It is no answer.
    """
    try:
        (length,) = _HEAD.unpack_from(head)
        number, value, kinds = parse_json(head[_HEAD.size : _HEAD.size + length])
        arrays, at = _empty(kinds, most_bytes), _HEAD.size + length
        for array in arrays:
            place = _bytes(array)
            if place.nbytes >= LARGE_BYTES:
                receive(place)
            elif place.nbytes:
                place[:] = head[at : at + place.nbytes]
                at += place.nbytes
        if type(number) is not int:
            raise TypeError("no number")
        return number, _made(value, arrays)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error, MemoryError) as error:
        raise BadReply(str(error)) from None


def _empty(kinds: list, most_bytes: float) -> list[np.ndarray]:
    """Return arrays of these types and shapes, once it is known that they fit."""
    for name, shape in kinds:
        if np.dtype(name).hasobject or any(type(extent) is not int or extent < 0 for extent in shape):
            raise ValueError("no array")
    if sum(math.prod(shape) * np.dtype(name).itemsize for name, shape in kinds) > most_bytes:
        raise ValueError("larger than a reading process may be")
    return [np.empty(shape, name) for name, shape in kinds]


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.nbytes else memoryview(b"")


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return a value for JSON: as it is, or as [kind, content]; arrays are added to the list."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject or value.dtype.names:
            raise TypeError(f"an array of {value.dtype} is not sent")
        arrays.append(np.ascontiguousarray(value).reshape(value.shape))
        return ["array" if isinstance(value, np.ndarray) else "scalar", len(arrays) - 1]
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (bytes, bytearray):
        arrays.append(np.frombuffer(value, np.uint8))
        return ["bytes", len(arrays) - 1]
    if type(value) in (list, tuple):
        return [type(value).__name__, [_plain(each, arrays) for each in value]]
    if type(value) is dict:
        return ["dict", [[_plain(key, arrays), _plain(each, arrays)] for key, each in value.items()]]
    if isinstance(value, Path):
        return ["path", str(value)]
    if isinstance(value, UserError | RunError):
        return ["error", next(name for name, kind in _ERRORS.items() if isinstance(value, kind)), str(value)]
    if isinstance(value, type):
        return ["type", _name(value)]
    content = list(value) if isinstance(value, tuple) else vars(value)
    return ["ours", _name(type(value)), _plain(content, arrays)]


def _made(value: Any, arrays: list[np.ndarray]) -> Any:
    """Undo `_plain`."""
    if not isinstance(value, list):
        return value
    kind, *content = value
    if kind == "array":
        return arrays[content[0]]
    if kind == "scalar":
        return arrays[content[0]][()]
    if kind == "bytes":
        return arrays[content[0]].tobytes()
    if kind in ("list", "tuple"):
        made = [_made(each, arrays) for each in content[0]]
        return made if kind == "list" else tuple(made)
    if kind == "dict":
        return {_made(key, arrays): _made(each, arrays) for key, each in content[0]}
    if kind == "path":
        return Path(content[0])
    if kind == "error":
        return _ERRORS[content[0]](content[1])
    if kind == "type":
        return _type(content[0])
    if kind == "ours":
        return _ours(_type(content[0]), _made(content[1], arrays))
    raise ValueError(f"no kind {kind!r:.20}")


def _ours(kind: type, content: Any) -> Any:
    """Return an object of one of our types; nothing of it is called but what makes a tuple."""
    if issubclass(kind, tuple):
        return kind(*content)
    made = object.__new__(kind)
    if not isinstance(content, dict) or (is_dataclass(kind) and content.keys() != kind.__dataclass_fields__.keys()):
        raise ValueError("other fields")
    vars(made).update(content)
    return made


def _name(kind: type) -> str:
    module = kind.__module__.removeprefix(f"{_ROOT}.")
    if kind.__qualname__ not in _TYPES.get(module, ()):
        raise TypeError(f"a {kind.__qualname__} is not sent")
    return f"{module}:{kind.__qualname__}"


def _type(name: str) -> type:
    module, _, kind = name.partition(":")
    if kind not in _TYPES.get(module, ()):
        raise ValueError("no type of ours")
    return getattr(importlib.import_module(f"{_ROOT}.{module}"), kind)
