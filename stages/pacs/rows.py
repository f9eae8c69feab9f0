"""A table of predictions that grows by a row per study: each row whole, on the disk, and never twice."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...core.errors import UserError
from ...core.files import open_own, reporting_a_full_disk
from .queue import append_whole, cut_unfinished

STUDY = "study"  # the queue's name of it, by which a row is known again


class Rows:
    """The table of a listener.

    Args:
        path: The CSV file, made with its header where it is missing.
        columns: In their order.

    Raises:
        UserError: It has other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path, self._columns = path, list(columns)
        cut_unfinished(path)
        self._there = self._read()

    def line(self, row: pd.DataFrame) -> str:
        """Return a row of predictions as a line of the table."""
        row = row.reindex(columns=self._columns)
        text = row.to_csv(index=False, header=False, float_format="%.7g", lineterminator="\n")
        return " ".join(text.splitlines()) + "\n"

    def has(self, study: str) -> bool:
        """Return whether the row of a study is there."""
        return study in self._there

    def add(self, study: str, line: str) -> None:
        """Add the line of a study, if it is not there.

        Raises:
            RunError: The disk is full; the table is as it was.
        """
        if study in self._there:
            return
        self._append(line)
        self._there.add(study)

    def _append(self, line: str) -> None:
        """Add a line, after the header where the table is new, or was moved away."""
        with reporting_a_full_disk(self.path), open_own(self.path, "ab", buffering=0) as file:
            header = "" if os.fstat(file.fileno()).st_size else self._header()
            append_whole(file, (header + line).encode())

    def _read(self) -> set[str]:
        """Return the studies whose rows are there; make the table where it is not."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        lines = csv.reader(io.StringIO(text))
        header = next(lines, None)
        if header is None:
            self._append("")
            return set()
        if header != self._columns:
            raise UserError(f"{self.path}: a table of other columns than this model's. Name another --out.")
        place = self._columns.index(STUDY)
        return {line[place] for line in lines if line}

    def _header(self) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(self._columns)
        return out.getvalue()
