"""Windows on Linux: its locks, and a Python without what Windows lacks."""

import fcntl
import os
import struct
from types import ModuleType

# Run by every Python that is started with this folder on its path, also by processes of processes.
SITE = """
import multiprocessing, os, signal, sys
for name in ("sched_getaffinity", "posix_fadvise", "pread", "readv", "sysconf"):
    delattr(os, name)
for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "setitimer"):
    delattr(signal, name)
for name in ("fcntl", "resource"):
    sys.modules[name] = None
multiprocessing.get_all_start_methods = lambda: ["spawn"]
"""


def msvcrt() -> ModuleType:
    """Locks of ranges of bytes that belong to an open file, as Windows has them, by Linux's own (`F_OFD_SETLK`)."""
    module = ModuleType("msvcrt")
    module.LK_UNLCK, module.LK_NBLCK = 0, 2

    def locking(handle: int, mode: int, count: int) -> None:
        kind = fcntl.F_UNLCK if mode == module.LK_UNLCK else fcntl.F_WRLCK
        start = os.lseek(handle, 0, os.SEEK_CUR)
        try:
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, count, 0))
        except BlockingIOError as error:
            raise PermissionError(*error.args) from None

    module.locking = locking
    return module
