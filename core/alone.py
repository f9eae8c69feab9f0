"""One command at a time writes a file or a folder of results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import LOCK, refuse_foreign, remove_leftovers, remove_leftovers_of
from .locks import Lock


def refuse_linked(out: Path) -> None:
    """Refuse a file or folder to write whose lock would be written through a link.

    Raises:
        UserError: There is one in the lock's place.
    """
    for path in (_lock_of_file(out), out / LOCK):
        refuse_foreign(path)


@contextmanager
def file_alone(out: Path, *more: Path) -> Iterator[None]:
    """Hold the lock of a file, `.<name of out>.lock`, while the block writes it; then remove the lock.

    What a killed command has left unfinished is removed first: of `out`, of `<stem>.<...>` beside it and of `more`
    files.

    Raises:
        UserError: Another process is writing `out`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with Lock(_lock_of_file(out), out) as lock:
        if lock.alone:
            for path in (out, *more):
                remove_leftovers_of(path)
        try:
            yield
        finally:
            lock.remove()


@contextmanager
def folder_alone(out: Path) -> Iterator[None]:
    """Hold the lock of a folder and remove what a killed command has left unfinished in it.

    A block that fails before it has written anything leaves no folder behind.

    Raises:
        UserError: Another process is writing there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with Lock(out / LOCK, out) as lock:
        if lock.alone:
            remove_leftovers(out)
        try:
            yield
        except BaseException:
            if lock.alone and out.is_dir() and [path.name for path in out.iterdir()] == [LOCK]:
                lock.remove()
                out.rmdir()
            raise


def _lock_of_file(out: Path) -> Path:
    return out.with_name(f".{out.name}{LOCK}")
