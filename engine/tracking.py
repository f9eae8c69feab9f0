"""Where a run's curves go: TensorBoard always; Weights & Biases and MLflow where they are installed and asked for."""

import importlib.util
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from ..core.documents import read_json, read_yaml
from ..core.errors import RunError, UserError
from ..core.files import reporting_a_full_disk, write_json
from .recipe import Run
from .run_folder import rank

PROJECT = "clinvit"
IDS = "tracking.json"  # the trackers' own names of this run, so that a repeated command goes on with their curves


class Curves(TensorBoardLogger):
    """TensorBoard's event files alone: `recipe.yaml` holds what Lightning would write, not aside, to `hparams.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics."""
        with reporting_a_full_disk(self.log_dir):
            for name, value in metrics.items():
                self.experiment.add_scalar(name, value, step)

    @rank_zero_only
    def save(self) -> None:
        """Write what is still in memory."""
        with reporting_a_full_disk(self.log_dir):
            self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the files."""
        if self._experiment is None:
            return
        try:
            with reporting_a_full_disk(self.log_dir):
                self.experiment.flush()
                self.experiment.close()
        except (OSError, RunError):
            # After a failure, that is what is to be reported, and not the end of the curves.
            if status == "success":
                raise


@contextmanager
def reported_once() -> Iterator[None]:
    """Keep the traceback of TensorBoard's writing thread from the terminal: its error is raised in ours again."""
    before = threading.excepthook

    def report(failed) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            before(failed)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before


def loggers(folder: Path, run: Run) -> list[Logger]:
    """Return Lightning's loggers of a run folder.

    Where they send to is their own affair (`WANDB_MODE`, `WANDB_API_KEY`, `MLFLOW_TRACKING_URI`); without the last,
    MLflow writes `mlflow.db` into the run folder. The recipe and the curves are sent: no names of files or patients,
    no weights.

    Raises:
        UserError: A tracker is not installed or cannot be reached, or `tracking.json` is damaged.
    """
    found: list[Logger] = [Curves(folder, name="", version="tensorboard")]
    if not run.track or rank() > 0:
        return found
    ids = _read(folder / IDS)
    for name in run.track:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"run.track {name}: not installed. `pip install {name}`, or leave it out.")
        try:
            found.append(_wandb(folder, ids) if name == "wandb" else _mlflow(folder, ids))
        except Exception as error:  # each tracker has errors of its own: no account, no network, another version
            raise UserError(
                f"run.track {name}: {' '.join(str(error).split())[:200]}. Mend it, or leave it out."
            ) from error
    write_json(folder / IDS, ids)
    recipe = folder / "recipe.yaml"
    if recipe.is_file():
        for logger in found[1:]:
            logger.log_hyperparams(read_yaml(recipe))
    return found


def _wandb(folder: Path, ids: dict[str, str | None]) -> Logger:
    """Open a run that gets curves and recipe alone: no console, words of the command, user, machine, code or packages.

    File names stand in all of these.
    """
    ids.setdefault("wandb", uuid.uuid4().hex[:12])
    off = ("disable_code", "disable_git", "disable_job_creation", "x_disable_meta", "x_disable_machine_info")
    settings = dict.fromkeys((*off, "x_disable_stats"), True) | {"console": "off", "x_save_requirements": False}
    settings |= {"host": "-", "username": "-"} | dict.fromkeys(("program", "program_relpath"), "clinvit")
    return WandbLogger(
        name=folder.name, project=PROJECT, save_dir=folder, id=ids["wandb"], resume="allow", settings=settings
    )


def _mlflow(folder: Path, ids: dict[str, str | None]) -> Logger:
    """Open a run whose tags name neither the user nor the program's path, which MLflow sets where nobody else does."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_DISABLE_SYSTEM_METRICS="true")
    os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "false"
    tags = {"mlflow.user": "-", "mlflow.source.name": "clinvit", "mlflow.source.type": "LOCAL"}
    tags |= {"mlflow.source.git.commit": "-"}
    address = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder.resolve()}/mlflow.db")
    logger = MLFlowLogger(
        experiment_name=PROJECT, run_name=folder.name, tags=tags, tracking_uri=address, run_id=ids.get("mlflow")
    )
    ids["mlflow"] = logger.run_id
    return logger


def _read(path: Path) -> dict[str, str | None]:
    remedy = "Remove it: the trackers then show this run as a new one."
    return read_json(path, remedy=remedy) if path.exists() else {}
