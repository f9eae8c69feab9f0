"""JSON and YAML from files: the one strict reader of everything that may come from elsewhere.

A card, a recipe or a manifest's facts may be handed on by strangers. A few lines of YAML aliases are gigabytes when
they are followed, deep nesting ends the interpreter's stack, a pipe never ends. Here a document is a regular file of
limited size and depth without aliases, tags or repeated keys, or it is refused in one line.
"""

import functools
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from .errors import UserError

# Worst is a list of empty lists, which takes about 24 times its bytes in memory.
JSON_BYTES, LARGE_JSON_BYTES = 16_000_000, 1_000_000_000
YAML_BYTES, LINE_BYTES = 256_000, 4_000_000
DEPTH = 64
REMEDY = "Copy or make it again."


def read_json(
    path: str | os.PathLike, kind: type[UserError] = UserError, remedy: str = REMEDY, limit: int = JSON_BYTES
) -> dict:
    """Return the JSON object in a file.

    Args:
        path: The file.
        kind: Of the error.
        remedy: What to do about a file that is refused.
        limit: Largest size, bytes; `LARGE_JSON_BYTES` for what has a line per case.

    Raises:
        UserError: The file is damaged, too large or too deep, no regular file, or holds no JSON object; a subclass of
            it where `kind` names one.
        FileNotFoundError: There is no file.
    """
    return _document(path, parse_json, "JSON", kind, remedy, limit)


def read_yaml(path: str | os.PathLike, kind: type[UserError] = UserError, remedy: str = REMEDY) -> dict:
    """Return the mapping in a YAML file; as `read_json`."""
    return _document(path, parse_yaml, "YAML", kind, remedy, YAML_BYTES)


def json_lines(path: str | os.PathLike, kind: type[UserError] = UserError, remedy: str = REMEDY) -> Iterator[dict]:
    """Yield the JSON objects of a file that has one on each line; blank lines are none.

    Raises:
        UserError: A line is damaged, too long, too deep or no object; `kind` names a subclass of it.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(lines_of(file), start=1):
            if not line.strip():
                continue
            try:
                found = parse_json(line)
                if not isinstance(found, dict):
                    raise ValueError("no mapping of keys to values")
            except ValueError as error:
                reason = " ".join(str(error).split())[:150]
                raise kind(f"{path}: line {number} is not readable JSON ({reason}). {remedy}") from None
            yield found


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: It is damaged, deeper than `DEPTH`, or repeats a key.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEPTH}") from None
    level = [value]
    for _ in range(DEPTH):
        if not level:
            return value
        level = [item for each in level for item in _items(each)]
    raise ValueError(f"nested deeper than {DEPTH}")


def parse_yaml(text: str | bytes) -> Any:
    """Return what a YAML text says in plain values.

    Raises:
        ValueError: It is damaged, deeper than `DEPTH`, has aliases or tags, or repeats a key.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file; one that is longer than `LINE_BYTES` comes in parts, without a line's end."""
    return iter(functools.partial(file.readline, LINE_BYTES), b"")


def regular_bytes(path: str | os.PathLike, limit: int) -> bytes:
    """Return the bytes of a regular file; a pipe or a device is not waited for.

    Raises:
        FileNotFoundError: There is no file.
        ValueError: It is something else, cannot be read, or is larger than `limit` bytes.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(path):
            raise ValueError("a link that leads nowhere") from None
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise ValueError(f"cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("a folder, pipe or device, not a regular file")
    with os.fdopen(handle, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"larger than {limit / 1e6:g} MB")
    return content


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_AMBIGUOUS = re.compile(r".*:|[-+]?0[0-9_]")  # YAML 1.1 takes 1:59:59 for 7199, and 010 for 8


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's loader of plain values, without aliases, within `DEPTH`, each key once."""

    _depth = 0

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which are not read")
        self._depth += 1
        if self._depth > DEPTH:
            raise yaml.YAMLError(f"nested deeper than {DEPTH}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node.tag in _NUMBERS and _AMBIGUOUS.match(node.value):
            raise yaml.YAMLError(
                f"{node.value!r} is another number to every reader of YAML (of base 60, or 8): write it plainly, or in "
                "quotes if it is text"
            )
        return node

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise yaml.YAMLError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
        return super().construct_mapping(node, deep)


def _document(path, parse, name: str, kind: type[UserError], remedy: str, limit: int) -> dict:
    path = Path(path)
    try:
        found = parse(regular_bytes(path, limit))
        if not isinstance(found, dict):
            raise ValueError("no mapping of keys to values")
        json.dumps(found, ensure_ascii=False, default=str).encode()  # half characters could not be written again
    except (OSError, ValueError, OverflowError, TypeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise kind(f"{path}: not readable {name} ({' '.join(str(error).split())[:150]}). {remedy}") from None
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _items(value: Any) -> list:
    found = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [item for item in found if isinstance(item, dict | list)]
