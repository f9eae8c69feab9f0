"""A log that is only added to: a line of JSON per event, each chained to the one before by a keyed hash.

Who has not the key can change, remove or add no line without breaking the chain. What is cut off at the end shows to
who has noted the last line's `mac` elsewhere.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .documents import lines_of, parse_json
from .errors import UserError
from .files import open_own, refuse_irregular, reporting_a_full_disk
from .locks import Lock
from .secret import message_code, secret_key

FIRST = "0" * 64  # what stands for the line before the first
_END = re.compile(rb', "mac": "([0-9a-f]{64})"\}\n')
_TAIL_BYTES = 1 << 16


class State(NamedTuple):
    """Number and `mac` of the last line of a log."""

    lines: int
    mac: str


class AuditLog:
    """A log, made where it is missing, that only its owner may read (0600).

    Args:
        path: The file; a lock stands beside it while lines are added.

    Raises:
        UserError: Its last line is not whole, or was not written with this key; or it is a link.
    """

    def __init__(self, path: Path):
        self.path, self._key = Path(path), secret_key()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.add([])

    def add(self, events: Iterable[Mapping[str, Any]]) -> State:
        """Add a line per event, each with its number and the time, on the disk before this returns.

        Args:
            events: Plain values by name.

        Raises:
            UserError: As of the class.
            RunError: The disk is full.
        """
        with (
            Lock(self.path.with_name(f".{self.path.name}.lock"), self.path, wait=True),
            open_own(self.path, "a+", private=True, encoding="utf-8") as file,
        ):
            state, lines = self._last(), list[bytes]()
            for event in events:
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                state = self._line(state, {"number": state.lines + 1, "time": now, **event}, lines)
            with reporting_a_full_disk(self.path):
                left = b"".join(lines)
                while left:
                    left = left[os.write(file.fileno(), left) :]
                os.fsync(file.fileno())
        return state

    def _line(self, before: State, event: dict[str, Any], lines: list[bytes]) -> State:
        text = json.dumps({**event, "previous": before.mac}).encode()[:-1]
        mac = message_code(self._key, text)
        lines.append(text + f', "mac": "{mac}"}}\n'.encode())
        return State(before.lines + 1, mac)

    def _last(self) -> State:
        """Return the state that the last line says, once it is known to be of this key."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().splitlines(keepends=True)
        if not lines:
            return State(0, FIRST)
        return _checked(self.path, lines[-1], self._key, None)


def verify_log(path: Path) -> State:
    """Return the last line of a log whose chain is whole.

    Raises:
        UserError: A line was changed, removed or added without the key; the message names the first that does not fit.
    """
    refuse_irregular(path)
    key, state = secret_key(), State(0, FIRST)
    with Path(path).open("rb") as file:
        for line in lines_of(file):
            state = _checked(path, line, key, state)
    return state


def _checked(path: Path, line: bytes, key: str, before: State | None) -> State:
    """Return number and code of a line that is as it was written, and follows `before` if that is known."""
    number = before.lines + 1 if before else 0
    where = f"line {number:,}" if before else "the last line"
    end = _END.search(line)
    if end is None or end.end() != len(line):
        raise UserError(f"{path}: {where} is not whole. Keep the file as it is, find out why, and begin another log.")
    mac = end[1].decode()
    if message_code(key, line[: end.start()]) != mac:
        raise UserError(
            f"{path}: {where} was changed, or written with another key (CLINVIT_KEY, CLINVIT_KEY_FILE). Keep the file "
            "as it is and find out which."
        )
    said = parse_json(line)
    if before is not None and (said.get("previous") != before.mac or said.get("number") != number):
        raise UserError(f"{path}: {where} does not follow the line before: lines were removed, added or moved.")
    return State(said["number"], mac)
