"""Linux, macOS and Windows: what one of them lacks costs nobody the command; cores, time limits and memory."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from clinvit.core import platform
from clinvit.tests.core.windows import SITE
from PIL import Image

COMMANDS = "import json, sys; from clinvit.cli import main; print([main(each) for each in json.loads(sys.argv[1])])"
SMALL = [
    "--model.size=micro", "--model.image_size=32", "--model.patch_size=8", "--optim.epochs=1",
    "--optim.warmup_epochs=0", "--optim.batch_size=8", "--augment.size=32", "--run.workers=1",
]  # fmt: skip


@pytest.fixture
def elsewhere(python_after):
    """`elsewhere(code, *arguments)` runs Python without anything that Windows lacks."""
    return partial(python_after, SITE)


@pytest.mark.slow
def test_the_command_runs_where_much_is_missing(elsewhere, cohort, tmp_path):
    data = str(cohort(patients=20))
    commands = [
        ["check", "thorax", data],
        ["pretrain", "thorax", "--data", data, "--out", "pre", *SMALL],
        ["finetune", "thorax", "--data", data, "--out", "fine", "--encoder", "pre/encoder", *SMALL],
        ["predict", "thorax", "--model", "fine/model", data, "--out", "new.csv"],
        ["evaluate", "fine/predictions.csv", "--out", "report", "--resamples", "50"],
    ]
    done = elsewhere(COMMANDS, json.dumps(commands))
    assert done.stdout.splitlines()[-1:] == ["[0, 0, 0, 0, 0]"], done.stderr
    assert (tmp_path / "report" / "report.html").is_file()
    assert set(pd.read_csv(tmp_path / "new.csv")["status"]) == {"ok"}
    notes = [line for line in done.stderr.splitlines() if "has no locks" in line]
    assert len(notes) == len(set(notes)) and any(line.startswith("note: fine: this system") for line in notes)


@pytest.mark.slow
def test_a_file_that_kills_its_process_or_hangs_costs_that_file_also_there(elsewhere, tmp_path):
    code = (
        "import sys; from pathlib import Path; from clinvit.datasets.loading.isolation import isolated\n"
        "from clinvit.datasets.loading.limits import Limit\n"
        "from clinvit.tests.reliability.deadly import DeadlyReader, Enlarging\n"
        "files = [Path(name) for name in sys.argv[1:]]\n"
        "limit = Limit('CLINVIT_READ_SECONDS', 8, 'seconds')\n"
        "for found in isolated(Enlarging(DeadlyReader(32)), files, 1, time=limit):\n"
        "    print(found if isinstance(found, Exception) else (found.shape, int(found.max())))\n"
    )
    (tmp_path / "killed").write_text("SIGSEGV")
    (tmp_path / "hanging").write_text("hang")
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(tmp_path / "good.png")
    done = elsewhere(code, "killed", "hanging", "good.png")
    killed, hanging, good = done.stdout.splitlines()
    assert killed.startswith("killed: reading it took the process down (SIGSEGV)")
    assert hanging.startswith("hanging: reading it took longer than 8 s")
    assert good == "((6400, 6400), 7)", "a large array comes whole"


def test_the_time_limit_ends_native_code_that_holds_pythons_lock(elsewhere):
    call = (
        "import ctypes; from clinvit.core.platform import end_after; end_after(0.3); ctypes.PyDLL(None).usleep(900_000)"
    )
    assert elsewhere(call).returncode == 1
    assert subprocess.run([sys.executable, "-c", call], check=False).returncode == platform.TIME_OVER


def test_a_time_limit_can_be_called_off(elsewhere):
    call = (
        "from clinvit.core.platform import end_after, end_not; import time; end_after(0.3); end_not(); time.sleep(0.9)"
    )
    assert elsewhere(call).returncode == 0
    assert subprocess.run([sys.executable, "-c", call], check=False).returncode == 0


def test_without_affinity_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setattr(platform, "_OWN_CGROUP", Path("/none"))
    assert platform.usable_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert platform.usable_cores() == 1


@pytest.mark.parametrize(
    "own, files, cores",
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2),
        ("0::/a\n", {"a/cpu.max": "5000 100000\n"}, 1),
        ("4:cpu,cpuacct:/x\n2:memory:/\n", {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("0::/\n", {}, 16),
    ],
)  # fmt: skip
def test_a_quota_bounds_the_cores(monkeypatch, tmp_path, own, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(platform, "_CGROUPS", tmp_path)
    monkeypatch.setattr(platform, "_OWN_CGROUP", tmp_path / "own")
    assert platform.usable_cores() == cores


def test_bytes_are_read_at_their_place_with_and_without_pread(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(100)))
    with (tmp_path / "file").open("rb", buffering=0) as file:
        assert platform.read_at(file, 3, 50) == b"234"
        monkeypatch.delattr(os, "pread")
        assert platform.read_at(file, 3, 60) == b"<=>"


def test_peak_and_free_memory_are_known_without_proc(monkeypatch):
    peak, free = platform.peak_memory(), platform.free_memory()
    monkeypatch.setattr(platform, "_meminfo", lambda *_: None)
    assert platform.peak_memory() == pytest.approx(peak, rel=0.5)
    assert platform.free_memory() >= 0.9 * free
    psutil = pytest.importorskip("psutil")  # as on Windows, whose numbers for a process have other names
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delattr(os, "sysconf")
    facts = SimpleNamespace(peak_wset=peak)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: facts)
    assert platform.peak_memory() == peak
    assert platform.free_memory() == pytest.approx(free, rel=0.5)


@pytest.fixture
def windows(monkeypatch):
    """Files that somebody has open can be neither renamed nor removed, as on Windows; gives those that are open."""
    held = []

    def refusing(change):
        def changed(path, *arguments, **options):
            if any(not file.closed and Path(file.name) == path for file in held):
                raise PermissionError(13, "used by another process", str(path))
            return change(path, *arguments, **options)

        return changed

    monkeypatch.setattr(platform, "WINDOWS", True)
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    return held


def test_a_journal_is_renamed_and_goes_on(windows, tmp_path):
    old, new = tmp_path / "aside", tmp_path / "journal"
    file = old.open("ab", buffering=0)
    windows.append(file)
    file.write(b"1\n")
    with platform.rename_open(file, old, new) as renamed:
        renamed.write(b"2\n")
    assert new.read_bytes() == b"1\n2\n" and not old.exists()


def test_a_lock_goes_after_it_is_closed_and_what_others_have_open_stays(windows, tmp_path):
    own, other = (tmp_path / name for name in ("own", "other"))
    windows += [own.open("w"), other.open("w")]
    platform.remove_open(windows[0], own)
    assert not own.exists()
    assert not platform.remove_unless_open(other) and other.exists()
    windows[1].close()
    assert platform.remove_unless_open(other) and not other.exists()


def test_a_refusal_that_is_not_of_windows_is_an_error(windows, monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "WINDOWS", False)
    windows.append((tmp_path / "file").open("ab", buffering=0))
    with pytest.raises(PermissionError):
        platform.rename_open(windows[0], tmp_path / "file", tmp_path / "new")
    with pytest.raises(PermissionError):
        platform.remove_open(windows[0], tmp_path / "file")


def test_a_secret_file_is_the_owners(monkeypatch, tmp_path, capsys):
    (tmp_path / "key").touch()
    platform.hide_from_others(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600 and not capsys.readouterr().err
    monkeypatch.setattr(platform, "WINDOWS", True)
    platform.hide_from_others(tmp_path / "key")
    assert "whoever may open its folder may read it" in capsys.readouterr().err


def test_gpus_are_named_by_the_driver_without_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "_GPUS", tmp_path)
    monkeypatch.setattr(platform, "usable_cores", lambda: 16)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert platform.device_words() == "the CPU, 16 cores"
    for place in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / place).mkdir()
    assert platform.device_words() == "2 GPU(s), 16 cores"
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 63\n")
    assert platform.device_words() == "2 GPU(s) (NVIDIA H200), 16 cores"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert platform.device_words() == "the CPU, 16 cores"
