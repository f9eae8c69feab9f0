"""One progress bar over the whole training; without a terminal, a line now and then. And the log of the epochs."""

import csv
import io
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ProgressBar
from tqdm import tqdm

from ..core.files import write_text
from .training import Training


class Progress(ProgressBar):
    """Show epoch, loss, learning rate, validation metric, time left and the share of time spent waiting for data.

    Args:
        title: What is being trained, in a word or two.
        every: Seconds between lines where there is no terminal.
    """

    def __init__(self, title: str, every: float = 30.0):
        super().__init__()
        self.title, self.every = title, every
        self.bar: tqdm | None = None
        self.waited = self.spoken = 0.0
        self.shown = True

    def disable(self) -> None:
        """Show nothing; Lightning calls this on every process but the first."""
        self.shown = False

    def enable(self) -> None:
        """Show it again."""
        self.shown = True

    def on_train_start(self, trainer, pl_module) -> None:
        """Begin to count."""
        total = trainer.num_training_batches * trainer.max_epochs
        self.done = self.first = trainer.num_training_batches * trainer.current_epoch + pl_module.done[1]
        self.started = self.ready = self.spoken = time.monotonic()
        self.total = total
        if self.shown and sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=self.first, desc=self.title, unit="step", dynamic_ncols=True)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Count the time that was spent waiting for the batch."""
        self.waited += time.monotonic() - self.ready

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Show the step."""
        self.done += 1
        self.ready = now = time.monotonic()
        if not self.shown:
            return
        if self.bar is not None:
            self.bar.update()
            if self.done % 10 == 0:
                self.bar.set_postfix_str(self._state(trainer, pl_module), refresh=False)
        elif now - self.spoken >= self.every or self.done == self.total:
            self.spoken = now
            rate = (self.done - self.first) / (now - self.started)
            left = (self.total - self.done) / rate
            print(
                f"{self.title}: step {self.done}/{self.total}, {self._state(trainer, pl_module)}, {rate:.1f} steps/s, "
                f"{left / 60:.1f} min left",
                file=sys.stderr,
                flush=True,
            )

    def on_train_end(self, trainer, pl_module) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def _state(self, trainer: pl.Trainer, pl_module: Training) -> str:
        loss = pl_module.epoch_means().get("loss", trainer.callback_metrics.get("loss"))
        shown = f"loss {float(loss):.4f}, " if loss is not None else ""
        score = trainer.callback_metrics.get(pl_module.watched)
        shown += f"{pl_module.watched} {float(score):.3f}, " if score is not None else ""
        shown += f"lr {rate_of(trainer):.1e}, "
        waiting = self.waited / max(time.monotonic() - self.started, 1e-9)
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, {shown}waiting for data {waiting:.0%}"


class EpochLog(Callback):
    """Write `log.csv`, a row per epoch with all logged metrics, the learning rate and seconds; a resumed run goes on.

    The learning rate goes to TensorBoard and the trackers too, which have the metrics from Lightning.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path):
        self.path = folder / "log.csv"
        self.rows: list[dict[str, str]] = []
        self.validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that this epoch was validated."""
        self.validated = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the rows of a run that goes on."""
        self.started = time.monotonic()
        if trainer.current_epoch and self.path.is_file():
            with self.path.open(encoding="utf-8", newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= trainer.current_epoch]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row."""
        # Lightning keeps the metrics of the last validation for the epochs after it.
        metrics = {
            name: f"{float(value):.6g}"
            for name, value in sorted(trainer.callback_metrics.items())
            if self.validated or not name.startswith("val_")
        }
        self.validated = False
        seconds, self.started = time.monotonic() - self.started, time.monotonic()
        rate = rate_of(trainer)
        self.rows.append(
            {
                "epoch": str(trainer.current_epoch + 1),
                **metrics,
                "lr": f"{rate:.6g}",
                "seconds": f"{seconds:.2f}",
            }
        )
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.log_metrics({"lr": rate}, trainer.global_step)
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())


def rate_of(trainer: pl.Trainer) -> float:
    """Return the learning rate of the layers that learn fastest."""
    return max(group["lr"] for group in trainer.optimizers[0].param_groups)
