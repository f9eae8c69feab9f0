"""Computing threads: as many as other processes leave cores for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clinvit.core import platform
from clinvit.engine import cores
from clinvit.engine.cores import SharedCores, threads_beside

STEPS = """
import json, sys, time
from clinvit.core.platform import wait_briefly
mode = sys.argv[1]
if mode == "shared":
    wait_briefly()
import torch
from clinvit.engine.cores import SharedCores
if mode == "one":
    torch.set_num_threads(1)
shared = SharedCores() if mode == "shared" else None
model = torch.nn.TransformerEncoderLayer(192, 3, 768, batch_first=True)
optimizer = torch.optim.AdamW(model.parameters())
x = torch.randn(48, 17, 192)
def run(seconds):
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        if shared is not None:
            shared.look()
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        done += 1
    return done / (time.perf_counter() - began)
run(4)
print(json.dumps(run(8)))
"""


class Machine:
    """A machine whose other processes work as a test says."""

    def __init__(self, monkeypatch, count: int):
        self.now = self.others = self.own = 0.0
        monkeypatch.setattr(cores, "usable_cores", lambda: count)
        monkeypatch.setattr(cores, "worked_seconds", lambda: self.others + self.own)
        monkeypatch.setattr(cores.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(cores.time, "process_time", lambda: self.own)
        self.threads = count
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.threads)
        monkeypatch.setattr(torch, "set_num_threads", lambda threads: setattr(self, "threads", threads))

    def run(self, seconds: float, others: float, own: float) -> None:
        """Let time pass in which others and this process use so many cores."""
        self.now, self.others, self.own = self.now + seconds, self.others + seconds * others, self.own + seconds * own


@pytest.mark.parametrize(
    ("others", "count", "most", "threads"),
    [
        (0, 2, 2, 2), (0.2, 2, 2, 2), (1, 2, 2, 1), (0.5, 2, 2, 1),
        (7, 2, 2, 1), (4, 16, 16, 12), (4, 16, 8, 8), (0, 1, 1, 1),
    ],
)  # fmt: skip
def test_a_thread_is_given_up_for_each_core_that_others_use(others, count, most, threads):
    assert threads_beside(others, count, most) == threads


def test_threads_follow_the_load_and_come_back(monkeypatch):
    machine = Machine(monkeypatch, 4)
    shared = SharedCores()
    assert machine.threads == 4
    machine.run(2, others=2, own=2)
    shared.look()
    assert machine.threads == shared.threads == 2
    machine.run(0.5, others=0, own=2)
    shared.look()  # too early
    assert machine.threads == 2
    machine.run(1.5, others=0, own=2)
    shared.look()
    assert machine.threads == 4
    assert shared.changes == 2


def test_own_work_is_not_taken_for_others(monkeypatch):
    machine = Machine(monkeypatch, 4)
    shared = SharedCores()
    machine.run(5, others=0, own=4)
    shared.look()
    assert machine.threads == 4


def test_a_fixed_number_stays(monkeypatch):
    machine = Machine(monkeypatch, 4)
    shared = SharedCores(3)
    machine.run(9, others=4, own=0.5)
    shared.look()
    assert machine.threads == 3


def test_no_more_threads_than_control_groups_allow(monkeypatch):
    machine = Machine(monkeypatch, 2)
    machine.threads = 64
    SharedCores()
    assert machine.threads == 2


def test_where_the_system_says_nothing_all_threads_stay(monkeypatch):
    machine = Machine(monkeypatch, 4)
    monkeypatch.setattr(cores, "worked_seconds", lambda: None)
    shared = SharedCores()
    machine.run(9, others=4, own=0)
    shared.look()
    assert machine.threads == 4


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not say it")
def test_work_of_any_process_is_seen():
    before = platform.worked_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    assert platform.worked_seconds() - before > 0.4


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_a_choice_of_the_environment_stays(given):
    environment = dict(given)
    platform.wait_briefly(environment)
    assert environment == given if given else int(environment["GOMP_SPINCOUNT"]) > 0


@pytest.mark.thorough
@pytest.mark.skipif(platform.usable_cores() < 2, reason="one core: one thread in any case")
def test_beside_a_busy_process_training_is_no_slower_than_with_one_thread():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        speeds = [
            json.loads(subprocess.run(
                [sys.executable, "-c", STEPS, mode], env=environment, check=True, capture_output=True, text=True
            ).stdout)
            for mode in ("one", "shared")
        ]  # fmt: skip
    finally:
        busy.kill()
        busy.wait()
    assert speeds[1] > 0.7 * speeds[0]
