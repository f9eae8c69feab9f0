"""A confined process reads and computes; it connects to nothing, starts nothing and changes no file."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clinvit.core import confinement
from clinvit.datasets.loading.isolation import isolated
from clinvit.tests.reliability.deadly import Writer

DEEDS = {
    "connect": "import socket; socket.socket()",
    "pair": "import socket; socket.socketpair()",
    "serve": "import socket; socket.create_server(('', 0))",
    "write": "open(place + '/new', 'w')",
    "append": "open(place + '/old', 'a')",
    "read and write": "open(place + '/old', 'r+')",
    "low level": "import os; os.open(place + '/new', os.O_RDONLY | os.O_CREAT)",
    "unnamed": "import os; os.open(place, os.O_TMPFILE | os.O_RDWR)",
    "remove": "import os; os.remove(place + '/old')",
    "rename": "import os; os.rename(place + '/old', place + '/new')",
    "link": "import os; os.symlink('/etc', place + '/new')",
    "hard link": "import os; os.link(place + '/old', place + '/new')",
    "folder": "import os; os.mkdir(place + '/new')",
    "rights": "import os; os.chmod(place + '/old', 0o777)",
    "cut": "import os; os.truncate(place + '/old', 0)",
    "program": "import subprocess; subprocess.run(['true'])",
    "process": "import os; os.fork() or os._exit(0)",
    "replaced": "import os; os.execv('/bin/true', ['true'])",
    "signal": "import os; os.kill(os.getppid(), 0)",
    "terminal": "import fcntl; fcntl.ioctl(0, 0x5412, b'x')",
    "limits": "import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_AS)",
    "trace": "import ctypes; s = ctypes.CDLL(None, use_errno=True); assert s.ptrace(16, 1, 0, 0) == 0",
    "memory of others": "import os; open(f'/proc/{os.getppid()}/mem', 'r+b')",
}  # fmt: skip
WORK = {
    "read": "assert open(place + '/old').read() == 'kept'; import os; os.listdir(place); os.stat(place)",
    "threads": "import threading; t = threading.Thread(target=sum, args=([1],)); t.start(); t.join()",
    "compute": "import numpy as np; assert np.ones((400, 400)).dot(np.ones((400, 400)))[0, 0] == 400",
    "own signal": "import os, signal; os.kill(os.getpid(), 0)",
    "print": "import sys; print('fine', file=sys.stderr)",
    "wait": "import time; time.sleep(0.01)",
}
SHUTS_IN = "from clinvit.core.confinement import confine; raise SystemExit(not confine())"
able = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", SHUTS_IN], check=False).returncode != 0,
    reason="this system shuts no process in",
)


def confined(code: str, place: Path) -> subprocess.CompletedProcess:
    setup = "import sys, socket, subprocess, ctypes, threading, resource\nplace = sys.argv[1]\n"
    setup += "from clinvit.core.confinement import confine\nassert confine()\n"
    return subprocess.run([sys.executable, "-c", setup + code, place], capture_output=True, text=True, check=False)


@able
@pytest.mark.parametrize("deed", DEEDS)
def test_what_no_reader_needs_is_refused(tmp_path, deed):
    (tmp_path / "old").write_text("kept")
    done = confined(DEEDS[deed], tmp_path)
    assert done.returncode == 1 and ("Error" in done.stderr), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and (tmp_path / "old").read_text() == "kept"


@able
@pytest.mark.parametrize("deed", WORK)
def test_what_readers_do_goes_on(tmp_path, deed):
    (tmp_path / "old").write_text("kept")
    done = confined(WORK[deed], tmp_path)
    assert done.returncode == 0, done.stderr


@able
def test_reading_processes_are_confined(tmp_path):
    (first,) = isolated(Writer(False), [tmp_path / "a"])
    assert "Permission" in str(first) and not (tmp_path / "a").exists()
    assert list(isolated(Writer(True), [tmp_path / "a"])) == [1] and (tmp_path / "a").exists()
    assert np.array_equal(next(isolated(np.arange, [5])), np.arange(5))


def test_elsewhere_nothing_changes(monkeypatch):
    monkeypatch.setattr(confinement.platform, "machine", lambda: "riscv64")
    assert confinement.confine() is False
    monkeypatch.setattr(confinement.sys, "platform", "darwin")
    assert confinement.confine() is False


def test_the_table_of_calls_is_as_the_kernel_numbers_them():
    """Each name once, numbers once for each machine; a few by heart, of asm/unistd_64.h and asm-generic/unistd.h."""
    every = confinement._CALLS + confinement._WRITES
    calls = dict(each.split(":") for each in confinement._CALLS.split())
    assert len(dict(each.split(":") for each in every.split())) == len(every.split())
    for machine in (0, 1):
        numbers = confinement._numbers(machine, every)
        assert len(set(numbers)) == len(numbers)
    known = {"read": "0/63", "write": "1/64", "mmap": "9/222", "futex": "202/98", "exit_group": "231/94", "stat": "4"}
    assert known.items() <= calls.items()
    assert not calls.keys() & {"socket", "connect", "execve", "fork", "ptrace", "unlink", "rename", "openat2", "clone3"}


HEADERS = {0: Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), 1: Path("/usr/include/asm-generic/unistd.h")}


@pytest.mark.parametrize("machine", HEADERS)
def test_every_call_has_the_number_of_the_kernel_s_headers(machine):
    """Of 64-bit ARM the generic numbers, in whose header some names begin with `__NR3264_`."""
    if not HEADERS[machine].is_file():
        pytest.skip("the kernel's headers are not installed")
    numbers = dict(re.findall(r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text()))
    numbers.setdefault("newfstatat", numbers.get("fstatat", ""))
    single = {"openat": "_OPENAT", "ioctl": "_IOCTL", "clone": "_CLONE", "kill": "_KILL", "tgkill": "_TGKILL",
              "prlimit64": "_PRLIMIT", "seccomp": "_SECCOMP"}  # fmt: skip
    ours = {name: str(getattr(confinement, table)[machine]) for name, table in single.items()}
    for call in (confinement._CALLS + confinement._WRITES).split():
        name, _, found = call.partition(":")
        found = found.split("/")
        if len(found) > machine:
            ours[name] = found[machine]
    assert {name: numbers.get(name) for name in ours} == ours
