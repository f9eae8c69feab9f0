"""One list of slides, worked through by any number of processes and nodes on one file system: each slide is done once.

A slide's state is a file of its own (`status/<id>.json`), written when the slide is finished, well or not. Who works on
a slide holds a lock on `status/<id>.lock`, which the system takes back when the process ends, however it ends: a slide
of a killed process is free for the next one.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

import pandas as pd
from tqdm import tqdm

from ...core.documents import read_json
from ...core.errors import DataError
from ...core.files import open_own, own_folder, write_json, written_aside
from ...core.locks import try_lock
from ..manifest.tables import for_spreadsheets

FOLDER, TABLE = "status", "status.csv"
# Between two lines where there is no terminal, seconds.
EVERY_S = 30


class SharedWork:
    """The slides of a folder of results.

    Args:
        folder: Where the results are written.
        files: Slide ids and the file that each result is made of. A file that has changed since is done again.
        result: Suffix of a result, `<folder>/<id><suffix>`: a slide that has none is not done.

    Raises:
        DataError: An id that names a file outside of the folder.
    """

    def __init__(self, folder: Path, files: Mapping[str, Path], result: str = ".h5"):
        self.folder, self.files, self.result = Path(folder), dict(files), result
        for slide in self.files:
            slide_file(self.folder, slide, result)
        self.started = time.time()

    def __iter__(self) -> Iterator[str]:
        """Yield the slides that are neither done nor in other hands, each held until the next is asked for."""
        for slide in self.files:
            if self.settled(slide):
                continue
            path = self._state(slide, ".lock")
            own_folder(path.parent)
            with open_own(path, "a") as lock:
                # It may have been finished between the first look and the lock.
                if try_lock(lock, self.folder) and not self.settled(slide):
                    yield slide

    def settled(self, slide: str) -> bool:
        """Return whether nothing is left to do: it went well, or failed while this process was at work.

        What failed before is tried once more: the file may have been mended.
        """
        state = self.state(slide)
        if state is None or state["file"] != _stamp(self.files[slide]):
            return False
        if state["status"] == "failed":
            return state["finished"] >= self.started
        return slide_file(self.folder, slide, self.result).is_file()

    def state(self, slide: str) -> dict | None:
        """Return what was written when the slide was finished; None if it was not."""
        with suppress(FileNotFoundError, DataError):
            return read_json(self._state(slide, ".json"), DataError)
        return None

    def finish(self, slide: str, reason: str = "", **facts) -> None:
        """Write down how it ended; `reason` is empty if all went well."""
        state = {"id": slide, "status": "failed" if reason else "ok", "reason": reason, **facts}
        write_json(
            self._state(slide, ".json"), state | {"finished": time.time(), "file": _stamp(self.files[slide])}
        )  # fmt: skip

    def write_table(self) -> pd.DataFrame:
        """Return `status.csv` with one row per requested slide.

        One that is in other hands or was not reached is `open`.
        """
        states = [self.state(slide) or {"id": slide, "status": "open", "reason": ""} for slide in self.files]
        table = pd.DataFrame(states).drop(columns=["finished", "file"], errors="ignore").convert_dtypes()
        with written_aside(self.folder / TABLE) as aside:
            for_spreadsheets(table).to_csv(aside, index=False, lineterminator="\n")
        return table

    def _state(self, slide: str, suffix: str) -> Path:
        return slide_file(self.folder / FOLDER, slide, suffix)


def work_through(work: SharedWork, do: Callable[[str], Mapping], verb: str) -> pd.DataFrame:
    """Process what is left, with a bar; a slide that fails is written down and the others go on.

    Args:
        work: The slides.
        do: Makes the result of a slide and gives the facts for its row of the table.
        verb: What is done, for the bar.

    Returns:
        The status table.
    """
    done, failed = sum(work.settled(slide) for slide in work.files), 0
    spoken, terminal = time.monotonic(), sys.stderr.isatty()
    with tqdm(total=len(work.files), initial=done, unit="slide", desc=verb, disable=not terminal) as bar:
        for slide in work:
            done += 1
            try:
                facts = do(slide)
            except DataError as error:
                reason = _by_id(str(error), work.files[slide], slide)
                work.finish(slide, reason)
                failed += 1
                tqdm.write(f"failed: {reason}", file=sys.stderr)
            else:
                work.finish(slide, **facts)
            bar.update()
            if not terminal and time.monotonic() - spoken >= EVERY_S:
                spoken = time.monotonic()
                without = f", {failed} of them failed" if failed else ""
                print(f"{verb}: {done} of {len(work.files)} slides{without}", file=sys.stderr, flush=True)
    return work.write_table()


def _by_id(reason: str, file: Path, slide: str) -> str:
    """Return a reason that names the slide by its id where that is another: names of files may be those of people."""
    for name in (str(file), str(file.resolve()), file.name) if slide not in file.name else ():
        reason = reason.replace(name, slide)
    return reason


def slide_file(folder: Path, slide: str, suffix: str = ".h5") -> Path:
    """Return `<folder>/<id><suffix>`.

    Raises:
        DataError: The id would name a file outside of the folder.
    """
    parts = PurePosixPath(slide).parts
    if not parts or slide.startswith("/") or ".." in parts or "\\" in slide:
        raise DataError(
            f"slide id {slide!r}: no name for a file in {folder}; give the slide another id in the manifest."
        )
    return Path(folder) / f"{slide}{suffix}"


def _stamp(path: Path) -> list[int]:
    """Return size and time of change of the file that is opened (of MRXS one of many); [] if it is missing."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]
