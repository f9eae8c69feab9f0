"""What a prediction has done so far: lines appended as they come, so that a killed one can go on."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import refuse_irregular, told_if_full


class Journal:
    """The file `<out>.partial.jsonl`: what is predicted by what in its first line, then a line per case.

    Args:
        out: The table that is made in the end.
        said: What must be the same when a prediction goes on.
        resume: Whether to go on where a killed one stopped; else what it left is thrown away.

    Raises:
        UserError: It was begun with something else.
    """

    def __init__(self, out: Path, said: dict[str, Any], resume: bool):
        self.path = Path(f"{out}.partial.jsonl")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, dict] = {}
        if not resume or not self.path.exists():
            self._file = self.path.open("wb", buffering=0)
            self._write([said])
            return
        refuse_irregular(self.path)
        lines, whole = self._whole_lines()
        if lines and lines[0] != said:
            changed = ", ".join(sorted(key for key in said if lines[0].get(key) != said[key]))
            raise UserError(
                f"{self.path}: was begun with another {changed}. Leave --resume out to begin anew, or remove the file."
            )
        self.done = {line["path"]: line for line in lines[1:]}
        self._file = self.path.open("rb+", buffering=0)
        self._file.truncate(whole)  # a line that was cut off is written again
        self._file.seek(whole)
        if not lines:
            self._write([said])

    def append(self, paths: Sequence[str], scores: np.ndarray, reasons: Sequence[str]) -> None:
        """Keep (n, L) scores of n files; a failed one has its reason instead."""
        self._write(
            {"path": path, "reason": reason} | ({} if reason else {"scores": row.tolist()})
            for path, row, reason in zip(paths, np.asarray(scores, np.float64), reasons, strict=True)
        )

    def close(self) -> None:
        """Keep the file for another time."""
        self._file.close()

    def finish(self) -> None:
        """The table is written: remove the file."""
        self.close()
        self.path.unlink()

    def _write(self, lines) -> None:
        left = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with told_if_full(self.path):
            # Without a buffer, whose rest would fail once more when the file is closed.
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())

    def _whole_lines(self) -> tuple[list[dict], int]:
        """The lines that are whole, and how many bytes they take."""
        lines, whole = [], 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    said = json.loads(line)
                except (ValueError, RecursionError):
                    break
                if not isinstance(said, dict) or (lines and not {"path", "reason"} <= said.keys()):
                    break
                lines.append(said)
                whole += len(line)
        return lines, whole
