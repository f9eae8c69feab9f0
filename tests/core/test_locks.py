"""One writer at a time: the second is told who holds it, death releases it, and what the dead left is removed."""

import errno
import fcntl
import multiprocessing
import os
import platform
import re
import time

import pytest
from clinvit.cli import main
from clinvit.core import platform as system
from clinvit.core.errors import UserError
from clinvit.core.files import remove_leftovers, remove_leftovers_of, written_aside
from clinvit.core.locks import Lock, try_lock
from clinvit.engine.recipe import Run
from clinvit.engine.run_folder import run_folder
from clinvit.tests.core.windows import msvcrt

CONTEXT = multiprocessing.get_context("fork")
HOLDER = r"\(process {} on {} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"


def hold(path, ready, shared):
    with Lock(path, path.parent, shared=shared) as lock:
        if shared:
            lock.share()
        ready.set()
        time.sleep(600)


@pytest.fixture(params=["fcntl", "msvcrt"], autouse=True)
def interface(request, monkeypatch):
    """The module and the function by which the system locks files: Linux's and macOS's, and Windows's."""
    if request.param == "fcntl":
        return fcntl, "flock"
    windows = msvcrt()
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr(system, "msvcrt", windows)
    return windows, "locking"


@pytest.fixture
def holder(tmp_path):
    """`holder(shared)` starts a process that holds `tmp_path/.lock`, until it is killed."""
    started = []

    def start(shared: bool = False):
        ready = CONTEXT.Event()
        process = CONTEXT.Process(target=hold, args=(tmp_path / ".lock", ready, shared))
        process.start()
        started.append(process)
        assert ready.wait(30)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def test_the_second_is_told_who_holds_it_and_death_releases_it(tmp_path, holder):
    process = holder()
    with pytest.raises(UserError, match=HOLDER.format(process.pid, re.escape(platform.node()))) as refused:
        Lock(tmp_path / ".lock", tmp_path)
    assert "\n" not in str(refused.value) and str(refused.value).startswith(f"{tmp_path}: another run")
    process.kill()
    process.join()
    with Lock(tmp_path / ".lock", tmp_path) as lock:
        assert lock.alone


def test_a_run_folder_in_use_is_one_line_of_the_command(tmp_path, holder, cohort, capsys):
    process = holder()
    arguments = ["pretrain", "thorax", "--recipe", "demo", "--data", cohort(), "--out", tmp_path]
    arguments += ["--optim.batch_size", 8]
    assert main([str(each) for each in arguments]) == 2
    error = capsys.readouterr().err
    assert f"process {process.pid} on " in error and error.count("\n") == 1


def test_no_clock_is_asked(tmp_path, holder, monkeypatch):
    """Neither a clock that jumps nor an old file makes a lock of the living or of the dead another."""
    process = holder()
    os.utime(tmp_path / ".lock", (0, 0))
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(UserError, match="another run"):
        Lock(tmp_path / ".lock", tmp_path)
    process.kill()
    process.join()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with Lock(tmp_path / ".lock", tmp_path) as lock:
        assert lock.alone


def test_any_number_share_but_nobody_is_alone_then(tmp_path, holder):
    holder(shared=True)
    with Lock(tmp_path / ".lock", tmp_path, shared=True) as lock:
        assert not lock.alone
    with pytest.raises(UserError, match="another run"):
        Lock(tmp_path / ".lock", tmp_path)


def test_waiting_says_for_whom(tmp_path, holder, capsys):
    process = holder()
    killer = CONTEXT.Process(target=lambda: (time.sleep(0.3), os.kill(process.pid, 9)))
    killer.start()
    with Lock(tmp_path / ".lock", "the cache", wait=True) as lock:
        assert lock.alone
    killer.join()
    assert f"the cache: waiting for process {process.pid} on " in capsys.readouterr().err


def take_and_remove(path, done):
    for _ in range(200):
        with Lock(path, path, wait=True) as lock:
            with path.with_suffix(".count").open("r+") as file:
                count = int(file.read())
                file.seek(0)
                file.write(str(count + 1))
            lock.remove()
    done.set()


def test_a_lock_that_is_removed_still_lets_one_in_at_a_time(tmp_path):
    (tmp_path / "a.count").write_text("0")
    done = [CONTEXT.Event() for _ in range(3)]
    processes = [CONTEXT.Process(target=take_and_remove, args=(tmp_path / "a.lock", event)) for event in done]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert all(event.is_set() for event in done)
    assert (tmp_path / "a.count").read_text() == "600"
    assert not (tmp_path / "a.lock").exists()


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys, interface, shared):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(*interface, refuse)
    with written_aside(tmp_path / "log.csv") as aside:
        with run_folder(tmp_path, Run(), {}, shared=shared):
            assert aside.exists(), "without a lock nobody knows whose it is"
        aside.write_text("1\n")
    assert "this file system has no locks" in capsys.readouterr().err


def test_one_of_two_gets_a_lock_without_a_name(tmp_path):
    with (tmp_path / "a").open("a") as first, (tmp_path / "a").open("a") as second:
        assert try_lock(first, tmp_path) and not try_lock(second, tmp_path)
        first.close()
        assert try_lock(second, tmp_path)


def test_a_system_without_locks_is_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr(system, "HAS_LOCKS", False)
    with (tmp_path / "a").open("a") as first, (tmp_path / "a").open("a") as second:
        assert try_lock(first, tmp_path) and try_lock(second, tmp_path)
    assert capsys.readouterr().err.count("has no locks; see to it that no other process writes here") == 1


def die_while_writing(path):
    with written_aside(path) as aside:
        aside.write_text("hal")
        os.kill(os.getpid(), 9)


def leftover(path):
    process = CONTEXT.Process(target=die_while_writing, args=(path,))
    process.start()
    process.join()
    (left,) = path.parent.glob(f".{path.stem}.aside-*")
    assert not path.exists()
    return left


def test_what_the_dead_left_is_removed_by_the_next(tmp_path):
    left = [leftover(tmp_path / name) for name in ("log.csv", "model/model.safetensors", "status/a.b.json")]
    (tmp_path / "model/.mine").touch()
    with run_folder(tmp_path, Run(), {}):
        assert not any(path.exists() for path in left)
    assert (tmp_path / "model/.mine").exists()


def test_what_others_may_be_writing_stays(tmp_path):
    own, other = leftover(tmp_path / "p.model.json"), leftover(tmp_path / "p2.csv")
    below = leftover(tmp_path / "tiles/a.h5")
    (tmp_path / "tiles/.lock").touch()
    remove_leftovers_of(tmp_path / "p.csv")
    assert not own.exists() and other.exists()
    remove_leftovers(tmp_path)
    assert not other.exists() and below.exists(), "a folder with a lock of its own"
