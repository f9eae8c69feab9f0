"""Processes that read files for another one: a decoder that dies or hangs over a file costs this file, not the run.

Native decoders (FFmpeg, OpenJPEG, GDCM, OpenSlide, HDF5) end their process over some broken files. Where files come
from outside, they are read here, by processes that may do nothing else (`core.confinement`). What they answer runs
nothing where it arrives (`replies`); large arrays are sent as they lie in memory. pebble's pool would do the same in
fewer lines, but pickles everything through one pipe: 2.4 times the time and 4.6 times the parent's CPU for an image of
800 kB.
"""

import contextlib
import os
import signal
import sys
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

from ...core.confinement import confine
from ...core.errors import DataError, RunError, UserError
from ...core.extras import optional
from ...core.platform import KILLED, RAW_PIPES, START_METHOD, TIME_OVER, end_after, end_not, limit_memory
from .limits import READ_GB, READ_SECONDS, Limit
from .replies import BadReply, packed, unpacked

_CONTEXT = get_context(START_METHOD)
# Loaded once, for all processes that are started, also in place of dead ones.
_READERS = ("images.radiographs", "images.dicom", "video.video_file", "transforms.views", "slides.tile_reading")
PRELOAD = [f"{__package__.rpartition('.')[0]}.{name}" for name in _READERS]
if START_METHOD == "forkserver":
    _CONTEXT.set_forkserver_preload(PRELOAD)
# What a process is at, if at no item: not begun; waiting.
_NOT_BEGUN, _WAITING = -1, -2
# How long a result may take to be sent before the next file is begun, whose reading may take the process down.
_PATIENCE_S = 0.05


def isolated(
    read: Callable[[Any], Any], items: Iterable, workers: int = 1, *, ahead: int = 4, time: Limit = READ_SECONDS
) -> Generator[Any]:
    """Read in processes of their own.

    Args:
        read: From an item to what is wanted of it, of the kinds that `replies.packed` sends; picklable, and importable
            from the package. What it has given is not changed by a later call: it may be on its way. It writes no
            file, unless it, or the object that it is a method of, says so by a true attribute `writes`.
        items: Paths, or whatever names its file by `str`.
        workers: Processes, at least 1.
        ahead: Items per process that are given out before they are asked for.
        time: Longest time for one item.

    Yields:
        In the order of the items what `read` gives; in place of an item that cannot be read its DataError. Such are
        what `read` raises, whatever else it raises, the death of its process, and more time than it may take.

    Raises:
        UserError, RunError: `read` raises one that is no DataError: nothing is wrong with the file.
        RunError: A process ended before it read anything, and was not killed, or was for the second time.
    """
    team = _Team(read, max(1, workers), time)
    results: dict[int, Any] = {}
    items, asked, given = iter(items), 0, 0
    try:
        while True:
            new = list(enumerate(islice(items, team.size * ahead - (given - asked)), given))
            team.give(new)
            given += len(new)
            if asked == given:
                return
            while asked not in results:
                team.collect(results)
            yield _result(results.pop(asked))
            asked += 1
    finally:
        team.close()


class Reading:
    """A process that reads what it is asked for, for as long as this object lives; one that died is replaced.

    For who needs results at once and asks again and again, as the loading of batches does.

    Args:
        read, time: As of `isolated`.
    """

    def __init__(self, read: Callable[[Any], Any], time: Limit = READ_SECONDS):
        self._team, self._given = _Team(read, 1, time), 0
        weakref.finalize(self, self._team.close)

    def __call__(self, items: Sequence) -> list:
        """Return what `isolated` yields for the items.

        Raises:
            UserError, RunError: As `isolated`.
        """
        results: dict[int, Any] = {}
        last = self._given + len(items)
        numbers = range(self._given, last)
        self._team.give(zip(numbers, items))
        self._given = last
        while not results.keys() >= set(numbers):  # there may be some of a call that was interrupted
            self._team.collect(results)
        return [_result(results[number]) for number in numbers]


def read_alone(read: Callable[[Any], Any], item: Any, time: Limit = READ_SECONDS) -> Any:
    """Read one item by a process of its own.

    Raises:
        DataError: It cannot be read, or took the process down, or too long.
    """
    with contextlib.closing(isolated(read, [item], time=time)) as one:
        result = next(one)
    if isinstance(result, DataError):
        raise result
    return result


def _result(result: Any) -> Any:
    """Return what was read, or the DataError of a file; any other error of ours is raised."""
    if isinstance(result, UserError | RunError) and not isinstance(result, DataError):
        raise result
    return result


class _Team:
    """Processes, each with the items under way to it."""

    def __init__(self, read: Callable, size: int, time: Limit):
        self.size, self._read, self._time, self._seconds = size, read, time, time.value()
        self._most_bytes = READ_GB.value() * 1e9
        self._members: list[_Member] = []
        self._killed: set[int] = set()

    def give(self, items: Iterable[tuple[int, Any]]) -> None:
        """Hand out items to whoever has least to do; processes are started when there is work for them."""
        for number, item in items:
            least = min(self._members, key=lambda member: len(member.under_way), default=None)
            if least is None or (least.under_way and len(self._members) < self.size):
                least = _Member(self._read, self._seconds)
                self._members.append(least)
            least.give(number, item)

    def collect(self, results: dict[int, Any]) -> None:
        """Wait until something happens: a result, or a death, after which others get what it had not begun."""
        ready = set(wait([member.pipe for member in self._members]))
        for member in [member for member in self._members if member.pipe in ready]:
            try:
                number, result = _received(member.pipe, self._most_bytes)
                if number != next(iter(member.under_way), None):  # they are answered in their order
                    raise BadReply("not asked for")
            except (EOFError, OSError):
                self._members.remove(member)
                self._settle_death(member, results)
            except BadReply as error:
                self._members.remove(member)
                member.stop()
                member.end()
                number = next(iter(member.under_way))
                results[number] = DataError(
                    f"{member.under_way.pop(number)}: its reading process answered with what is no result ({error}). "
                    "The file is damaged or hostile: look where it is from."
                )
                self.give(member.under_way.items())
            else:
                del member.under_way[number]
                results[number] = result

    def _settle_death(self, member: "_Member", results: dict[int, Any]) -> None:
        """Say which item a process ended over, and hand the others out anew.

        Which one it was at is its own word. That decides among the items under way to it, and never more than that:
        each death costs an item, or is the first of an item that is tried once more, so that they come to an end.
        """
        at, code = member.end()
        if at == _NOT_BEGUN:
            suspect, sure = _NOT_BEGUN, code != KILLED
        elif not member.under_way:
            return
        else:
            sure = at in member.under_way and code != KILLED
            suspect = at if at in member.under_way else next(iter(member.under_way))
        if sure or suspect in self._killed:
            if suspect == _NOT_BEGUN:
                raise RunError(f"a process for reading files ended before it read any (exit code {code}); see above.")
            results[suspect] = self._reason(member.under_way.pop(suspect), code)
        # Nobody kills itself so: memory ran out, perhaps for others' sake. Such a file, or start, is tried once more.
        self._killed.add(suspect)
        self.give(member.under_way.items())

    def _reason(self, item: Any, code: int) -> DataError:
        if code == TIME_OVER:
            return DataError(
                f"{item}: reading it took longer than {self._seconds:g} s ({self._time.variable}). Is the "
                "file damaged, or does its disk not answer?"
            )
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
        short = ", as when memory runs out" if code == KILLED else ""
        return DataError(
            f"{item}: reading it took the process down ({name}{short}). The file is damaged: copy or export it again."
        )

    def close(self) -> None:
        for member in self._members:
            member.stop()
        for member in self._members:
            member.end()


class _Member:
    """A process, our end of its pipe, and the items that it was given, by number, in this order."""

    def __init__(self, read: Callable, seconds: float):
        self.pipe, theirs = _CONTEXT.Pipe()
        self._at = _CONTEXT.RawValue("q", _NOT_BEGUN)
        arguments = (read, theirs, self._at, seconds, READ_GB.fixed(), RAW_PIPES)
        self._process = _CONTEXT.Process(target=_serve, args=arguments, daemon=True)
        with _without_script():
            self._process.start()
        theirs.close()
        self.under_way: dict[int, Any] = {}

    def give(self, number: int, item: Any) -> None:
        self.under_way[number] = item
        with contextlib.suppress(ConnectionError):  # it is dead, which `collect` finds out
            self.pipe.send((number, item))

    def stop(self) -> None:
        self._process.kill()

    def end(self) -> tuple[int, int]:
        """Return what it was at, and its exit code."""
        self._process.join()
        self.pipe.close()
        return self._at.value, self._process.exitcode or 0


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """Hide the script that runs from new processes: it would be run anew in each, without a guard for ever."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def one_thread() -> None:
    """Keep OpenCV to one thread in a process that is one of as many as there are cores."""
    if (cv2 := optional("cv2")) is not None:
        cv2.setNumThreads(1)


def _serve(read: Callable, pipe: Connection, at, seconds: float, memory: Limit, raw: bool) -> None:
    """Serve items until the pipe closes. The limits of time and memory bind native code too."""
    limit_memory(int(memory.value() * 1e9))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    one_thread()
    end_after(seconds), end_not()  # opens what it needs while it may
    confine(writes=_writes(read))
    at.value = _WAITING
    # Where nobody takes a result at once, it is sent while the next file is read.
    sent: list[Future] = []
    with ThreadPoolExecutor(1) as post, contextlib.suppress(EOFError, ConnectionError):
        while True:
            number, item = pipe.recv()
            futures.wait(sent, _PATIENCE_S)
            at.value = number
            end_after(seconds)
            result = _tried(read, number, item)
            end_not()
            at.value = _WAITING
            sent = [post.submit(_send, pipe, raw, *result)]


def _writes(read: Callable) -> bool:
    """Return whether a reader says that it writes files."""
    read = getattr(read, "func", read)  # of a partial
    return bool(getattr(read, "writes", getattr(getattr(read, "__self__", None), "writes", False)))


def _tried(read: Callable, number: int, item: Any) -> tuple[bytes, list[memoryview]]:
    """Read an item; return number and result (or error) as `packed` does."""
    try:
        return packed(number, read(item))
    except BaseException as error:
        return packed(number, _as_ours(item, error))


def _send(pipe: Connection, raw: bool, head: bytes, arrays: list[memoryview]) -> None:
    pipe.send_bytes(head)
    for array in arrays:
        if not raw:
            pipe.send_bytes(array)
        while array and raw:
            array = array[os.write(pipe.fileno(), array) :]


def _received(pipe: Connection, most_bytes: float) -> tuple[int, Any]:
    """Receive number and result.

    Raises:
        EOFError, OSError: The other process ended before all was sent.
        BadReply: What it sent is no answer.
    """
    return unpacked(pipe.recv_bytes(), partial(_receive_into, pipe), most_bytes)


def _receive_into(pipe: Connection, place: memoryview) -> None:
    if not RAW_PIPES:
        pipe.recv_bytes_into(place)
    while place and RAW_PIPES:
        got = os.readv(pipe.fileno(), [place])
        if not got:
            raise EOFError
        place = place[got:]


def _as_ours(item: Any, error: BaseException) -> Exception:
    """Return an error as one of ours; also what is no Exception, as a panic of a library in Rust."""
    if isinstance(error, UserError | RunError):
        return error
    if isinstance(error, MemoryError):
        return DataError(f"{item}: reading it needs more memory than there is, or than is given ({READ_GB.text()}).")
    words = " ".join(str(error).split())[:160]
    return DataError(f"{item}: reading it failed unexpectedly ({type(error).__name__}: {words}). Report this file.")
