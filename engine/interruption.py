"""Ctrl-C and the signals by which a scheduler takes the machine back: training saves its state before it ends."""

import os
import signal
import threading
import time
from types import FrameType

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from ..core.platform import REQUEUE_SIGNAL, warning_signals
from .launcher import launched, requeue
from .run_folder import rank

# What a scheduler sends before it kills.
WARNINGS = warning_signals()
# The system's signal to a job comes once more by torchrun, which passes on what it gets; later ones mean it, seconds.
ECHO_S = 5.0
SAVING = "\nCtrl-C: this step is finished and the state saved, then the run ends. Once more ends it at once.\n"


class Interruption(Callback):
    """Remember Ctrl-C or a scheduler's warning until the state is saved (`KeepLast`).

    It is a callback, and a context for the time of training. Before the first step there is nothing to save, and Ctrl-C
    ends at once, as a second one does at any time. Python raises KeyboardInterrupt wherever it happens to be; inside a
    destructor or a callback of the garbage collector it prints and forgets it, and the run would go on: so it is raised
    again after the batch.

    Attributes:
        warned: The signal by which the run was asked to stop, None as long as it was not.
    """

    def __init__(self):
        self.at_once = False
        self.warned: int | None = None
        self.warned_at = 0.0
        self.before = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.getsignal(number) for number in (signal.SIGINT, *WARNINGS)}
            signal.signal(signal.SIGINT, self._end)
        return self

    def __exit__(self, kind, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if kind is None and self.warned == signal.SIGINT:
            raise KeyboardInterrupt  # it came after the last state was saved

    def on_train_start(self, *_) -> None:
        """Take over the signals."""
        # Lightning sets its own handlers shortly before; they write another checkpoint than ours.
        for number in self.before:
            signal.signal(number, self._warn)

    def on_train_batch_end(self, *_, **__) -> None:
        """End where an interruption was lost in a destructor."""
        if self.at_once:
            raise KeyboardInterrupt

    def requeue(self, trainer: pl.Trainer) -> None:
        """Ask SLURM to start the job anew, where it warned any process by SIGUSR1. All processes call this.

        After SIGTERM it does so itself, if at all.
        """
        warned = self.warned is not None and self.warned == REQUEUE_SIGNAL
        asked = trainer.strategy.reduce_boolean_decision(warned, all=False)
        if asked and trainer.is_global_zero:
            requeue()

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.at_once = True
        signal.default_int_handler(number, frame)

    def _warn(self, number: int, frame: FrameType | None) -> None:
        if self.warned is None:
            self.warned, self.warned_at = number, time.monotonic()
            if number == signal.SIGINT and rank() == 0:
                os.write(2, SAVING.encode())  # Python's own stream may be in the middle of a line
        elif number == signal.SIGINT and launched() is None:
            self._end(number, frame)
        elif time.monotonic() - self.warned_at > ECHO_S:
            # Asked twice: at once.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
