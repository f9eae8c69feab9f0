"""One damaged file before its reader, in a process that may die of it: what came of it."""

import errno
import hashlib
import os
import re
import resource
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.loading.isolation import isolated
from clinvit.datasets.loading.limits import Limit
from clinvit.tests.reliability.damage import mutant
from clinvit.tests.reliability.specimens import ENTRIES, Specimen

# Beyond what the process has; a mutant's file has some kB, and the limits below allow a few million pixels.
MEMORY_MB, SPACE_GB, SLOW_S, HUNG = 400, 6, 10, Limit("CLINVIT_READ_SECONDS", 60, "seconds")
LIMITS = {
    "CLINVIT_MAX_IMAGE_MEGAPIXELS": "4", "CLINVIT_MAX_FRAME_MEGAPIXELS": "4", "CLINVIT_MAX_FRAMES": "500",
    "CLINVIT_MAX_CLIP_GB": "0.1", "CLINVIT_MAX_SLIDE_GIGAPIXELS": "0.05", "CLINVIT_MAX_FEATURES_GB": "0.1",
}  # fmt: skip
GOOD = ("refused", "limit", "same", "different", "other size", "ended alone")
# Every command reads these by processes of their own, whose end is the file's reason: OpenSlide ends its process where
# memory is refused, HDF5 may go round in circles.
ALONE = ("slide", "features")
FAULTS = ("wrong error", "no file named", "several lines", "checksum ignored", "memory", "slow", "died", "hung")


class Case(NamedTuple):
    """A damaged file to be tried."""

    specimen: int
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name} #{self.number}"


class Outcome(NamedTuple):
    """What came of it: one of `GOOD` or `FAULTS`, with the words of an error."""

    name: str
    number: int
    damage: str
    verdict: str
    words: str = ""
    seconds: float = 0.0


class Trial:
    """Tries cases. Each process has a folder of its own below `root`."""

    writes = True

    def __init__(self, specimens: Sequence[Specimen], seed: int, root: Path):
        self.specimens, self.seed, self.root = specimens, seed, root
        self.contents: dict[int, list] = {}
        self.folder: Path | None = None

    def __call__(self, case: Case) -> tuple:
        """Return an `Outcome`, as a plain tuple."""
        self._begin()
        specimen = self.specimens[case.specimen]
        good = self._good_contents(case.specimen, specimen)
        damaged = mutant(specimen.good, [other.good for other in self.specimens], self.seed, case.number)
        path = self._written(specimen, damaged.data, damaged.suffix)
        # With the head of another format it is a file of that one, whose checksums these are not.
        checked = specimen.checked and damaged.data[:4] == specimen.good.data[:4]
        before = _peak_mb(reset=True)
        began = time.process_time()  # not what other work takes of the machine; one that waits is `hung`
        verdict, words = judged(ENTRIES[specimen.entry], path, good, checked)
        seconds, used = time.process_time() - began, _peak_mb() - before
        if used > MEMORY_MB and verdict in GOOD:
            verdict, words = "memory", f"{used:.0f} MB more; {verdict}: {words}"
        if seconds > SLOW_S and verdict in GOOD:
            verdict, words = "slow", f"{seconds:.1f} s; {verdict}: {words}"
        path.unlink()
        return case.name, case.number, damaged.damage, verdict, words, seconds

    def _begin(self) -> None:
        if self.folder is None:
            os.environ.update(LIMITS)
            self.folder = self.root / str(os.getpid())
            self.folder.mkdir()
            _limit_space()

    def _written(self, specimen: Specimen, data: bytes, suffix: str) -> Path:
        for name, content in specimen.beside.items():
            (self.folder / name).write_bytes(content)
        path = self.folder / (specimen.called or f"damaged{suffix}")
        path.write_bytes(data)
        return path

    def _good_contents(self, number: int, specimen: Specimen) -> list:
        """What the good file holds; reading it also imports what its reader needs."""
        if number not in self.contents:
            path = self._written(specimen, specimen.good.data, specimen.good.suffix)
            self.contents[number] = contents(ENTRIES[specimen.entry](path))
        return self.contents[number]


def judged(read: Callable[[Path], list], path: Path, good: list, checked: bool) -> tuple[str, str]:
    """What becomes of a file: a verdict, and the words of an error."""
    try:
        found = contents(read(path))
    except UserError as error:
        return _told_well(str(error), path)
    except BaseException as error:
        return "wrong error", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if found == good:
        return "same", ""
    if checked:
        return "checksum ignored", ""
    return ("different" if [size for size, _ in found] == [size for size, _ in good] else "other size"), ""


def _told_well(words: str, path: Path) -> tuple[str, str]:
    if "\n" in words:
        return "several lines", words
    if path.name not in words and path.parent.name not in words:
        return "no file named", words
    return ("limit" if "CLINVIT_" in words else "refused"), words


def contents(values: list) -> list[tuple]:
    """Shape and hash of each array, or the value itself as text."""
    return [
        (value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest())
        if isinstance(value, np.ndarray) else ((), repr(value)) for value in values
    ]  # fmt: skip


def _limit_space() -> None:
    """Let an allocation fail that is beyond what the process holds now and `SPACE_GB`."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + SPACE_GB * 2**30, resource.RLIM_INFINITY))


def _peak_mb(reset: bool = False) -> float:
    """Most memory that the process has held, since it was last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def tried(
    specimens: Sequence[Specimen], each: dict[str, int], seed: int, root: Path, workers: int
) -> Iterator[Outcome]:
    """Try so many damaged files of each specimen."""
    cases = [
        Case(place, specimen.name, number)
        for place, specimen in enumerate(specimens)
        for number in range(each[specimen.name])
    ]
    results = isolated(Trial(specimens, seed, root), cases, workers, ahead=16, time=HUNG)
    for case, result in zip(cases, results, strict=True):
        if isinstance(result, DataError):
            verdict = "hung" if "took longer" in str(result) else "died"
            if specimens[case.specimen].entry in ALONE:
                verdict = "ended alone"
            damage = mutant(
                specimens[case.specimen].good, [other.good for other in specimens], seed, case.number
            ).damage
            result = case.name, case.number, damage, verdict, str(result)
        yield Outcome(*result)


def strange_paths(folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    """What a name may lead to that is no file with something in it."""
    folder.mkdir()
    empty = folder / f"empty{suffix}"
    empty.touch()
    yield "empty", empty
    nameless = folder / os.fsdecode(b"no-utf8-\xff\xfe" + suffix.encode())
    nameless.touch()
    yield "name that is no UTF-8", nameless
    turned = folder / f"\u202egnp\r\x85{suffix}"
    turned.touch()
    yield "name that is escaped for printing", turned
    for name, target in (("device", "/dev/zero"), ("memory", "/proc/self/mem")):
        link = folder / f"{name}{suffix}"
        link.symlink_to(target)
        yield f"link to a {name}", link
    yield "missing", folder / f"missing{suffix}"
    inside = folder / f"folder{suffix}"
    inside.mkdir()
    yield "folder", inside
    dangling = folder / f"dangling{suffix}"
    dangling.symlink_to(folder / "nowhere")
    yield "dangling link", dangling
    loop = folder / f"loop{suffix}"
    loop.symlink_to(loop)
    yield "link to itself", loop
    fifo = folder / f"fifo{suffix}"
    os.mkfifo(fifo)
    yield "FIFO", fifo
    listening = folder / f"socket{suffix}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
    yield "socket", listening
    yield "below a file", empty / f"x{suffix}"
    try:
        long = folder / ("x" * 300 + suffix)
        long.exists()
    except OSError as error:
        assert error.errno == errno.ENAMETOOLONG
    yield "name too long", folder / ("x" * 300 + suffix)
    yield "device without end", Path("/dev/zero")


class StrangeTrial:
    """Tries such a path: (entry, path)."""

    writes = True

    def __call__(self, item: tuple[str, str, Path]) -> tuple[str, str]:
        entry, called, path = item
        _limit_space()
        if called and os.path.lexists(path):  # the reader is given the folder of the file
            with tempfile.TemporaryDirectory() as inside:
                link = Path(inside) / called
                link.symlink_to(path)
                return judged(ENTRIES[entry], link, [], False)
        return judged(ENTRIES[entry], path, [], False)


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: a line per format, how many came to what."""
    names = list(dict.fromkeys(one.name for one in outcomes))
    columns = [*GOOD, *sorted({one.verdict for one in outcomes} - set(GOOD))]
    lines = [f"| format | mutants | {' | '.join(columns)} |", "|---|" + "---:|" * (1 + len(columns))]
    for name in [*names, "all"]:
        counts = Counter(one.verdict for one in outcomes if name in (one.name, "all"))
        lines.append(f"| {name} | {counts.total()} | {' | '.join(str(counts[column]) for column in columns)} |")
    return "\n".join(lines)


def clean(root: Path) -> None:
    """Remove what is left, fifos and links included."""
    shutil.rmtree(root, ignore_errors=True)
