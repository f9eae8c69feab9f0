"""What differs between Linux, macOS and Windows: cores, file locks, signals, processes, memory, the rights of a file.

No other module asks which system it runs on. What a system does not have is looked for once, here.
"""

import errno
import faulthandler
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import MutableMapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO, Any

# Locks: of Linux and macOS, and of Windows; None on the other system. A type checker knows one system only, so `Any`.
fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None
msvcrt: Any = import_module("msvcrt") if find_spec("msvcrt") else None

WINDOWS = os.name == "nt"
# How processes that read files are started: by a small server where there is one, else from nothing (Windows).
START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
# Whether a pipe is a file descriptor, into which the bytes of an array are written as they lie in memory.
RAW_PIPES = hasattr(os, "readv")
# SLURM's warning to a job that asked for it (`--signal=USR1@120`); None where there is no such signal.
REQUEUE_SIGNAL: int | None = getattr(signal, "SIGUSR1", None)
# Exit code of a process that the system killed, as when memory runs out; None where that has no code of its own.
KILLED: int | None = -signal.SIGKILL if hasattr(signal, "SIGKILL") else None
_HAS_ALARM = hasattr(signal, "setitimer")
# Exit code of a process that `end_after` ended.
TIME_OVER = -signal.SIGALRM if _HAS_ALARM else 1

# Whether the system has file locks at all, by either interface.
HAS_LOCKS = fcntl is not None or msvcrt is not None
# What a lock answers where a file system has none (some network and cluster file systems).
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
# Windows only. Locked bytes cannot be read: they lie beyond any content. As many processes may share a lock.
_LOCK_START, _SHARERS = 1 << 30, 64
_LOOK_S = 0.05
# How often libgomp looks whether the other threads have come before it sleeps (its own default: 300,000). Alone, more
# gains nothing that can be measured; beside other processes, threads that spin take the time of the one they wait for.
_SPINS = "2000"
_GPUS = Path("/proc/driver/nvidia/gpus")
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return how many cores this process may use, at least 1: by affinity and CPU quota where the system has them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    return cores if quota >= cores else max(1, math.ceil(quota))


def device_words() -> str:
    """Return what will compute, as far as it is known without torch: the GPUs of NVIDIA's driver, or the CPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    gpus = [] if hidden else list(_GPUS.glob("*"))
    cores = usable_cores()
    if not gpus:
        return f"the CPU, {cores} cores"
    lines = [line for gpu in gpus for line in _text(gpu / "information").splitlines()]
    models = sorted({line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")})
    named = f" ({', '.join(models)})" if models else ""
    return f"{len(gpus)} GPU(s){named}, {cores} cores"


def worked_seconds() -> float | None:
    """Return how long the cores that this process may use have worked, for any process, since the machine started.

    What processes of a lower priority than ours take does not count: they make room. Time that another virtual machine
    took does. None where the system does not say so (outside of Linux).
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    polite = os.getpriority(os.PRIO_PROCESS, 0) > 0
    ticks = 0
    for line in _text(Path("/proc/stat")).splitlines():
        name, *numbers = line.split()
        if name in ours:
            user, nice, system, _idle, _waiting, irq, softirq, steal = (int(number) for number in numbers[:8])
            ticks += user + system + irq + softirq + steal + (nice if polite else 0)
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else None


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads sleep after a short wait. It reads this when torch is imported: call it before.

    Nothing is changed where the environment has a choice of its own.
    """
    if not any(name in environment for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
        environment["GOMP_SPINCOUNT"] = _SPINS


def warning_signals() -> tuple[int, ...]:
    """Return the signals by which a scheduler warns before it kills, of those that the system has."""
    return tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


def take_lock(file: IO, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file. The system releases the lock when the file is closed or its process ends, however it ends.

    The library filelock does not serve. It empties the file before it has the lock, which would wipe the holder's name.
    Its file locks are not shared. Where a system has no locks, it leaves a file that outlives a killed process.

    Args:
        file: Opened for reading or writing.
        shared: Take a shared lock, which any number of processes may hold at once.
        wait: Wait for other holders.

    Returns:
        Whether it is held now; False where another process holds it.

    Raises:
        OSError: With a number of `WITHOUT_LOCKS`: the system or the file system has no locks.
    """
    if fcntl is not None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    if not HAS_LOCKS:
        raise OSError(errno.ENOLCK, "this system has no file locks")
    while not (held := _take_bytes(file, shared)) and wait:
        time.sleep(_LOOK_S)
    return held


def share_lock(file: IO) -> None:
    """Turn a lock that was taken alone into a shared one."""
    if fcntl is None and HAS_LOCKS:
        _at_byte(file, 0, msvcrt.LK_UNLCK, _SHARERS)
    take_lock(file, shared=True, wait=True)


def end_after(seconds: float) -> None:
    """End this process with exit code `TIME_OVER` after a time, whatever native code it is in; see `end_not`.

    Only for the main thread of a process that does nothing else with alarms.
    """
    if _HAS_ALARM:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    else:
        # A thread of the interpreter that needs no lock of its own; what it writes is of no use here.
        faulthandler.dump_traceback_later(seconds, exit=True, file=_nowhere())


def limit_memory(size: int) -> None:
    """Let this process take so many bytes of address space more, at most what the machine has; then allocating fails.

    Linux alone holds processes to it: macOS takes the limit and does not, Windows has none.
    """
    try:
        import resource
    except ImportError:
        return
    used = _text(Path("/proc/self/statm")).split()
    limit = min(size, _installed_memory()) + (int(used[0]) if used else 0) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if sys.platform != "darwin":
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def end_not() -> None:
    """Cancel `end_after`."""
    if _HAS_ALARM:
        signal.setitimer(signal.ITIMER_REAL, 0)
    else:
        faulthandler.cancel_dump_traceback_later()


def open_unlinked(path: str | os.PathLike[str], flags: int, mode: int) -> int:
    """Open a file (`os.open`), but not through a link in its place, and without waiting for the other end of a pipe.

    Raises:
        OSError: ELOOP: it is a link.
    """
    follow_none = getattr(os, "O_NOFOLLOW", 0)
    if not follow_none and Path(path).is_symlink():  # Windows, where few may make links
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.open(path, flags | follow_none | getattr(os, "O_NONBLOCK", 0), mode)


def read_at(file: IO[bytes], size: int, offset: int) -> bytes:
    """Read bytes of an unbuffered file; where the system can, without its position, which forked processes share."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, offset)
    file.seek(offset)
    return file.read(size)


def rename_open(file: IO[bytes], old: Path, new: Path) -> IO[bytes]:
    """Rename a file that we have open for appending, without a buffer; return it open under its new name.

    Windows does not rename what is open: it is closed first, and a lock on it ends.
    """
    if WINDOWS:
        file.close()
    old.replace(new)
    return new.open("ab", buffering=0) if WINDOWS else file


def remove_open(file: IO, path: Path) -> None:
    """Remove a file that we have open. On Windows it is closed first, and stays if others have it open."""
    if WINDOWS:
        file.close()
    remove_unless_open(path)


def remove_unless_open(path: Path) -> bool:
    """Remove a file, if it is there; return False where Windows refuses because a process has it open."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        if not WINDOWS:
            raise
        return False
    return True


def hide_from_others(path: Path) -> None:
    """Let only the owner read and write a file; on Windows print that its folder decides."""
    path.chmod(0o600)
    if WINDOWS:
        print(f"note: {path}: on Windows whoever may open its folder may read it.", file=sys.stderr)


def free_memory() -> int:
    """Return the bytes of main memory that may still be used, as the system and its control group allow."""
    free = _meminfo(Path("/proc/meminfo"), "MemAvailable:")
    if free is None:
        free = _installed_memory()
    limit, used = _text(_CGROUPS / "memory.max").strip(), _text(_CGROUPS / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        free = min(free, int(limit) - int(used))
    return free


def peak_memory() -> int:
    """Return the bytes that this process has held in main memory at most.

    Not `ru_maxrss` on Linux: there it counts what the parent held when it started this process.
    """
    held = _meminfo(Path("/proc/self/status"), "VmHWM:")
    if held is not None:
        return held
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak_memory() -> None:
    """Let Linux count the peak anew (proc(5), clear_refs).

    Elsewhere, and where that is not allowed (some containers), the peak counts from the start of the process: an upper
    bound.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def _cpu_quota() -> float:
    """Return the cores that the control groups of this process allow it on average; infinite where none sets a limit.

    Version 2 (`cpu.max`) and 1 (`cpu.cfs_quota_us`); a group is bound by those above it.
    """
    quotas = [math.inf]
    for line in _text(_OWN_CGROUP).splitlines():
        controllers, path = line.split(":", 2)[1:]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            folder = _CGROUPS / ("cpu" if controllers else "") / str(group).lstrip("/")
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            quota = [word for name in names for word in _text(folder / name).split()]
            if len(quota) == 2 and all(word.isdigit() for word in quota):
                quotas.append(int(quota[0]) / int(quota[1]))
    return min(quotas)


def _take_bytes(file: IO, shared: bool) -> bool:
    """Take a lock on Windows, which knows no shared locks: a sharer locks one byte of many, a lone holder all."""
    if not shared:
        return _at_byte(file, 0, msvcrt.LK_NBLCK, _SHARERS)
    return any(_at_byte(file, number, msvcrt.LK_NBLCK, 1) for number in range(_SHARERS))


def _at_byte(file: IO, number: int, mode: int, count: int) -> bool:
    """Lock or unlock bytes and keep the position in the file; return False where another process has locked them."""
    handle = file.fileno()
    before = os.lseek(handle, 0, os.SEEK_CUR)
    os.lseek(handle, _LOCK_START + number, os.SEEK_SET)
    try:
        msvcrt.locking(handle, mode, count)
    except PermissionError:
        return False
    finally:
        os.lseek(handle, before, os.SEEK_SET)
    return True


@cache
def _nowhere() -> IO:
    """Return a file that swallows what is written, open as long as the process lives."""
    return Path(os.devnull).open("w", encoding="utf-8")


def _installed_memory() -> int:
    """Return all bytes of main memory (macOS), or those that are free (Windows)."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import psutil

    return psutil.virtual_memory().available


def _meminfo(path: Path, name: str) -> int | None:
    """Return the bytes in a line `name  n kB` of one of Linux's files; None where there is no such line."""
    lines = (line.split() for line in _text(path).splitlines() if line.startswith(name))
    return next((int(words[1]) * 1024 for words in lines), None)


def _text(path: Path) -> str:
    """Return the text of one of the system's files; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
