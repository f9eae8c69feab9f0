"""Writing never follows a link, never changes the umask, and keeps what is private from its first byte on."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from clinvit.core.alone import file_alone, folder_alone
from clinvit.core.errors import UserError
from clinvit.core.files import open_own, own_folder, refuse_foreign, write_json, write_text, written_aside


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim.txt"
    path.write_text("not ours")
    yield path
    assert path.read_text() == "not ours" and stat.S_IMODE(path.stat().st_mode) == 0o644


def linked(path: Path, victim: Path, how: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(victim) if how == "symbolic" else path.hardlink_to(victim)
    return path


@pytest.mark.parametrize("how", ["symbolic", "hard"])
@pytest.mark.parametrize("mode", ["a", "a+", "ab", "r+b"])
def test_nothing_is_opened_for_writing_through_a_link(tmp_path, victim, how, mode):
    path = linked(tmp_path / "shared" / "cache", victim, how)
    with pytest.raises(UserError, match="cache: a link, or no file of its own"):
        open_own(path, mode, private=True)
    with pytest.raises(UserError, match="a link"):
        refuse_foreign(path)


@pytest.mark.parametrize("how", ["symbolic", "hard"])
def test_a_lock_that_is_a_link_is_refused(tmp_path, victim, how):
    linked(tmp_path / "shared" / ".p.csv.lock", victim, how)
    with pytest.raises(UserError, match="a link"), file_alone(tmp_path / "shared" / "p.csv"):
        pass
    linked(tmp_path / "run" / ".lock", victim, how)
    with pytest.raises(UserError, match="a link"), folder_alone(tmp_path / "run"):
        pass


def test_a_link_that_leads_nowhere_makes_no_file_there(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "planted")
    with pytest.raises(UserError, match="a link"):
        open_own(tmp_path / "lock", "a")
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("mode", ["a", "a+"])
def test_a_pipe_is_not_waited_for(tmp_path, mode):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="no file of its own"):
        open_own(tmp_path / "pipe", mode)


def test_a_folder_within_ours_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="a link"):
        own_folder(tmp_path / "checkpoints")
    assert own_folder(tmp_path / "a" / "b").is_dir()


def test_a_link_in_place_of_a_result_is_replaced(tmp_path, victim):
    write_text(linked(tmp_path / "p.csv", victim, "symbolic"), "ours")
    assert (tmp_path / "p.csv").read_text() == "ours" and not (tmp_path / "p.csv").is_symlink()


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_rights_are_those_of_the_umask_and_private_files_are_the_owners(tmp_path, umask, mode):
    script = f"""if True:
        import os, sys
        from pathlib import Path
        os.umask({umask})
        os.umask = None  # not even asked for
        from clinvit.core.files import open_own, write_json
        write_json(Path(sys.argv[1], "open.json"), {{}})
        write_json(Path(sys.argv[1], "key.json"), {{}}, private=True)
        open_own(Path(sys.argv[1], "cache"), "ab").close()
        open_own(Path(sys.argv[1], "journal"), "ab", private=True).close()
    """
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"open.json": mode, "cache": mode, "key.json": 0o600, "journal": 0o600}


def test_a_private_file_of_an_older_version_is_closed_to_others(tmp_path):
    (tmp_path / "journal").touch(0o644)
    open_own(tmp_path / "journal", "ab", private=True).close()
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o600


def test_a_private_file_is_never_readable_by_others(tmp_path):
    seen, done = set(), threading.Event()

    def look():
        while not done.is_set():
            with os.scandir(tmp_path) as entries:
                for entry in entries:
                    try:
                        seen.add(stat.S_IMODE(entry.stat().st_mode))
                    except FileNotFoundError:
                        continue

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(200):
        write_json(tmp_path / "key.json", {"salt": "x"}, private=True)
    done.set()
    thread.join()
    assert seen == {0o600}


def test_two_writers_at_once_have_files_of_their_own(tmp_path):
    with written_aside(tmp_path / "a.csv") as first, written_aside(tmp_path / "a.csv") as second:
        assert first != second and first.suffix == second.suffix == ".csv"
