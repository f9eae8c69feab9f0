"""The checkpoint that a repeated command continues from: `checkpoints/last.ckpt`, old or new, never half."""

import os
import time
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from ..core.files import refuse_foreign, reporting_a_full_disk
from .interruption import Interruption

LAST = Path("checkpoints") / "last.ckpt"


class KeepLast(Checkpoint):
    """Write the whole state of training every so many minutes, at the last step, and when the run is interrupted.

    Args:
        folder: The run folder.
        minutes: Between two checkpoints; 0 writes one at the end of each epoch, and none within.
        interruption: Knows whether the run was asked to stop; training ends after the state is saved.
    """

    def __init__(self, folder: Path, minutes: float, interruption: Interruption):
        self.path, self.seconds, self.written = folder / LAST, minutes * 60, time.monotonic()
        self.interruption = interruption

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch, batch_idx: int) -> None:
        """Save within an epoch, when it is due."""
        # Here all that belongs to the step before is done, moving averages too. The last batch waits for the epoch's
        # end, and gradients that are still being added up are not part of the state.
        if batch_idx and batch_idx % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch:
            self._save(trainer, self.seconds > 0 and self._due())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at the end of an epoch, when it is due, and of the last one always."""
        assert trainer.max_epochs is not None
        self._save(trainer, trainer.current_epoch + 1 >= trainer.max_epochs or self._due())

    def _due(self) -> bool:
        return time.monotonic() - self.written >= self.seconds

    def _save(self, trainer: pl.Trainer, due: bool) -> None:
        """Save if the first process says it is time, or any was warned; all processes decide alike."""
        warned = self.interruption.warned is not None
        asked = warned or (due and trainer.is_global_zero)
        if not trainer.strategy.reduce_boolean_decision(asked, all=False):
            return
        save(trainer, self.path)
        self.written = time.monotonic()
        if trainer.strategy.reduce_boolean_decision(warned, all=False):
            self.interruption.requeue(trainer)
            raise KeyboardInterrupt


def save(trainer: pl.Trainer, path: Path) -> None:
    """Write a checkpoint aside, then rename it. All processes call this.

    Raises:
        RunError: The disk is full; the checkpoint before is still there.
    """
    aside = path.with_suffix(".part")
    try:
        refuse_foreign(aside)
        with reporting_a_full_disk(path):
            trainer.save_checkpoint(aside)
            if trainer.is_global_zero:
                with aside.open("rb+") as file:
                    os.fsync(file.fileno())
                aside.replace(path)
    finally:
        if trainer.is_global_zero:
            aside.unlink(missing_ok=True)


def find(folder: Path) -> Path | None:
    """Return the checkpoint of a run folder, if there is one."""
    path = folder / LAST
    return path if path.is_file() else None
