"""A trace of a few training steps: what the processor and the device did, operator by operator."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile, schedule

from ..core.files import written_aside

TRACE = "trace.json.gz"
# Steps that are left out, run with the profiler but forgotten (its start costs time), and kept.
WAIT, WARM_UP, KEEP = 2, 1, 4


class Profile(Callback):
    """Write `trace.json.gz` into the run folder; ui.perfetto.dev or chrome://tracing open it.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path):
        self.path = folder / TRACE
        self.profiler: profile | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the profiler."""
        if not trainer.is_global_zero:
            return
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        steps = schedule(wait=WAIT, warmup=WARM_UP, active=KEEP, repeat=1)
        self.profiler = profile(activities=activities, schedule=steps, on_trace_ready=self._write, record_shapes=True)
        self.profiler.start()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Count a step."""
        if self.profiler is not None:
            self.profiler.step()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the profiler."""
        if self.profiler is not None:
            self.profiler.stop()
            self.profiler = None

    def _write(self, profiler: profile) -> None:
        with written_aside(self.path) as aside:
            profiler.export_chrome_trace(str(aside))
