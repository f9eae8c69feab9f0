"""Interrupted and continued equals never interrupted; what does not belong together is refused."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import yaml
from clinvit.cli import main
from clinvit.core.errors import RunError, UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.engine.checkpoint import find
from clinvit.engine.run_folder import run_folder
from clinvit.engine.schedule import learning_rate, scaled_rate
from clinvit.engine.training import Training
from clinvit.finetune.run import finetune
from clinvit.pretrain.masked import MaskedPretraining
from clinvit.pretrain.run import pretrain


class Killed(Exception):
    pass


def stop_at(monkeypatch, epoch: int, batch: int, error: BaseException):
    """Let training die in the middle of an epoch."""
    step = Training.training_step

    def dying(self, data, index):
        if (self.current_epoch, index) == (epoch, batch):
            raise error
        return step(self, data, index)

    monkeypatch.setattr(Training, "training_step", dying)
    return lambda: monkeypatch.setattr(Training, "training_step", step)


def equal_files(a, b) -> bool:
    first, second = safetensors.torch.load_file(a), safetensors.torch.load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_pretraining_goes_on_exactly(cohort, small_recipes, tmp_path, monkeypatch):
    manifest, recipe = read_manifest(cohort()), small_recipes[0]
    pretrain(recipe, manifest, tmp_path / "whole", tmp_path / "cache")
    repair = stop_at(monkeypatch, 2, 1, Killed())
    with pytest.raises(Killed):
        pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    assert not (tmp_path / "cut" / "encoder").exists()
    repair()
    pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    weights = "encoder/encoder.safetensors"
    assert equal_files(tmp_path / "whole" / weights, tmp_path / "cut" / weights)
    assert (tmp_path / "cut" / "reconstructions.png").stat().st_size > 1000
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "cut")]
    assert [line.split(",")[:2] for line in logs[0]] == [line.split(",")[:2] for line in logs[1]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_warned_run_saves_within_the_epoch_and_goes_on_exactly(cohort, small_recipes, tmp_path, monkeypatch, number):
    """As a scheduler does it: a signal, some seconds, the end; SLURM is asked to start the job again. Or by Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    manifest, recipe = read_manifest(cohort(), ()), small_recipes[0]
    recipe = replace(recipe, optim=replace(recipe.optim, accumulate=2, ema_decay=0.9))
    pretrain(recipe, manifest, tmp_path / "whole", tmp_path / "cache")
    seen = asked_of_slurm(monkeypatch, tmp_path)
    start = MaskedPretraining.training_step

    def warned(self, batch, index):
        if (self.current_epoch, index) == (1, 2):
            os.kill(os.getpid(), number)
        return start(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(MaskedPretraining, "training_step", warned)
        with pytest.raises(KeyboardInterrupt):
            pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache")
    checkpoint = torch.load(find(tmp_path / "run"), weights_only=True)
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["completed"]
    assert (checkpoint["epoch"], batches) == (1, 4), "the step is finished, and no other is begun"
    assert seen.exists() == (number == signal.SIGUSR1)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert handlers == before, "handlers are put back"

    indices = []

    def noted(self, batch, index):
        indices.append((self.current_epoch, index))
        return start(self, batch, index)

    monkeypatch.setattr(MaskedPretraining, "training_step", noted)
    pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache")
    assert indices[0] == (1, 4)
    whole, run = (pd.read_csv(tmp_path / name / "log.csv").drop(columns="seconds") for name in ("whole", "run"))
    pd.testing.assert_frame_equal(whole, run)
    assert equal_files(*(tmp_path / run / "encoder/encoder.safetensors" for run in ("whole", "run")))


def asked_of_slurm(monkeypatch, folder):
    """A SLURM of which `scontrol` alone is there; gives the file in which it notes what it was asked."""
    seen, bin_folder = folder / "scontrol.txt", folder / "bin"
    bin_folder.mkdir()
    (bin_folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {seen}\n')
    (bin_folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    return seen


def test_a_long_epoch_is_saved_within(cohort, small_recipes, tmp_path, monkeypatch):
    manifest, recipe = read_manifest(cohort(), ()), small_recipes[0]
    recipe = replace(recipe, run=replace(recipe.run, checkpoint_minutes=1e-6))
    stop_at(monkeypatch, 0, 2, MemoryError())
    with pytest.raises(MemoryError):
        pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache")
    loops = torch.load(find(tmp_path / "run"), weights_only=True)["loops"]["fit_loop"]
    assert loops["epoch_loop.batch_progress"]["current"]["completed"] == 1


def test_a_profile_opens_as_a_trace(cohort, small_recipes, tmp_path):
    recipe = replace(small_recipes[0], run=replace(small_recipes[0].run, profile=True))
    pretrain(recipe, read_manifest(cohort(), ()), tmp_path / "run", tmp_path / "cache")
    with gzip.open(tmp_path / "run/trace.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    assert any("addmm" in event.get("name", "") for event in events)


def test_the_profile_flag_changes_no_weight(cohort, tmp_path):
    data = cohort()
    small = [*OPTIONS, "--optim.epochs", "3"]
    for name, flag in (("plain", []), ("profiled", ["--profile"])):
        assert main(["pretrain", "thorax", "--data", str(data), "--out", str(tmp_path / name), *small, *flag]) == 0
    assert (tmp_path / "profiled/trace.json.gz").is_file() and not (tmp_path / "plain/trace.json.gz").exists()
    assert equal_files(*(tmp_path / name / "encoder/encoder.safetensors" for name in ("plain", "profiled")))


@pytest.mark.parametrize("kind", ["images", "clips"])
def test_parts_and_recomputed_blocks_change_no_loss(
    cohort, clip_cohort, small_recipes, small_clip_recipes, tmp_path, kind
):
    """A batch in two parts sees the same cases, crops and masks, and an epoch ends with a whole step: in batches of 14,
    48 (36) training cases are three (two) steps either way.
    """
    recipe = (small_recipes if kind == "images" else small_clip_recipes)[0]
    manifest = read_manifest((cohort if kind == "images" else clip_cohort)(), ())
    recipe = replace(recipe, optim=replace(recipe.optim, batch_size=14, base_lr=1e-3))
    saving = replace(recipe, model=replace(recipe.model, checkpoint_blocks=True))
    parts = replace(recipe, optim=replace(recipe.optim, accumulate=2))
    logs = {}
    for name, asked in (("whole", recipe), ("saving", saving), ("parts", parts)):
        pretrain(asked, manifest, tmp_path / name, tmp_path / "cache")
        logs[name] = read_log(tmp_path / name / "log.csv")
    assert equal_files(*(tmp_path / name / "encoder/encoder.safetensors" for name in ("whole", "saving")))
    assert logs["parts"] == pytest.approx(logs["whole"], rel=1e-3)


def test_finetuning_goes_on_exactly_with_everything_random(cohort, small_recipes, tmp_path, monkeypatch):
    """Drop path, mixing, dropped patches, the moving average and the best epoch survive an interruption."""
    manifest, recipe = read_manifest(cohort()), small_recipes[1]
    recipe = replace(
        recipe, mixup=0.4, cutmix=0.5, patch_drop=0.3, model=replace(recipe.model, drop_path=0.3),
        optim=replace(recipe.optim, epochs=5, ema_decay=0.9),
    )  # fmt: skip
    finetune(recipe, manifest, tmp_path / "whole", tmp_path / "cache")
    repair = stop_at(monkeypatch, 3, 0, Killed())
    with pytest.raises(Killed):
        finetune(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    repair()
    finetune(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    assert equal_files(tmp_path / "whole/model/model.safetensors", tmp_path / "cut/model/model.safetensors")
    assert (tmp_path / "whole/predictions.csv").read_bytes() == (tmp_path / "cut/predictions.csv").read_bytes()


def test_clips_go_on_exactly(clip_cohort, small_clip_recipes, tmp_path, monkeypatch):
    """Both stages on clips: dual masks, repeated draws, a plateau that has been counted half."""
    manifest, (pre, fine) = read_manifest(clip_cohort()), small_clip_recipes
    optim = replace(fine.optim, epochs=4, warmup_epochs=0, schedule="plateau")
    fine = replace(fine, optim=optim, mixup=0.4, patch_drop=0.3)
    stages = {"encoder/encoder.safetensors": (pretrain, pre), "model/model.safetensors": (finetune, fine)}
    for weights, (stage, recipe) in stages.items():
        whole, cut = tmp_path / f"{stage.__name__}-whole", tmp_path / f"{stage.__name__}-cut"
        stage(recipe, manifest, whole, tmp_path / "cache")
        repair = stop_at(monkeypatch, 2, 1, Killed())
        with pytest.raises(Killed):
            stage(recipe, manifest, cut, tmp_path / "cache")
        repair()
        stage(recipe, manifest, cut, tmp_path / "cache")
        assert equal_files(whole / weights, cut / weights)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_rate_follows_the_schedule_at_every_step(cohort, small_recipes, tmp_path, monkeypatch, accumulate):
    recipe = small_recipes[0]
    optim = replace(recipe.optim, epochs=3, warmup_epochs=1.5, min_lr=1e-4, accumulate=accumulate)
    seen = []

    def look(self, *_):
        seen.append(self.optimizers().param_groups[0]["lr"])

    monkeypatch.setattr(Training, "on_train_batch_start", look)
    pretrain(replace(recipe, optim=optim), read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    batches = 3 * accumulate  # 48 training cases in batches of 16, each in `accumulate` parts
    expected = [
        learning_rate(i // accumulate / 3, peak=scaled_rate(optim.base_lr, 16), minimum=1e-4, warmup=1.5, epochs=3)
        for i in range(3 * batches)
    ]
    assert seen == pytest.approx(expected)


def test_every_epoch_has_its_own_order_crops_and_masks(cohort, small_recipes, tmp_path, monkeypatch):
    seen = []
    loss = MaskedPretraining.loss

    def look(self, batch):
        visible = self.masks[0]
        seen.append((tuple(batch["row"].tolist()), int(batch["image"].sum()), tuple(visible[0].tolist())))
        return loss(self, batch)

    monkeypatch.setattr(MaskedPretraining, "loss", look)
    pretrain(small_recipes[0], read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    assert len(seen) == 4 * 3
    for part in zip(*seen):
        assert len(set(part)) == len(seen)


def test_ctrl_c_is_an_interruption(cohort, small_recipes, tmp_path, monkeypatch):
    stop_at(monkeypatch, 1, 0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pretrain(small_recipes[0], read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


def test_a_second_ctrl_c_ends_at_once(cohort, small_recipes, tmp_path, monkeypatch, capfd):
    start, ended = MaskedPretraining.training_step, []

    def twice(self, batch, index):
        if (self.current_epoch, index) == (1, 1):
            os.kill(os.getpid(), signal.SIGINT)
            assert "Once more ends it at once" in capfd.readouterr().err
            os.kill(os.getpid(), signal.SIGINT)
            ended.append(False)
        return start(self, batch, index)

    monkeypatch.setattr(MaskedPretraining, "training_step", twice)
    recipe = replace(small_recipes[0], run=replace(small_recipes[0].run, checkpoint_minutes=0))
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    batches = torch.load(find(tmp_path / "run"), weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert not ended and batches["is_last_batch"], "the state is that of the epoch before"


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_finished_run_is_extended(cohort, small_recipes, tmp_path, capsys, schedule):
    """By more epochs: as if never ended at a constant rate; else at the rate of the longer schedule from there on."""
    manifest, recipe = read_manifest(cohort(), ()), small_recipes[0]
    recipe = replace(recipe, optim=replace(recipe.optim, epochs=2, schedule=schedule, min_lr=1e-5))
    longer = replace(recipe, optim=replace(recipe.optim, epochs=4))
    pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache")
    pretrain(longer, manifest, tmp_path / "run", tmp_path / "cache")
    assert f"{tmp_path / 'run'}: goes on, for 4 epochs instead of 2" in capsys.readouterr().out
    pretrain(longer, manifest, tmp_path / "whole", tmp_path / "cache")
    logs = [pd.read_csv(tmp_path / name / "log.csv") for name in ("run", "whole")]
    assert logs[0]["epoch"].tolist() == [1, 2, 3, 4]
    assert logs[0]["lr"].tolist()[2:] == logs[1]["lr"].tolist()[2:]
    weights = [tmp_path / name / "encoder/encoder.safetensors" for name in ("run", "whole")]
    assert equal_files(*weights) == (schedule == "constant")
    with pytest.raises(UserError, match=r"a run of 4 epochs.*optim\.epochs 2 would not be its beginning"):
        pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache")
    with pytest.raises(UserError, match=r"mask_ratio was"):
        other = replace(longer, mask_ratio=0.5, optim=replace(longer.optim, epochs=6))
        pretrain(other, manifest, tmp_path / "run", tmp_path / "cache")


def test_the_first_rate_of_an_extended_run_is_the_longer_schedules(cohort, small_recipes, tmp_path, monkeypatch):
    manifest, recipe = read_manifest(cohort(), ()), small_recipes[0]
    optim = replace(recipe.optim, epochs=2, warmup_epochs=1)
    pretrain(replace(recipe, optim=optim), manifest, tmp_path / "run", tmp_path / "cache")
    seen = []

    def look(self, *_):
        seen.append(self.optimizers().param_groups[0]["lr"])

    monkeypatch.setattr(Training, "on_train_batch_start", look)
    pretrain(
        replace(recipe, optim=replace(optim, epochs=4)), manifest, tmp_path / "run", tmp_path / "cache"
    )  # fmt: skip
    peak = scaled_rate(optim.base_lr, 16)
    expected = [learning_rate(i / 3, peak=peak, minimum=0.0, warmup=1, epochs=4) for i in range(6, 12)]
    assert seen == pytest.approx(expected)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_after_a_refusal_the_folder_is_free(cohort, small_recipes, tmp_path, stage):
    """A batch that is too large is noticed before the folder is claimed, which takes the mended command."""
    recipe, manifest = small_recipes[stage == "finetune"], read_manifest(cohort())
    run = pretrain if stage == "pretrain" else finetune
    large = replace(recipe, optim=replace(recipe.optim, batch_size=64))
    with pytest.raises(UserError, match=r"lower optim\.batch_size"):
        run(large, manifest, tmp_path / "run", tmp_path / "cache")
    assert not (tmp_path / "run/recipe.yaml").exists()
    small = replace(recipe, optim=replace(recipe.optim, epochs=2, batch_size=16))
    run(small, manifest, tmp_path / "run", tmp_path / "cache")
    other = replace(small, optim=replace(small.optim, batch_size=8))
    with pytest.raises(UserError, match="holds another run"):
        run(other, manifest, tmp_path / "run", tmp_path / "cache")


@pytest.mark.parametrize("shared", [False, True], ids=["training", "slides"])
def test_only_a_run_that_has_done_something_keeps_its_folder(small_recipes, tmp_path, shared):
    def ended(error: BaseException, work: str = "") -> bool:
        with pytest.raises(type(error)), run_folder(tmp_path / "run", small_recipes[0], {}, shared=shared) as folder:
            if work:
                (folder / work).parent.mkdir(exist_ok=True)
                (folder / work).touch()
            raise error
        return (tmp_path / "run/recipe.yaml").exists()

    assert not ended(UserError("no")) and not ended(KeyboardInterrupt())
    with run_folder(tmp_path / "run", small_recipes[0], {}, shared=True):
        if shared:
            assert ended(UserError("no")), "another process is at work there"
    assert ended(UserError("no")), "another process has finished it"
    (tmp_path / "run/recipe.yaml").unlink()
    assert ended(UserError("no"), "status/a.json" if shared else "checkpoints/last.ckpt")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_a_destructor_is_not_lost(cohort, small_recipes, tmp_path, monkeypatch):
    """There Python prints the KeyboardInterrupt and goes on."""
    step = Training.training_step

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)  # the handler runs here

    def interrupted(self, data, index):
        if (self.current_epoch, index) == (1, 0):
            Dying()
        return step(self, data, index)

    monkeypatch.setattr(Training, "training_step", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pretrain(small_recipes[0], read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run/encoder").exists()


def test_a_loss_that_is_not_finite_names_its_cases(cohort, small_recipes, tmp_path, monkeypatch):
    monkeypatch.setattr("clinvit.pretrain.masked.MaskedPretraining.loss", lambda self, batch: torch.tensor(np.nan))
    with pytest.raises(RunError, match=r"loss is nan at epoch 0, batch 0; its cases: \d{3}_\d, "):
        pretrain(small_recipes[0], read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")


def test_another_recipe_or_other_data_is_refused(cohort, small_recipes, tmp_path):
    recipe = small_recipes[0]
    with run_folder(tmp_path / "run", recipe, {"data": "a"}):
        pass
    with run_folder(tmp_path / "run", replace(recipe, run=replace(recipe.run, workers=3)), {"data": "a"}):
        pass
    with (
        pytest.raises(UserError, match=r"mask_ratio was 0\.75, now 0\.5"),
        run_folder(tmp_path / "run", replace(recipe, mask_ratio=0.5), {"data": "a"}),
    ):
        pass
    with pytest.raises(UserError, match="data was 'a'"), run_folder(tmp_path / "run", recipe, {"data": "b"}):
        pass


def test_one_process_at_a_time(small_recipes, tmp_path):
    words = f"another run is at work here .process {os.getpid()}"
    with run_folder(tmp_path / "run", small_recipes[0], {}):
        second = run_folder(tmp_path / "run", small_recipes[0], {})
        with pytest.raises(UserError, match=words), second:
            pass
    with run_folder(tmp_path / "run", small_recipes[0], {}):
        seen = json.loads((tmp_path / "run/environment.json").read_text())["versions"]["torch"]
        assert torch.__version__.startswith(seen)


def test_a_damaged_checkpoint_says_so(cohort, small_recipes, tmp_path):
    manifest, path = read_manifest(cohort()), tmp_path / "run/checkpoints/last.ckpt"
    pretrain(small_recipes[0], manifest, tmp_path / "run", tmp_path / "cache")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="checkpoint is damaged"):
        pretrain(small_recipes[0], manifest, tmp_path / "run", tmp_path / "cache")


def command(*arguments) -> list[str]:
    return [
        sys.executable,
        "-X",
        "faulthandler",
        "-c",
        "import sys; from clinvit.cli import main; sys.exit(main())",
        *map(str, arguments),
    ]


def told(process: subprocess.Popen) -> str:
    """What a process that was told to end has said; where it does not end, where it hangs."""
    try:
        return process.communicate(timeout=300)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        return process.communicate()[1]


OPTIONS = (
    "--model.size micro --model.image_size 32 --augment.size 32 --model.patch_size 8 --data.cache_px 40 "
    "--optim.batch_size 16 --optim.epochs 12 --optim.warmup_epochs 1 --run.checkpoint_minutes 0 --run.precision 32-true"
).split()


@pytest.mark.slow
def test_killed_or_interrupted_and_the_same_command(cohort, tmp_path):
    """Ctrl-C, then kill -9, then to the end: the same weights as never interrupted."""
    data = cohort()
    whole, cut = (
        ["pretrain", "thorax", "--data", data, "--out", tmp_path / name / "run", *OPTIONS] for name in "ab"
    )  # fmt: skip
    assert main(list(map(str, whole))) == 0
    checkpoint = tmp_path / "b/run/checkpoints/last.ckpt"
    for kill, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen(command(*cut), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(kill)
        errors = told(process)
        assert process.returncode == code, errors
        assert kill != signal.SIGINT or "interrupted; repeat the command to continue" in errors
        assert checkpoint.exists() and not (tmp_path / "b/run/encoder").exists()
    assert main(list(map(str, cut))) == 0
    weights = "run/encoder/encoder.safetensors"
    assert equal_files(tmp_path / "a" / weights, tmp_path / "b" / weights)


# The clips of `demo` have two temporal positions: running cells count more tokens in some clips than in others, and
# the losses, which are float32, are then divided by numbers that are no power of two apart.
@pytest.mark.parametrize(
    "task, recipe, tolerance",
    [
        pytest.param("thorax", "tiny", 1e-10, marks=pytest.mark.slow),
        pytest.param("erdes", "demo", 1e-7, marks=pytest.mark.thorough),
    ],
)
def test_two_processes_equal_one(cohort, clip_cohort, tmp_path, task, recipe, tolerance):
    """In float64: in float32 AdamW makes full steps of gradients that are rounding alone."""
    data = cohort() if task == "thorax" else clip_cohort()
    for devices in (1, 2):
        run = [
            "pretrain", task, "--recipe", recipe, "--data", data, "--out", tmp_path / f"d{devices}/run", *OPTIONS,
            "--optim.epochs", 3, "--run.precision", "64-true", "--run.devices", devices,
        ]  # fmt: skip
        run = list(map(str, run))
        if devices == 1:
            assert main(run) == 0
            continue
        script = tmp_path / "start.py"
        script.write_text(
            "import sys\nfrom clinvit.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
        )
        subprocess.run([sys.executable, script, *run], check=True, capture_output=True, timeout=300)
    one, two = (safetensors.torch.load_file(tmp_path / f"d{n}/run/encoder/encoder.safetensors") for n in (1, 2))
    assert one.keys() == two.keys()
    assert {weight.dtype for weight in one.values()} == {torch.float64}
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=tolerance, rtol=0)


@pytest.mark.thorough
def test_sharded_over_two_processes_equals_one(cohort, tmp_path):
    """FSDP; in float32, as Lightning offers it in no other, and with steps as small as its rounding allows."""
    script = tmp_path / "start.py"
    script.write_text("import sys\nfrom clinvit.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n")
    data = cohort()
    for strategy, devices in (("ddp", 1), ("fsdp", 2)):
        run = command(
            "pretrain", "thorax", "--recipe", "tiny", "--data", data, "--out", tmp_path / strategy / "run",
            *OPTIONS, "--optim.epochs", 3, "--run.devices", devices, "--run.strategy", strategy,
        )  # fmt: skip
        done = subprocess.run([sys.executable, script, *run[5:]], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (safetensors.torch.load_file(tmp_path / s / "run/encoder/encoder.safetensors") for s in ("ddp", "fsdp"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-3, rtol=0)
    logs = [read_log(tmp_path / strategy / "run/log.csv") for strategy in ("ddp", "fsdp")]
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)


def read_log(path) -> list[float]:
    with path.open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_a_run_of_a_version_with_fewer_options_goes_on(small_recipes, tmp_path):
    """What an older version did not know was as it is by default; set to something else, it is another run."""
    from clinvit.core.documents import read_yaml

    recipe = small_recipes[1]
    with run_folder(tmp_path / "run", recipe, {"data": "x"}) as folder:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints/last.ckpt").touch()
    stored = read_yaml(tmp_path / "run/recipe.yaml")
    del stored["data"]["clip"]["roi"], stored["patch_drop"]
    (tmp_path / "run/recipe.yaml").write_text(yaml.safe_dump(stored))
    other = replace(recipe, data=replace(recipe.data, clip=replace(recipe.data.clip, roi="moving")))
    with (
        pytest.raises(UserError, match=r"data\.clip\.roi was 'none', now 'moving'"),
        run_folder(tmp_path / "run", other, {"data": "x"}),
    ):
        pass
    again = replace(recipe, patch_drop=type(recipe)().patch_drop)
    with run_folder(tmp_path / "run", again, {"data": "x"}):
        pass
    assert read_yaml(tmp_path / "run/recipe.yaml")["data"]["clip"]["roi"] == "none"
