"""Ctrl-C that is never lost."""

import signal
import threading
from types import FrameType

from lightning.pytorch.callbacks import Callback


class Interruption(Callback):
    """Remembers Ctrl-C until the batch is over; a callback, and a context for the time of training.

    Python raises KeyboardInterrupt wherever it happens to be; inside a destructor or a callback of the garbage
    collector it prints and forgets it, and the run would go on.
    """

    def __init__(self):
        self.asked = False
        self.before = None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.default_int_handler(number, frame)

    def on_train_batch_end(self, *_, **__) -> None:
        if self.asked:
            raise KeyboardInterrupt
