"""The errors that a user is meant to read: one or two lines, naming the file, what is wrong and what to do."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

# What steers a terminal or turns the direction of writing, and halves of characters that no terminal can print.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """Return a text for a terminal or a log, with control characters (of file names and ids) written as escapes."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), str(text))


class UserError(ValueError):
    """The request cannot be carried out; the message says how to change it (exit code 2)."""

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


class DataError(UserError):
    """A file or a table that cannot be used; the message names it (exit code 2, or a `failed` row)."""


class RunError(RuntimeError):
    """The request was right, but the run could not be finished (exit code 1)."""

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


@contextmanager
def about(path: str | os.PathLike) -> Iterator[None]:
    """Put a file's name before the message of a UserError that the block raises, unless the message names it."""
    try:
        yield
    except UserError as error:
        if printable(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None
