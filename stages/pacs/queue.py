"""What a listener was sent and has not yet answered, on disk: nothing accepted is lost, no study is answered twice.

    incoming/<study>/<instance>.dcm     until no more comes for a while
    scoring/<study>/...                 the same files, while the model looks at them
    outgoing/<study>/rows.json, *.dcm   the answer, until it is in the table and each object of it was taken
    ledger.jsonl                        hashes of the studies that were answered, and of their instances
    key                                 of these hashes

Names are hashes with the key of the UIDs, never a sender's words. A study moves on by renaming its folder; each step
is on the disk before the next begins, so that a killed listener goes on where it was. The folder is its owner's alone
(0700, files 0600).
"""

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...core.documents import parse_json, read_json
from ...core.errors import RunError, UserError
from ...core.files import (
    LOCK,
    open_own,
    own_folder,
    remove_leftovers,
    reporting_a_full_disk,
    require_space,
    sync_folder,
    write_json,
    write_text,
    written_aside,
)
from ...core.locks import Lock
from ...core.secret import checked_key, keyed_hash

INCOMING, SCORING, OUTGOING = "incoming", "scoring", "outgoing"
ROWS = "rows.json"
NEW, AGAIN, LATE = "new", "again", "late"
SPARE_BYTES = 64_000_000  # left free for answers, the table and the ledger
_LOCKS = 16


class QueueFull(RunError):
    """The queue holds as much as it may."""


class Queue:
    """The queue of one listener.

    Args:
        folder: Made where it is missing; one listener at a time.
        most_bytes: Of the files that wait.

    Raises:
        UserError: Another listener is at work there, or the folder is none of a listener's.
    """

    def __init__(self, folder: Path, most_bytes: float = 50e9):
        self.folder, self._most_bytes, self._size = folder, most_bytes, 0
        if folder.is_dir() and any(folder.glob("[!.]*")) and not (folder / "key").exists():
            raise UserError(f"{folder}: holds other files than a listener's queue. Name a folder of its own.")
        own_folder(folder).chmod(0o700)
        with ExitStack() as stack:
            stack.enter_context(Lock(folder / LOCK, folder))
            remove_leftovers(folder)
            self._salt = self._read_key()
            self._locks = [threading.Lock() for _ in range(_LOCKS)]
            self._ledger_lock, self._size_lock = threading.Lock(), threading.Lock()
            self._arrived: dict[str, float] = {}
            self._answered: dict[str, frozenset[str]] = self._read_ledger()
            for name in (INCOMING, SCORING, OUTGOING):
                own_folder(folder / name).chmod(0o700)
            self._recover()
            self._held = stack.pop_all()

    def close(self) -> None:
        """Let another listener in."""
        self._held.close()

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def salt(self) -> str:
        """Return the key of the hashes."""
        return self._salt

    def name(self, uid: str) -> str:
        """Return the hash that stands for a UID."""
        return keyed_hash(self._salt, uid)

    def add(self, study: str, instance: str, content: Sequence[bytes | memoryview]) -> str:
        """Keep an object that was received; it is on the disk when this returns.

        Args:
            study: UID of its study.
            instance: UID of its own.
            content: The bytes of its file, in pieces.

        Returns:
            `NEW`; `AGAIN` if it is here or was answered already; `LATE` if its study was answered without it, which
            is noted in the ledger, and nothing more is kept of it.

        Raises:
            QueueFull: As much waits as may.
            RunError: The disk is full.
        """
        study, instance = self.name(study), self.name(instance)
        size = sum(len(piece) for piece in content)
        with self._locks[int(study, 16) % _LOCKS]:
            known = self._known(study)
            if known is not None:
                return AGAIN if instance in known else self._late(study, instance)
            folder = self.folder / INCOMING / study
            path = folder / f"{instance}.dcm"
            if path.exists():
                self._arrived[study] = time.monotonic()
                return AGAIN
            if self._size + size > self._most_bytes:
                raise QueueFull(f"{self.folder}: full ({self._size / 1e9:.1f} GB wait). Is the PACS away?")
            require_space(self.folder / LOCK, size + SPARE_BYTES)
            if not folder.exists():
                own_folder(folder).chmod(0o700)
                sync_folder(folder.parent)
            with written_aside(path, private=True) as aside, aside.open("rb+") as file:
                for piece in content:
                    file.write(piece)
            sync_folder(folder)
            self._grow(size)
            self._arrived[study] = time.monotonic()
            return NEW

    def complete(self, quiet_s: float) -> list[str]:
        """Return the studies for which nothing has come for so long, the oldest first.

        What was received before this listener was started counts as received then: its sender may go on.
        """
        waiting = {study: since for study, since in list(self._arrived.items()) if self._files(INCOMING, study)}
        due = [study for study, since in waiting.items() if time.monotonic() - since >= quiet_s]
        return sorted(due, key=waiting.__getitem__)

    def take(self, study: str) -> list[Path]:
        """Begin to score a study; return its files."""
        with self._locks[int(study, 16) % _LOCKS]:
            if not self._is(SCORING, study):
                self._move(INCOMING, SCORING, study)
            self._arrived.pop(study, None)
        return self._files(SCORING, study)

    def scoring(self) -> list[str]:
        """Return the studies whose scoring was begun."""
        return self._studies(SCORING)

    def answer_folder(self, study: str) -> Path:
        """Return an empty folder for the objects of an answer, which counts once `answered` was called."""
        folder = self.folder / OUTGOING / f".{study}"
        if folder.exists():
            shutil.rmtree(folder)
        own_folder(folder).chmod(0o700)
        return folder

    def answered(self, study: str, rows: Mapping[str, Any]) -> None:
        """Let the answer in `answer_folder` count, with what the table is to say; remove the images."""
        aside = self.folder / OUTGOING / f".{study}"
        instances = [path.stem for path in self._files(SCORING, study)]
        for path in aside.iterdir():
            path.chmod(0o600)
        write_json(aside / ROWS, {"instances": instances, **rows}, private=True)
        sync_folder(aside)
        with self._locks[int(study, 16) % _LOCKS]:
            aside.replace(aside.with_name(study))
            sync_folder(aside.parent)
            self._answered[study] = frozenset(instances)
        self._remove_images(study)

    def outgoing(self) -> list[str]:
        """Return the studies whose answers are not yet finished."""
        return self._studies(OUTGOING)

    def rows(self, study: str) -> dict[str, Any]:
        """Return what `answered` was given, with the `instances`."""
        return read_json(self.folder / OUTGOING / study / ROWS)

    def results(self, study: str) -> list[Path]:
        """Return the objects of an answer that were not yet taken."""
        return sorted((self.folder / OUTGOING / study).glob("*.dcm"))

    def finish(self, study: str) -> None:
        """Note a study as answered, and remove its answer."""
        rows = self.rows(study)
        self._note({"study": study, "instances": rows["instances"], "status": rows.get("status", "")})
        self._remove(self.folder / OUTGOING / study)

    def _known(self, study: str) -> frozenset[str] | None:
        """Return the instances of a study that is being scored or was answered."""
        if study in self._answered:
            return self._answered[study]
        return frozenset(path.stem for path in self._files(SCORING, study)) if self._is(SCORING, study) else None

    def _late(self, study: str, instance: str) -> str:
        self._note({"late": instance, "study": study})
        if study in self._answered:
            self._answered[study] |= {instance}
        return LATE

    def _note(self, line: Mapping[str, Any]) -> None:
        """Add a line to the ledger; it is on the disk when this returns."""
        path = self.folder / "ledger.jsonl"
        with (
            self._ledger_lock,
            reporting_a_full_disk(path),
            open_own(path, "ab", private=True, buffering=0) as file,
        ):
            append_whole(file, json.dumps(line).encode() + b"\n")

    def _read_ledger(self) -> dict[str, frozenset[str]]:
        path = self.folder / "ledger.jsonl"
        cut_unfinished(path)
        found: dict[str, set[str]] = {}
        late: dict[str, set[str]] = {}
        with open_own(path, "a+", private=True, encoding="utf-8") as file:
            file.seek(0)
            for number, text in enumerate(file, start=1):
                try:
                    line = parse_json(text)
                    if "late" in line:  # perhaps of a study that was still being scored
                        late.setdefault(line["study"], set()).add(line["late"])
                    else:
                        found[line["study"]] = set(line["instances"])
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise UserError(
                        f"{path}: line {number} is damaged: which studies were answered is not known. Restore the "
                        "file, or begin with an empty --queue."
                    ) from None
        return {study: frozenset(instances | late.get(study, set())) for study, instances in found.items()}

    def _read_key(self) -> str:
        path = self.folder / "key"
        if not path.exists():
            write_text(path, secrets.token_hex(32) + "\n", private=True)
        return checked_key(path.read_text(encoding="utf-8"), str(path))

    def _recover(self) -> None:
        """Go on where a killed listener was."""
        for folder in (self.folder / OUTGOING).glob(".*"):
            shutil.rmtree(folder)
        for study in self.outgoing():
            if study in self._answered:  # noted, and killed before it was removed
                self._remove(self.folder / OUTGOING / study)
            else:
                self._answered[study] = frozenset(self.rows(study)["instances"])
        for study in self.scoring():
            if study in self._answered:
                self._remove_images(study)
        for study in self._studies(INCOMING):
            self._arrived[study] = time.monotonic()
        self._size = sum(path.stat().st_size for path in self.folder.rglob("*.dcm"))

    def _is(self, place: str, study: str) -> bool:
        return (self.folder / place / study).is_dir()

    def _files(self, place: str, study: str) -> list[Path]:
        """Return the objects of a study that are whole."""
        return sorted((self.folder / place / study).glob("[!.]*.dcm"))

    def _studies(self, place: str) -> list[str]:
        return sorted(path.name for path in (self.folder / place).iterdir() if not path.name.startswith("."))

    def _move(self, place: str, to: str, study: str) -> None:
        (self.folder / place / study).replace(self.folder / to / study)
        for folder in (place, to):
            sync_folder(self.folder / folder)

    def _remove_images(self, study: str) -> None:
        self._grow(-sum(path.stat().st_size for path in (self.folder / SCORING / study).glob("*.dcm")))
        self._remove(self.folder / SCORING / study)

    def _remove(self, folder: Path) -> None:
        if folder.is_dir():
            shutil.rmtree(folder)
            sync_folder(folder.parent)

    def _grow(self, size: int) -> None:
        with self._size_lock:
            self._size += size


def append_whole(file: Any, content: bytes) -> None:
    """Append bytes to an unbuffered file and flush it; what was not written whole is cut off again.

    Raises:
        OSError: The disk is full.
    """
    start = os.fstat(file.fileno()).st_size
    try:
        left = content
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), start)
        raise


def cut_unfinished(path: Path) -> None:
    """Cut off a last line without an end, which a killed process has left."""
    if not path.exists():
        return
    with open_own(path, "r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
