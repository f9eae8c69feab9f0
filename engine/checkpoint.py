"""The checkpoint that a repeated command continues from: `checkpoints/last.ckpt`, old or new, never half."""

import time
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from ..errors import RunError

LAST = Path("checkpoints") / "last.ckpt"


class KeepLast(Checkpoint):
    """Write the whole state of training at ends of epochs, at most every `minutes`, and at the last one.

    Args:
        folder: The run folder.
        minutes: Least time between two checkpoints.
    """

    def __init__(self, folder: Path, minutes: float):
        self.path, self.seconds, self.written = folder / LAST, minutes * 60, time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 >= trainer.max_epochs
        due = time.monotonic() - self.written >= self.seconds
        if trainer.strategy.broadcast(last or due):
            save(trainer, self.path)
            self.written = time.monotonic()


def save(trainer: pl.Trainer, path: Path) -> None:
    """Write a checkpoint aside, then rename it. All processes call this."""
    aside = path.with_suffix(".part")
    try:
        trainer.save_checkpoint(aside)
        if trainer.is_global_zero:
            aside.replace(path)
    except OSError as error:
        raise RunError(
            f"{path}: the checkpoint cannot be written ({error.strerror or error}). Free some space and repeat the "
            "command: it continues from the checkpoint before."
        ) from None


def find(folder: Path) -> Path | None:
    """The checkpoint of a run folder, if there is one."""
    path = folder / LAST
    return path if path.is_file() else None
