"""What to say when the system kills a process that reads data, or when such a process has something to say."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import RunError, UserError


@contextmanager
def reporting_killed_readers(advice: str) -> Iterator[None]:
    """Make one line of PyTorch's error for a reading process that was killed, whichever line of ours it interrupts.

    The same is made of an error of ours that comes from such a process with its traceback.

    Args:
        advice: What to do, a sentence.

    Raises:
        RunError: A reading process was killed, as the system does where memory runs out.
    """
    try:
        yield
    except (UserError, RunError) as error:
        if not str(error).startswith("Caught "):
            raise
        # The line end after the traceback of the process is one that our errors escape.
        said = str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].removesuffix("\\n").strip()
        raise type(error)(said) from error
    except (EOFError, ConnectionError) as error:
        # It was killed between the announcement of a batch and its delivery.
        raise _killed(error, advice) from error
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise _killed(error, advice) from error


def _killed(error: Exception, advice: str) -> RunError:
    words = " ".join(str(error).split())[:160]
    return RunError(f"a reading process was killed, most likely for want of memory ({words}). {advice}")
