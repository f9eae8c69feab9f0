"""What a prediction has done so far: lines appended as they come, so that a killed one can go on."""

import json
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..core.documents import lines_of, parse_json
from ..core.errors import UserError
from ..core.files import open_own, refuse_irregular, reporting_a_full_disk
from ..core.platform import rename_open


class Journal:
    """The file `<out>.partial.jsonl`: what is predicted by what in its first line, then a line per case.

    Attributes:
        done: Lines of all journals of `out` that are taken up, by path.

    Args:
        out: The table that is made in the end.
        said: What must be the same when a prediction goes on.
        resume: Whether to go on where a killed one stopped, of however many processes.
        part: Of a prediction by several processes, which: `-1of2` stands for `<out>.partial-1of2.jsonl`.

    Raises:
        UserError: It was begun with something else.
    """

    def __init__(self, out: Path, said: dict[str, Any], resume: bool, part: str = ""):
        self.path, self._said = journal_of(out, part), said
        self.done: dict[str, dict] = {}
        for path in journals(out) if resume else []:
            refuse_irregular(path)
            with path.open("rb") as file:
                lines = whole_lines(file)
            changed = ", ".join(sorted(key for key in said if lines and lines[0].get(key) != said[key]))
            if changed:
                raise UserError(
                    f"{path}: was begun with another {changed}. Leave --resume out to begin anew, or remove the file."
                )
            self.done |= {line["path"]: line for line in lines[1:]}

    def begin(self, paths: Iterable[str]) -> None:
        """Make the file anew, with what is done of these paths; it stands in its place when it is whole.

        Args:
            paths: The files of this process.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_name(f".{self.path.name}")
        self._file = open_own(aside, "ab", private=True, buffering=0)
        try:
            self._file.truncate(0)
            self._write([self._said, *(self.done[path] for path in paths if path in self.done)])
            self._file = rename_open(self._file, aside, self.path)
        except BaseException:
            self.close()
            raise

    def append(
        self, paths: Sequence[str], scores: np.ndarray, reasons: Sequence[str], regions: Sequence[str] = ()
    ) -> None:
        """Keep (n, L) scores of n files; a failed one has its reason instead; and what was read of cropped clips."""
        regions = regions or [""] * len(paths)
        self._write(
            {"path": path, "reason": reason}
            | ({} if np.isnan(row).all() else {"scores": row.tolist()})
            | ({"region": region} if region else {})
            for path, row, reason, region in zip(paths, np.asarray(scores, np.float64), reasons, regions, strict=True)
        )

    def close(self) -> None:
        """Keep the file for another time."""
        self._file.close()

    def _write(self, lines) -> None:
        left = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with reporting_a_full_disk(self.path):
            # Without a buffer, whose rest would fail once more when the file is closed.
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())


def journal_of(out: Path, part: str = "") -> Path:
    """Where the journal of a table stands, or of a part of it."""
    return Path(f"{out}.partial{part}.jsonl")


def journals(out: Path, begun: str = "") -> list[Path]:
    """All journals of a table that are there, of whatever number of processes.

    Args:
        out: The table.
        begun: A pattern of what may stand before their names.
    """
    name = re.compile(rf"{begun}{re.escape(out.name)}\.partial(-\d+of\d+)?\.jsonl")
    return sorted(path for path in out.parent.glob("*.jsonl") if name.fullmatch(path.name))


def remove_journals(out: Path, kept: Collection[Path] = ()) -> None:
    """Remove those that are no longer needed, also such as a killed process has only just begun."""
    for path in journals(out, r"\.?"):
        if path not in kept:
            path.unlink()


def whole_lines(file: IO[bytes]) -> list[dict]:
    """The lines of a journal that are whole: the last one of a killed process may be cut off."""
    lines: list[dict] = []
    for line in lines_of(file):
        if not line.endswith(b"\n"):
            break
        try:
            said = parse_json(line)
        except ValueError:
            break
        if not isinstance(said, dict) or (lines and not {"path", "reason"} <= said.keys()):
            break
        lines.append(said)
    return lines
