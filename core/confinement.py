"""A process that may read files and compute, and nothing else: Linux's seccomp with a closed list of system calls.

Decoders are C libraries that read what strangers wrote. One that is taken over by a file can then open no connection,
start no program, and write, rename or remove no file; what it may still do is to give a wrong result. macOS and
Windows have nothing that a process can ask for without rights of its own: there this does nothing.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import NamedTuple

# What reading needs. Names with their numbers of x86-64, then of 64-bit ARM where there is one.
_CALLS = """
read:0/63 write:1/64 readv:19/65 writev:20/66 pread64:17/67 preadv:295/69 pwrite64:18/68 lseek:8/62 close:3/57
close_range:436/436 dup:32/23 dup2:33 dup3:292/24 fcntl:72/25 flock:73/32 stat:4 lstat:6 fstat:5/80
newfstatat:262/79 statx:332/291 access:21 faccessat:269/48 faccessat2:439/439 readlink:89 readlinkat:267/78
getdents:78 getdents64:217/61 getcwd:79/17 statfs:137/43 fstatfs:138/44 fadvise64:221/223 readahead:187/213
mmap:9/222 munmap:11/215 mremap:25/216 mprotect:10/226 madvise:28/233 mincore:27/232 brk:12/214
membarrier:324/283 mlock:149/228 munlock:150/229 get_mempolicy:239/236 set_mempolicy:238/237 mbind:237/235
futex:202/98 set_robust_list:273/99 get_robust_list:274/100 rseq:334/293 set_tid_address:218/96 arch_prctl:158
prctl:157/167 exit:60/93 exit_group:231/94 restart_syscall:219/128 rt_sigaction:13/134 rt_sigprocmask:14/135
rt_sigreturn:15/139 rt_sigpending:127/136 rt_sigtimedwait:128/137 rt_sigsuspend:130/133 sigaltstack:131/132
setitimer:38/103 getitimer:36/102 alarm:37 timer_create:222/107 timer_settime:223/110 timer_delete:226/111
nanosleep:35/101 clock_nanosleep:230/115 clock_gettime:228/113 clock_getres:229/114 gettimeofday:96/169 time:201
times:100/153 getrusage:98/165 sched_yield:24/124 sched_getaffinity:204/123 sched_setaffinity:203/122
sched_getparam:143/121 sched_getscheduler:145/120 sched_get_priority_max:146/125 sched_get_priority_min:147/126
getcpu:309/168 getpid:39/172 gettid:186/178 getppid:110/173 getuid:102/174 geteuid:107/175 getgid:104/176
getegid:108/177 getpgrp:111 uname:63/160 sysinfo:99/179 getrandom:318/278 getrlimit:97/163 poll:7 ppoll:271/73
select:23 pselect6:270/72 epoll_create1:291/20 epoll_ctl:233/21 epoll_wait:232 epoll_pwait:281/22
eventfd2:290/19 pipe:22 pipe2:293/59
"""
# What writing needs beyond that.
_WRITES = """
creat:85 mkdir:83 mkdirat:258/34 rmdir:84 unlink:87 unlinkat:263/35 rename:82 renameat:264/38 renameat2:316/276
truncate:76/45 ftruncate:77/46 fallocate:285/47 fsync:74/82 fdatasync:75/83 chmod:90 fchmod:91/52 fchmodat:268/53
utimensat:280/88 umask:95/166 symlink:88 symlinkat:266/36 mknodat:259/33
"""
_MACHINES = {"x86_64": 0, "aarch64": 1}
# Codes of linux/audit.h, and of the calls that are allowed with some arguments only.
_AUDIT = (0xC000003E, 0xC00000B7)
_SECCOMP = (317, 277)
_OPEN, _OPENAT, _IOCTL, _CLONE = (2, None), (257, 56), (16, 29), (56, 220)
_KILL, _TGKILL, _PRLIMIT = (62, 129), (234, 131), (302, 261)
# Any of these flags makes or changes a file: write only, read and write, create, truncate, append, unnamed.
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000 if os.name == "posix" else 0
# Asks what a terminal is, how much is to be read, and whether to wait or to inherit: not what types into a terminal.
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_THREAD = 0x10000  # CLONE_THREAD: a thread of this process, no process
_NO_NEW_PRIVILEGES, _SET_FILTER, _ALL_THREADS = 38, 1, 1
_LOAD, _EQUAL, _ANY_OF, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


class _Rule(NamedTuple):
    """One call that is allowed if an argument is as wanted: one of `values`, or with or without any bit of `bits`."""

    number: tuple[int | None, int | None]
    argument: int
    values: tuple[int, ...] = ()
    bits: int = 0
    wanted: bool = True
    refusal: int = errno.EACCES


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def confine(*, writes: bool = False) -> bool:
    """Shut this process and its threads in, for as long as they live; return whether the system does that.

    Every other call fails with an error that libraries take for an old kernel's (ENOSYS), opening for writing with
    EACCES. Nothing changes where seccomp is missing or forbidden (other systems and machines, some containers).

    Args:
        writes: Whether files and folders may be made, changed and removed.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None or sys.maxsize < 2**32:
        return False
    program = _program(machine, os.getpid(), writes)
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    filtering = _Program(len(program) // 8, program)
    return system.syscall(_SECCOMP[machine], _SET_FILTER, _ALL_THREADS, ctypes.byref(filtering)) == 0


def _program(machine: int, process: int, writes: bool) -> bytes:
    """Return the filter (classic BPF): of struct seccomp_data the call is at 0, the machine at 4, arguments from 16."""
    own = (process,)
    rules = [
        _Rule(_CLONE, 0, bits=_THREAD, refusal=errno.EPERM),
        _Rule(_IOCTL, 1, _IOCTLS, refusal=errno.ENOTTY),
        _Rule(_KILL, 0, own, refusal=errno.EPERM),
        _Rule(_TGKILL, 0, own, refusal=errno.EPERM),
        _Rule(_PRLIMIT, 0, (0, process), refusal=errno.EPERM),
    ]
    allowed = _numbers(machine, _CALLS + _WRITES if writes else _CALLS)
    if writes:
        allowed += [number for call in (_OPEN, _OPENAT) if (number := call[machine]) is not None]
    else:
        rules += [_Rule(_OPEN, 1, bits=_WRITING, wanted=False), _Rule(_OPENAT, 2, bits=_WRITING, wanted=False)]
    code = [_step(_LOAD, 4), _step(_EQUAL, _AUDIT[machine], 1, 0), _refuse(errno.ENOSYS), _step(_LOAD, 0)]
    # Numbers of the x32 interface of the same machine.
    code += [_step(_AT_LEAST, 0x40000000, 0, 1), _refuse(errno.ENOSYS)]
    for rule in rules:
        if (number := rule.number[machine]) is not None:
            check = _check(rule)
            code += [_step(_EQUAL, number, 0, len(check)), *check]
    for number in allowed:
        code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    return b"".join([*code, _refuse(errno.ENOSYS)])


def _check(rule: _Rule) -> list[bytes]:
    """Return the steps that end a call by its argument, of which the low 32 bits are looked at."""
    code = [_step(_LOAD, 16 + 8 * rule.argument)]
    for value in rule.values:
        code += [_step(_EQUAL, value, 0, 1), _step(_RETURN, _ALLOW)]
    if rule.bits:
        code += [_step(_ANY_OF, rule.bits, *((0, 1) if rule.wanted else (1, 0))), _step(_RETURN, _ALLOW)]
    return [*code, _refuse(rule.refusal)]


def _numbers(machine: int, calls: str) -> list[int]:
    found = (call.partition(":")[2].split("/") for call in calls.split())
    return [int(numbers[machine]) for numbers in found if len(numbers) > machine]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERROR | number)
