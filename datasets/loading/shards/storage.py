"""A place that an fsspec URL names, such as `s3://bucket/folder`: whole files, patience, one line for what fails."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ....core.addresses import refuse_secrets, without_secrets
from ....core.errors import RunError, UserError
from ....core.files import reporting_a_full_disk, written_aside

TRIES = 4
PAUSE_S = 1.0  # before the second try; each later one waits twice as long
# What the name of a package is, where fsspec's own words do not say it.
PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "http": "aiohttp",
}


class Storage:
    """Files below a URL.

    Args:
        url: Of any protocol that fsspec knows. Who may read is settled where the protocol's package looks for it
            (environment, its own files), never in the URL, which is logged.

    Raises:
        UserError: The URL holds a password or a signature, its protocol is unknown, or the package for it is missing.
    """

    def __init__(self, url: str):
        refuse_secrets(url)
        self.url = url.rstrip("/")
        self._files = None
        self._fs()

    def __getstate__(self) -> dict:
        return {"url": self.url, "_files": None}

    def place(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes | None:
        """Return a whole file; None where there is none.

        Raises:
            RunError: It cannot be reached.
        """
        fs, root = self._fs()
        try:
            return patiently(lambda: fs.cat_file(f"{root}/{name}"), self.place(name))
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int | None:
        """Return bytes of a file; None where there is none.

        Raises:
            RunError: It cannot be reached.
        """
        fs, root = self._fs()
        try:
            return patiently(lambda: fs.info(f"{root}/{name}")["size"], self.place(name))
        except FileNotFoundError:
            return None

    def fetch(self, name: str, file: Path, check: Callable[[Path], None]) -> None:
        """Copy a file to this machine; `check` raises an OSError where the copy is not what it should be.

        Raises:
            RunError: It cannot be reached, or stays wrong, or the disk is full.
        """
        fs, root = self._fs()

        def copy() -> None:
            with reporting_a_full_disk(file):
                fs.get_file(f"{root}/{name}", str(file))
            check(file)

        try:
            patiently(copy, self.place(name))
        except FileNotFoundError:
            raise RunError(f"{self.place(name)}: not there. `clinvit prepare --shards` puts it there again.") from None

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file. An object store shows it when it is whole; in a folder it is renamed then.

        Raises:
            RunError: It cannot be written.
        """
        from fsspec.implementations.local import LocalFileSystem

        fs, root = self._fs()
        path = f"{root}/{name}"

        def put() -> None:
            if isinstance(fs, LocalFileSystem):
                with written_aside(path) as aside:
                    aside.write_bytes(content)
            else:
                fs.pipe_file(path, content)

        with reporting_a_full_disk(self.place(name)):
            patiently(put, self.place(name))

    def _fs(self) -> tuple[Any, str]:
        """Return fsspec's file system, and the root in its own words."""
        if self._files is None:
            from fsspec.core import url_to_fs

            protocol = self.url.split("://", 1)[0]
            try:
                self._files = url_to_fs(self.url)
            except ImportError as error:
                package = PACKAGES.get(protocol.removesuffix("s") if protocol == "https" else protocol, "")
                advice = f"pip install {package}" if package else _words(error)
                raise UserError(f"{self.url}: {protocol}:// needs a package that is not installed: {advice}.") from None
            except ValueError as error:
                raise UserError(f"{self.url}: {_words(error)}.") from None
        return self._files


def patiently(work: Callable[[], Any], url: str) -> Any:
    """Return what `work()` gives, tried a few times with growing pauses.

    Raises:
        FileNotFoundError: At once.
        RunError: It failed each time; the message names the URL.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        try:
            return work()
        except (FileNotFoundError, UserError, RunError):
            raise
        except Exception as error:  # each protocol has errors of its own
            last = error
    raise RunError(f"{url}: {_words(last)} (tried {TRIES} times). Repeat the command: what is done is kept.") from last


def _words(error: Exception) -> str:
    """Return the words of a library's error on one line, without passwords and signatures of URLs in it."""
    return without_secrets(str(error))[:200] or type(error).__name__
