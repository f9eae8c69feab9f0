"""Two processes that torchrun starts do what one does, and a scheduler's warning to one of them stops them all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.engine.launcher import launched
from clinvit.engine.recipe import Run
from clinvit.engine.run_folder import rank
from clinvit.engine.trainer import placement, processes

CLINVIT = Path(sys.executable).with_name("clinvit")
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
SMALL = (
    "--recipe tiny --model.size micro --model.image_size 32 --augment.size 32 --model.patch_size 8 --data.cache_px 40 "
    "--optim.batch_size 16 --optim.warmup_epochs 1 --run.precision 64-true"
).split()
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SLURM = {"SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_NTASKS_PER_NODE": "4"}


def together(*arguments, processes: int = 2) -> list[str]:
    """The command as its user starts it: by torchrun, or alone."""
    launcher = [*LAUNCHER, "--nproc-per-node", processes, "--no-python"] if processes > 1 else []
    return [str(each) for each in [*launcher, CLINVIT, *arguments]]


def run(command: list[str], seconds: float = 300) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr


def assert_close(one: Path, two: Path, tolerance: float, without: str = "") -> None:
    one, two = safetensors.torch.load_file(one), safetensors.torch.load_file(two)
    assert one.keys() == two.keys()
    for name in one.keys() - {without}:
        torch.testing.assert_close(one[name], two[name], atol=tolerance, rtol=0)


def assert_same_predictions(one: Path, two: Path, splits: dict[str, int]) -> None:
    one, two = pd.read_csv(one), pd.read_csv(two)
    assert two["id"].is_unique and two["split"].value_counts().to_dict() == splits
    pd.testing.assert_frame_equal(one, two, atol=1e-5, rtol=0)


@pytest.fixture
def environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")] + list(TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return lambda values: [monkeypatch.setenv(*item) for item in values.items()]


@pytest.mark.parametrize("started", [TORCHRUN, SLURM, SLURM | TORCHRUN | {"SLURM_PROCID": "0"}])
def test_devices_and_machines_follow_the_launcher(environment, started):
    environment(started)
    assert rank() == 5
    assert placement(Run()) == placement(Run(devices="4", nodes=2)) == (4, 2) and processes(Run()) == 8
    name = launched().name
    with pytest.raises(UserError, match=rf"run\.devices 2, but {name} started 4 .* --n.*-per-node=2"):
        placement(Run(devices="2"))
    with pytest.raises(UserError, match=rf"run\.nodes 3, but {name} started 2"):
        placement(Run(nodes=3))


def test_one_process_stands_for_itself(environment):
    assert (placement(Run()), placement(Run(devices="3")), rank()) == ((1, 1), (3, 1), 0)
    environment({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash", "LOCAL_RANK": "1"})
    assert (placement(Run(devices="2")), rank()) == ((2, 1), 1), "in a shell of SLURM's Lightning starts the others"
    environment({"SLURM_JOB_NAME": "train"})
    with pytest.raises(UserError, match=r"SLURM started 4 processes, .* set --ntasks-per-node"):
        placement(Run())
    environment({"SLURM_NTASKS": "1"})
    assert placement(Run()) == (1, 1)


def test_more_processes_than_gpus(environment, monkeypatch):
    environment(SLURM)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"sees 1 GPU: .*--gpus-per-node instead of --gpus-per-task"):
        placement(Run())


def test_machines_need_a_launcher(environment, cohort, tmp_path, capsys):
    asked = ["pretrain", "thorax", "--data", cohort(), "--out", tmp_path / "run", *SMALL, "--run.nodes", 2]
    assert main([str(each) for each in asked]) == 2
    assert "run.nodes 2: start the command on every machine by torchrun or srun" in capsys.readouterr().err


@pytest.mark.thorough
def test_finetuning(cohort, tmp_path):
    data = cohort()
    few = "--optim.epochs 2 --patch_drop 0 --model.drop_path 0 --mixup 0 --cutmix 0".split()
    for count in (1, 2):
        asked = ["finetune", "thorax", "--data", data, "--out", tmp_path / f"of{count}", *SMALL, *few]
        run(together(*asked, processes=count))
    one, two = tmp_path / "of1", tmp_path / "of2"
    assert_close(one / "model/model.safetensors", two / "model/model.safetensors", 1e-7)
    assert_same_predictions(one / "predictions.csv", two / "predictions.csv", {"val": 16, "test": 16})
    assert len(list(two.rglob("*.ckpt"))) == 1 and len(list(two.glob("tensorboard/*"))) == 1
    logs = [pd.read_csv(folder / "log.csv")["loss"] for folder in (one, two)]
    pd.testing.assert_series_equal(*logs, rtol=1e-5)


# One start for all: each takes seconds.
MIL = """
import sys
from dataclasses import replace
from pathlib import Path
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.engine.recipe import Optim, Run
from clinvit.mil.recipe import Mil
from clinvit.mil.run import train_mil
from clinvit.engine.run_folder import world_size
from clinvit.stages.processes import wait_for_first
from torch import distributed as dist

root, out, batch, names = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
if batch == 1 and world_size() > 1:
    dist.init_process_group("gloo")  # as a training before it leaves the processes
optim = Optim(epochs=2, warmup_epochs=0, batch_size=batch, base_lr=2.56, betas=(0.9, 0.999), optimizer="adam")
recipe = Mil(dropout=0.0, optim=optim, run=Run(precision="64-true", checkpoint_minutes=0))
for name in names:
    train_mil(replace(recipe, aggregator=name), read_manifest(root / "manifest.csv"), root, out / name)
    wait_for_first(out / name)
    assert (out / name / "predictions.csv").is_file()
"""


@pytest.mark.thorough
@pytest.mark.parametrize("batch, names", [(4, ("attention", "dsmil", "transmil", "clam_sb")), (1, ("self_vit_mil",))])
def test_aggregators(tmp_path, batch, names):
    """Bags of other sizes are padded otherwise; parts of the aggregators are float32 whatever the precision.

    A single bag is no work for two: the first process trains, the other waits.
    """
    rng, rows = np.random.default_rng(0), []
    for case in range(36):
        features = rng.normal(0, 1, (int(rng.integers(4, 30)), 8)).astype(np.float32)
        features[-3:, 0] += 5 * (case // 3 % 2)
        with h5py.File(tmp_path / f"s{case}.h5", "w") as file:
            file["features"], file["coords"] = features, np.zeros((len(features), 2), np.int64)
            file["coords"].attrs["tile_um"] = 112.0
        rows.append((f"s{case}", f"s{case}.tif", f"p{case}", ("train", "val", "test")[case % 3], case // 3 % 2))
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumor"])
    table.to_csv(tmp_path / "manifest.csv", index=False)
    (tmp_path / "mil.py").write_text(MIL)
    script = [sys.executable, str(tmp_path / "mil.py"), str(tmp_path)]
    run([*script, str(tmp_path / "of1"), str(batch), *names])
    run([*LAUNCHER, "--nproc-per-node", "2", *script[1:], str(tmp_path / "of2"), str(batch), *names])
    for name in names:
        one, two = tmp_path / "of1" / name, tmp_path / "of2" / name
        # Attention does not change with this bias: its gradients are rounding alone, of which Adam makes full steps.
        weights = "model/model.safetensors"
        assert_close(one / weights, two / weights, 1e-5, without="attention.w.bias")
        assert_same_predictions(one / "predictions.csv", two / "predictions.csv", {"val": 12, "test": 12})


@pytest.mark.thorough
def test_a_table_of_slides_ends(tmp_path):
    """From tiles to a table: one process tiles, two train DINO, one trains the aggregator, while the other waits."""
    brief = ["--optim.epochs", "1", "--optim.warmup_epochs", "0", "--tiles_per_slide", "16", "--resamples", "100"]
    run(together("reproduce", "slides/main", "--rows", "max", "--phantoms", "--out", tmp_path, *brief), seconds=900)
    rows = json.loads((tmp_path / "phantoms/slides/main/table.json").read_text(encoding="utf-8"))["rows"]
    states = {row["row"]: row["state"] for row in rows if row["row"] == "max"}
    assert states == {"max": "done"}


@pytest.mark.parametrize("rank, requeued", [("0", "requeue 17_3\n"), ("1", "")])
def test_a_warning_before_there_is_anything_to_train(environment, monkeypatch, tmp_path, capsys, rank, requeued):
    """While files are read for the first time, which may take longer than the job may."""
    seen, scontrol = tmp_path / "scontrol.txt", tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {seen}\n')
    scontrol.chmod(0o755)
    environment(SLURM | {"SLURM_PROCID": rank, "SLURM_JOB_ID": "20", "SLURM_ARRAY_JOB_ID": "17"})
    environment({"SLURM_ARRAY_TASK_ID": "3", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})

    def warned(options) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(60)

    monkeypatch.setattr("clinvit.cli.check.run", warned)
    before, began = signal.getsignal(signal.SIGUSR1), time.monotonic()
    assert main(["check", "thorax", "x"]) == 130 and time.monotonic() - began < 30
    assert "interrupted; repeat the command" in capsys.readouterr().err
    assert (seen.read_text() if seen.exists() else "") == requeued
    assert signal.getsignal(signal.SIGUSR1) == before


def second_of(torchrun: int) -> int:
    """The process of rank 1 that torchrun started."""
    children = Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()
    return next(int(child) for child in children if b"\0RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes())


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    "number, count, precision, tolerance",
    [
        (signal.SIGUSR1, 1, "32-true", 0),
        (signal.SIGTERM, 1, "32-true", 0),
        (signal.SIGUSR1, 2, "64-true", 1e-12),
    ],
)
def test_a_scheduler_takes_the_machine_back(cohort, tmp_path, number, count, precision, tolerance):
    """Saved, requeued once where SLURM warned, and the same command ends as if nothing had been."""
    data, encoder, seen = cohort(), "encoder/encoder.safetensors", tmp_path / "scontrol.txt"

    def asked(name: str) -> list[str]:
        # Many steps in an epoch, and no checkpoint but the one of the warning.
        more = ["--optim.batch_size", 4, "--optim.epochs", 12, "--run.checkpoint_minutes", 60]
        asked = ["pretrain", "thorax", "--data", data, "--out", tmp_path / name, *SMALL, *more]
        return [str(each) for each in [*asked, "--run.precision", precision]]

    assert main(asked("whole")) == 0
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin/scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {seen}\n')
    scontrol.chmod(0o755)
    slurm = os.environ | {"PATH": f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    folder, command = tmp_path / "run", together(*asked("run"), processes=count)
    process = subprocess.Popen(command, env=slurm, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log, limit = folder / "log.csv", time.monotonic() + 120
    while not log.exists() or log.read_text().count("\n") < 2:
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)
    os.kill(process.pid if count == 1 else second_of(process.pid), number)
    errors = process.communicate(timeout=120)[1]
    line = "clinvit: error: interrupted; repeat the command to continue where it stopped"
    assert process.returncode == 1 and line in errors, errors
    assert count > 1 or [each for each in errors.splitlines() if "error" in each] == [line]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    assert not (folder / encoder).exists()
    assert (seen.read_text() if seen.exists() else "") == "requeue 17\n" * (number == signal.SIGUSR1)
    run(command)
    assert_close(tmp_path / "whole" / encoder, folder / encoder, tolerance)
