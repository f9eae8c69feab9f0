"""Thousands of steps of every training: nothing grows. A NaN is named, and the run goes on from before it."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from clinvit.tests.reliability.commands import CONTEXT, assert_same, check_whole, files, finish, show
from clinvit.tests.reliability.disturbances import poisoned, watched
from clinvit.tests.reliability.work import Work

TRAININGS = ["pretrain", "dino", "finetune", "mil"]
SAMPLES = 60


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Work(tmp_path_factory.mktemp("long"))


@pytest.fixture(scope="module")
def table(request):
    """Rows that are shown when all are there."""
    rows = [
        "| training | steps | epochs | MiB after a third, at the end | open files | threads | log bytes per epoch |"
    ]
    rows.append("|---|---|---|---|---|---|---|")
    yield rows
    show(request, "\n" + "\n".join(rows))


def start(target: Callable, *arguments):
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process


@pytest.mark.parametrize(
    "steps", [pytest.param(300, marks=pytest.mark.reliability), pytest.param(10_000, marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("name", TRAININGS)
def test_nothing_grows(work, table, name, steps):
    out, metrics = work.root / f"long-{steps}" / name, work.root / f"{name}-{steps}.json"
    arguments = [str(each) for each in work.arguments(name, out, epochs=steps)]
    began = time.monotonic()
    process = start(watched, arguments, work.output, steps, SAMPLES, metrics)
    minutes = (time.monotonic() - began) / 60
    assert process.exitcode == 0, work.output.read_text()
    seen = pd.DataFrame(json.loads(metrics.read_text()))
    warm, late = seen.iloc[SAMPLES // 3 : SAMPLES // 2], seen.iloc[-SAMPLES // 6 :]
    early_mib, late_mib = (part["bytes"].median() / 2**20 for part in (warm, late))
    assert late_mib - early_mib < 8 + 0.01 * early_mib, seen["bytes"].tolist()
    for what in ("files", "threads"):
        assert late[what].max() <= warm[what].max(), seen[what].tolist()
    epochs = int(seen["epoch"].iloc[-1])
    logs = sum(path.stat().st_size for path in files(out).values() if "tfevents" in path.name or path.name == "log.csv")
    # A run that does not write to a terminal says every half minute how far it is.
    assert logs < 4096 + 1024 * epochs and work.output.stat().st_size < 4096 + 400 * minutes
    table.append(
        f"| {name} | {steps} | {epochs} | {early_mib:.1f}, {late_mib:.1f} | {late['files'].max()} | "
        f"{late['threads'].max()} | {logs / epochs:.0f} |"
    )


@pytest.mark.reliability
@pytest.mark.parametrize("name", TRAININGS)
def test_a_nan_is_named_and_the_run_goes_on_from_before_it(work, name):
    whole, out = work.root / "whole" / name, work.root / "poisoned" / name
    finish(work.arguments(name, whole), work.output)
    process = start(poisoned, [str(each) for each in work.arguments(name, out)], work.output, 13)
    said = work.output.read_text().splitlines()
    assert process.exitcode == 1 and said[-1].startswith("clinvit: error: the loss is nan at epoch "), said
    assert not any("Traceback" in line for line in said)
    named = re.search("its cases: (.*?)\\. Look at", said[-1])[1].split(", ")
    assert named == json.loads(Path(f"{work.output}.ids").read_text()) and len(named) >= 1
    last = torch.load(out / "run/checkpoints/last.ckpt", weights_only=True)
    assert 0 < last["global_step"] <= 13
    assert all(value.isfinite().all() for value in last["state_dict"].values() if value.is_floating_point())
    check_whole(out)
    finish(work.arguments(name, out), work.output)
    assert_same(out, whole)
