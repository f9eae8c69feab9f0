"""Readers that die, hang or fail over some files; importable, for processes to find them."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from clinvit.datasets.readers import PictureReader


class DeadlyReader(PictureReader):
    """Reads pictures, but for files whose text says what to do; a file beside each counts how often it was opened."""

    def read(self, path: Path) -> np.ndarray:
        with path.with_suffix(".tries").open("a") as tries:
            tries.write("x")
        deed = path.read_bytes()[:20].decode(errors="replace").strip()
        if deed in ("SIGKILL", "SIGSEGV", "SIGABRT"):
            os.kill(os.getpid(), getattr(signal, deed))
        if deed == "exit":
            os._exit(1)
        if deed == "hang":
            time.sleep(3600)
        if deed == "fault":
            raise IndexError("list index\nout of range")
        if deed == "memory":
            raise MemoryError
        return super().read(path)

    open = read


def tries(path: Path) -> int:
    """How often a file was opened."""
    return len(path.with_suffix(".tries").read_text())
