"""Trackers: asked for by name, one run of theirs for one run folder, one clear line where they are missing."""

import csv
import getpass
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from typing import ClassVar

import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.engine import tracking
from clinvit.engine.recipe import Run, parse_recipe
from clinvit.engine.tracking import loggers
from clinvit.finetune.run import finetune
from clinvit.pretrain.run import pretrain
from lightning.pytorch.loggers import CSVLogger


def test_tensorboard_alone_by_default(tmp_path):
    assert len(loggers(tmp_path, Run())) == 1
    assert not (tmp_path / "tracking.json").exists()


def test_tensorboard_has_loss_rate_and_validation(cohort, small_recipes, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    finetune(small_recipes[1], read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert {"loss", "lr", "val_macro_auroc", "val_loss"} <= set(events.Tags()["scalars"])
    assert [event.value for event in events.Scalars("lr")] == pytest.approx(
        [float(row["lr"]) for row in csv.DictReader((tmp_path / "run/log.csv").open())], rel=1e-5
    )
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"loss \d\.\d{4}, val_macro_auroc \d\.\d{3}, lr \d\.\de[+-]\d\d, waiting", said), said


def test_unknown_and_missing_trackers(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"run\.track 'comet': one of wandb, mlflow"):
        Run(track=("comet",))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed\. `pip install mlflow`"):
        loggers(tmp_path, Run(track=("mlflow",)))


def test_only_the_first_process_tracks(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert len(loggers(tmp_path, Run(track=("wandb",)))) == 1


TRACKED = """if True:
    import sys
    from pathlib import Path
    from clinvit.engine import tracking
    logger = getattr(tracking, sys.argv[1])(Path(sys.argv[2]), {})
    print("Surname_Printed")
    logger.log_hyperparams({"seed": 1})
    logger.log_metrics({"loss": 0.5}, step=1)
    logger.finalize("success")
"""


@pytest.mark.parametrize("store", ["wandb", "mlflow in files", "mlflow in its database"])
def test_a_real_tracker_gets_no_words_of_the_command_and_nothing_printed(tmp_path, store):
    package = store.split()[0]
    pytest.importorskip(package)
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", TRACKED, f"_{package}", str(tmp_path / "run"), "Surname_Given.dcm"]
    place = {"WANDB_MODE": "offline", "MLFLOW_ALLOW_FILE_STORE": "true"}
    if store == "mlflow in files":
        place["MLFLOW_TRACKING_URI"] = f"file://{tmp_path}/run/mlruns"
    subprocess.run(command, cwd=tmp_path, env=os.environ | place, check=True, capture_output=True)
    stored = [path for path in tmp_path.rglob("*") if path.is_file()]
    kept = b"".join(str(path.relative_to(tmp_path)).encode() + path.read_bytes() for path in stored)
    assert b"loss" in kept and b"Surname" not in kept
    host, user = platform.node().encode(), getpass.getuser().encode()
    assert b'"host"' not in kept and (len(host) < 5 or host not in kept) and (len(user) < 5 or user not in kept)


class Recorder(CSVLogger):
    """Stands in for both trackers; keeps what it was made with and told."""

    made: ClassVar[list] = []

    def __init__(self, *, save_dir="", run_id=None, id=None, **options):
        super().__init__(save_dir)
        self.run_id = run_id or "of-mlflow"
        self.told = {"given": run_id or id, "metrics": set(), "options": options}
        self.made.append(self.told)

    def log_hyperparams(self, params):
        self.told["recipe"] = params

    def log_metrics(self, metrics, step=None):
        self.told["metrics"] |= set(metrics)


def test_a_repeated_command_goes_on_with_the_same_run(cohort, small_recipes, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(tracking, name, Recorder)
    monkeypatch.setattr(Recorder, "made", [])
    recipe = parse_recipe(small_recipes[0], None, ["--run.track", "[wandb, mlflow]"])
    manifest = read_manifest(cohort())
    for _ in range(2):
        pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache")
    ids = json.loads((tmp_path / "run/tracking.json").read_text())
    assert [told["given"] for told in Recorder.made] == [ids["wandb"], None, ids["wandb"], "of-mlflow"]
    assert "loss" in Recorder.made[0]["metrics"]
    settings, tags = Recorder.made[0]["options"]["settings"], Recorder.made[1]["options"]["tags"]
    assert settings["console"] == "off" and settings["x_disable_meta"] and settings["disable_code"]
    assert tags["mlflow.user"] == "-" and tags["mlflow.source.name"] == "clinvit"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert Recorder.made[1]["recipe"]["optim"]["epochs"] == recipe.optim.epochs
    monkeypatch.setattr(tracking, "MLFlowLogger", lambda **options: 1 / 0)
    with pytest.raises(UserError, match=r"run\.track mlflow: division by zero\. Mend it"):
        loggers(tmp_path / "run", recipe.run)
    (tmp_path / "run/tracking.json").write_text("{")
    with pytest.raises(UserError, match=r"tracking\.json: not readable JSON"):
        loggers(tmp_path / "run", recipe.run)
