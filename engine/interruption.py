"""Ctrl-C that is never lost, and the signals by which a scheduler takes the machine back."""

import os
import signal
import threading
import time
from types import FrameType

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from ..core.platform import REQUEUE_SIGNAL, warning_signals
from .launcher import requeue

# What a scheduler sends before it kills.
WARNINGS = warning_signals()
# The system's signal to a job comes once more by torchrun, which passes on what it gets; later ones mean it, seconds.
ECHO_S = 5.0


class Interruption(Callback):
    """Remembers Ctrl-C until the batch is over, and a scheduler's warning until the state is saved (`KeepLast`); a
    callback, and a context for the time of training.

    Python raises KeyboardInterrupt wherever it happens to be; inside a destructor or a callback of the garbage
    collector it prints and forgets it, and the run would go on.

    Attributes:
        warned: The signal by which the scheduler asked to stop, None as long as it has not.
    """

    def __init__(self):
        self.asked = False
        self.warned: int | None = None
        self.warned_at = 0.0
        self.before = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.getsignal(number) for number in (signal.SIGINT, *WARNINGS)}
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def on_train_start(self, *_) -> None:
        # Lightning sets its own handlers shortly before; they write another checkpoint than ours.
        for number in self.before.keys() & set(WARNINGS):
            signal.signal(number, self._warn)

    def on_train_batch_end(self, *_, **__) -> None:
        if self.asked:
            raise KeyboardInterrupt

    def requeue(self, trainer: pl.Trainer) -> None:
        """Ask SLURM to start the job anew, where it warned any process by SIGUSR1 (after SIGTERM it does so itself, if
        at all). All processes call this.
        """
        warned = self.warned is not None and self.warned == REQUEUE_SIGNAL
        asked = trainer.strategy.reduce_boolean_decision(warned, all=False)
        if asked and trainer.is_global_zero:
            requeue()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.default_int_handler(number, frame)

    def _warn(self, number: int, frame: FrameType | None) -> None:
        if self.warned is None:
            self.warned, self.warned_at = number, time.monotonic()
        elif time.monotonic() - self.warned_at > ECHO_S:
            # Asked twice: at once.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
