"""What goes wrong around a run: a full disk, a folder that cannot be written or vanishes, a reading process killed.

Each ends in one line, leaves no half file, and the same command ends with the undisturbed result afterwards.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from clinvit.tests.reliability.commands import (
    CONTEXT,
    assert_same,
    check_whole,
    files,
    finish,
    leftovers,
    remove,
    show,
    start,
)
from clinvit.tests.reliability.disturbances import training_that_loses_a_reader
from clinvit.tests.reliability.work import COMMANDS, Work

pytestmark = pytest.mark.reliability


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Work(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def table(request):
    """Rows that are shown when all are there."""
    rows = ["| fault | command | times | ended in one line | went on undisturbed | same result after |"]
    rows.append("|---|---|---|---|---|---|")
    yield rows
    show(request, "\n" + "\n".join(rows))


class Disk:
    """A small disk in memory, mounted in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=64m", "tmpfs")

    def resize(self, size: int | None = None) -> None:
        """Bytes that fit; None for enough."""
        self._mount("-o", f"remount,rw,size={size or 64 << 20}")

    def freeze(self) -> None:
        """Nothing can be written any more."""
        self._mount("-o", "remount,ro")

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words, str(self.folder)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def disk(work):
    try:
        disk = Disk(work.root / "disk")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here ({error}): it needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk.folder)], check=True)


def one_line(process, output: Path) -> str:
    """What a command that failed has said: one line, and no traceback of any of its processes."""
    said = output.read_text()
    assert process.exitcode in (1, 2), said
    errors = [line for line in said.splitlines() if line.startswith("clinvit: error: ")]
    assert len(errors) == 1 and said.endswith(errors[0] + "\n") and "Traceback" not in said, said
    assert "error: unexpected" not in errors[0], said
    return errors[0]


def run(arguments, output: Path):
    process = start(arguments, output)
    process.join()
    return process


def used(folder: Path) -> int:
    """Bytes on a disk of pages of 4 KiB."""
    return sum(-(-path.stat().st_size // 4096) * 4096 + 4096 for path in files(folder).values())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk(work, disk, table, name):
    expected, out = work.undisturbed(name), disk.folder / name
    need, told = used(expected), 0
    remove(out)
    shares = (0.0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)
    for share in shares:
        disk.resize(max(4096, int(need * share)))
        process = run(work.arguments(name, out), work.output)
        if process.exitcode:
            line = one_line(process, work.output)
            assert "No space left on device" in line and str(disk.folder) in line
            told += 1
        check_whole(out)
        disk.resize()
        finish(work.arguments(name, out), work.output)
        assert_same(out, expected)
        assert not leftovers(out)
        remove(out)
    assert told >= 2
    table.append(f"| full disk | {name} | {len(shares)} | {told} | {len(shares) - told} | {len(shares)} |")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_cannot_be_written(work, disk, table, name):
    """A read-only disk, and a file where the folder should be."""
    expected, out = work.undisturbed(name), disk.folder / name
    disk.resize()
    remove(out)
    out.mkdir()
    disk.freeze()
    line = one_line(run(work.arguments(name, out), work.output), work.output)
    assert "Read-only file system" in line and str(disk.folder) in line
    disk.resize()
    out.rmdir()
    out.write_text("a file\n")
    line = one_line(run(work.arguments(name, out), work.output), work.output)
    assert ("Not a directory" in line or "File exists" in line) and str(out) in line
    out.unlink()
    finish(work.arguments(name, out), work.output)
    assert_same(out, expected)
    remove(out)
    table.append(f"| read-only disk, file for a folder | {name} | 2 | 2 | 0 | 2 |")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_vanishes(work, table, name):
    """The folder of results is taken away while they are made."""
    expected, out, times, told = work.undisturbed(name), work.root / "vanishing" / name, 6, 0
    draw = np.random.default_rng(len(name))
    for number in range(times):
        process = start(work.arguments(name, out), work.output)
        process.join(draw.uniform(0.3, 1) * work.seconds[name])
        if out.exists():
            out.rename(work.root / f"gone-{name}-{number}")
        process.join()
        if process.exitcode:
            one_line(process, work.output)
            told += 1
        check_whole(out)
        remove(out)
        finish(work.arguments(name, out), work.output)
        assert_same(out, expected)
        remove(out)
    table.append(f"| folder taken away | {name} | {times} | {told} | {times - told} | {times} |")


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_a_reading_process_of_a_training_is_killed(work, table, name):
    expected, out = work.undisturbed(name), work.root / "readers" / name
    arguments = [str(each) for each in [*work.arguments(name, out), "--run.workers", 2]]
    process = CONTEXT.Process(target=training_that_loses_a_reader, args=(arguments, work.output))
    process.start()
    process.join()
    line = one_line(process, work.output)
    assert "a reading process was killed" in line and "Lower run.workers" in line
    check_whole(out)
    finish(work.arguments(name, out), work.output)
    assert_same(out, expected)
    table.append(f"| reading process killed | {name} | 1 | 1 | 0 | 1 |")


def test_a_reading_process_of_a_prediction_is_killed(work, table):
    """Killed as by the system, for want of memory: its file is read by the next one."""
    expected, out = work.undisturbed("predict"), work.root / "readers/predict"
    process = start([*work.arguments("predict", out), "--workers", 2], work.output)
    deadline = time.monotonic() + 60
    while process.is_alive() and not _grandchildren(process.pid) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(_grandchildren(process.pid)[0], signal.SIGKILL)
    process.join()
    assert process.exitcode == 0, work.output.read_text()
    assert_same(out, expected)
    table.append("| reading process killed | predict | 1 | 0 | 1 | 1 |")


def _grandchildren(pid: int) -> list[int]:
    """Processes that a process's server of processes has forked."""

    def children(of: int) -> list[int]:
        return [int(child) for child in Path(f"/proc/{of}/task/{of}/children").read_text().split()]

    return [grandchild for child in children(pid) for grandchild in children(child)]
