"""The errors that a user is meant to read: one or two lines, naming the file, what is wrong and what to do."""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

# What steers a terminal or turns the direction of writing, and halves of characters that no terminal can print.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """Return a text for a terminal or a log, with control characters (of file names and ids) written as escapes."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), str(text))


def one_line(text: object) -> str:
    """Return a text as `printable` does, line ends written as escapes too: they are part of a name."""
    return printable(text).replace("\n", "\\n")


def masked(text: str, path: str, name: str) -> str:
    """Return a text about a file with `name` in place of its path and its name, however these are written there.

    Messages escape what steers a terminal, fold blanks and line ends, and cut what is long: a name that is searched for
    as it is on the disk would be missed in them.
    """
    if not text or path == name:
        return text
    wholes = [form for whole in (os.path.realpath(path), path) for form in _written(whole)]
    names = _written(os.path.basename(path))  # noqa: PTH119  (as written)
    for form in sorted({*wholes, *names}, key=len, reverse=True):
        text = text.replace(form, "\0")
    for form in wholes:  # what is left of it was cut
        start = form[: form.rfind(os.sep) + 1]
        at = text.find(start) if len(start) > 1 else -1
        while at >= 0:
            end = max(_shared(text[at:], other) for other in wholes)
            text = text[:at] + "\0" + text[at + end :]
            at = text.find(start)
    return text.replace("\0", name)


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def _written(name: str) -> list[str]:
    """Return the forms in which messages write a name."""
    folded = " ".join(name.split())
    return [name, printable(name), one_line(name), repr(name)[1:-1], folded, printable(folded), ascii(name)[1:-1]]


class UserError(ValueError):
    """The request cannot be carried out; the message says how to change it (exit code 2).

    Args:
        message: One line; line ends in it are those of names and are escaped.
        lines: What stands on lines of its own below it, such as a command.
    """

    def __init__(self, message: object = "", *lines: str):
        super().__init__("\n".join(map(one_line, (message, *lines))))


class DataError(UserError):
    """A file or a table that cannot be used; the message names it (exit code 2, or a `failed` row)."""


class RunError(RuntimeError):
    """The request was right, but the run could not be finished (exit code 1)."""

    def __init__(self, message: object = ""):
        super().__init__(one_line(message))


@contextmanager
def about(path: str | os.PathLike) -> Iterator[None]:
    """Put a file's name before the message of a UserError that the block raises, unless the message names it."""
    try:
        yield
    except UserError as error:
        if one_line(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None


def too_many_bad(bad: int, cases: int, allowed: float) -> str:
    """Say that too many training files cannot be read, and how to go on without them."""
    enough = math.ceil(100 * bad / cases) / 100
    return (
        f"{bad:,} of {cases:,} training files cannot be read, more than the allowed share {allowed:g}. Mend them, or "
        f"leave them out, counted and named in the run: --run.max_bad {enough:g}."
    )
