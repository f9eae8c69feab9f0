"""The errors that a user is meant to read: one or two lines, naming the file, what is wrong and what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """The request cannot be carried out as it stands; the message says how to mend it (exit code 2)."""


class DataError(UserError):
    """A file or a table that cannot be used; the message names it (exit code 2, or a `failed` row)."""


class RunError(RuntimeError):
    """The request was sound, but the run could not be finished (exit code 1)."""


@contextmanager
def about(path: str | os.PathLike) -> Iterator[None]:
    """Put a file's name before what is said in the block of its contents, where it is not named there."""
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None
