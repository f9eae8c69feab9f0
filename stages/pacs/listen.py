"""The stage `listen`: studies as they are sent, one result each, in a table and back to the PACS."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.alone import file_alone
from ...core.documents import read_json
from ...core.errors import DataError, RunError, UserError
from ...core.extras import require
from ...core.files import file_sha256, write_json
from ...datasets.images.dicom_header import DicomHeader, read_header
from ...datasets.images.studies import choose_image
from ...datasets.kinds import DICOM
from ...datasets.manifest.contents import Entry
from ...finetune.pipeline import PREDICTED, WARNING, Predictor, predicted
from ..dicom.case import Code
from ..facts import beside, model_facts
from ..refused import RefusingPredictor
from ..requested import cases_of, marked
from ..requested_files import CHOSEN, IDENTIFIERS, Expanded, pseudonyms
from .destination import Destination
from .queue import Queue
from .receiver import Reception, receiving
from .results import write_report
from .rows import STUDY, Rows
from .web import PacsAway

LOOK_S = 0.25
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0
TRIES = 3  # of a study whose scoring fails as a whole, before it is a failed row
AT_ONCE = 32  # studies that are scored together
_PACS = "results"  # what waits while the PACS is away


@dataclass(frozen=True)
class ListenRequest:
    """What is asked of a listener.

    Attributes:
        model: Model folder.
        queue: Folder of what waits; see `Queue`.
        out: Table of all results, added to.
        reception: How it listens.
        quiet_s: A study is complete when nothing of it has come for so long.
        queue_gb: Most that may wait.
        destination: Where results go; None for the table alone.
        workers: Reading processes.
        unit: What a case is; '' for what the model's card says.
        codes: Of findings, by label, for the results.
    """

    model: Path
    queue: Path
    out: Path
    reception: Reception = field(default_factory=Reception)
    quiet_s: float = 60
    queue_gb: float = 50
    destination: Destination | None = None
    workers: int = 1
    unit: str = ""
    codes: Mapping[str, Code] = field(default_factory=dict)


def say(text: str) -> None:
    """Print a line with the time; no line names anybody."""
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}", flush=True)


def listen_stage(request: ListenRequest, stop: threading.Event) -> None:
    """Listen until `stop` is set.

    Raises:
        UserError: The table was begun by another model, or another listener is at work.
        RunError: The address is taken.
    """
    from ...finetune.model import load_model
    from ...finetune.out_of_distribution import read_limit
    from ...finetune.predict import model_predictor

    if request.out.suffix.lower() != ".csv":
        raise UserError(f"--out {request.out}: the table of a listener grows row by row, as .csv.")
    if request.destination is not None:
        require("highdicom", "pacs", "sending results")
    network, card = load_model(request.model)
    limit = read_limit(request.model, card, network)
    predictor = RefusingPredictor(model_predictor(network, card, workers=request.workers, limit=limit))
    request.out.parent.mkdir(parents=True, exist_ok=True)
    with (
        file_alone(request.out),
        Queue(request.queue, request.queue_gb * 1e9) as queue,
        _model_named(request, card),
    ):
        rows = Rows(request.out, _columns(card))
        answering = Answering(request, queue, rows, predictor, request.unit or card.holds)
        answering.resume()
        with receiving(request.reception, queue, say), _in_thread(answering.send_until, stop):
            where = f"{request.reception.host}:{request.reception.port}"
            say(f"listening as {request.reception.title} at {where}")
            while not stop.wait(LOOK_S):
                answering.score_due()
    say("stopped")


class Answering:
    """Scores complete studies and sends their results, each once.

    Args:
        request: What is asked.
        queue: What waits.
        rows: The table.
        predictor: Scores cases; those with a reason are refused.
        unit: What a case is.
    """

    def __init__(self, request: ListenRequest, queue: Queue, rows: "Rows", predictor: Predictor, unit: str):
        self._weights = file_sha256(request.model / predictor.card.weights_file)
        self._request, self._queue, self._rows, self._predictor, self._unit = request, queue, rows, predictor, unit
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._waits: dict[str, float] = {}

    def resume(self) -> None:
        """Say what a listener before has left."""
        begun, unsent = len(self._queue.scoring()), len(self._queue.outgoing())
        if begun or unsent:
            say(f"going on with {begun} studies that were being scored and {unsent} that wait to be sent")

    def score_due(self) -> None:
        """Score the studies that are complete, and those whose scoring was begun."""
        due = [*self._queue.scoring(), *self._queue.complete(self._request.quiet_s)]
        due = [study for study in dict.fromkeys(due) if self._is_due(study)]
        alone = [study for study in due if study in self._failures]  # one of them made all fail
        due = alone[:1] or due[:AT_ONCE]
        if not due:
            return
        try:
            self._score(due)
        except (OSError, RunError) as error:
            self._postpone(due, str(error))
        except Exception as error:  # a study must not end the listener for all others
            for study in due:
                self._failures[study] = self._failures.get(study, 0) + 1
            self._postpone(due, f"{type(error).__name__} while scoring.")

    def send_until(self, stop: threading.Event) -> None:
        """Put answers into the table and send them, until `stop` is set."""
        while not stop.wait(LOOK_S):
            for study in self._queue.outgoing():
                if stop.is_set():
                    return
                if self._is_due(study):
                    self._finish(study)

    def _finish(self, study: str) -> None:
        """Bring an answer to where it belongs; each step may be repeated. While the PACS is away, it is left alone."""
        who, away = study, self._request.destination is not None and not self._is_due(_PACS)
        if away and self._rows.has(study):
            return
        try:
            self._rows.add(study, self._queue.rows(study)["line"])
            if self._request.destination is not None:
                who = _PACS
                if away:
                    return
                for path in self._queue.results(study):
                    self._request.destination.send([path])
                    path.unlink()
            self._queue.finish(study)
        except PacsAway as error:
            self._postpone([who], str(error))
        except (OSError, RunError, UserError) as error:
            self._postpone([study], str(error))
        except Exception as error:  # one answer must not end the sending of all others
            self._postpone([study], f"{type(error).__name__} while sending.")
        else:
            for name in (who, study):
                self._waits.pop(name, None)

    def _score(self, studies: list[str]) -> None:
        found = Expanded()
        paths = [self._one(found, study, self._queue.take(study)) for study in studies]
        cases = cases_of(found)
        cases = cases.assign(**pseudonyms(cases, self._queue.salt))
        truth = np.full((len(cases), len(self._predictor.card.labels)), np.nan)
        table = marked(predicted(cases, truth, self._predictor, progress=False), cases).assign(**{STUDY: studies})
        at = {path: row for row, path in enumerate(found.entries)}
        for study, path in zip(studies, paths):
            self._answer(study, table.iloc[[at[path]]], path)

    def _one(self, found: Expanded, study: str, files: list[Path]) -> Path:
        """Add the image of a study that is scored; return its path, which is that of no file where none is."""
        headers, damaged = _headers(files)
        choice = choose_image(list(headers.values()), self._unit)
        found.left_out.update(choice.left_out)
        if choice.index is not None and self._failures.get(study, 0) < TRIES:
            path = list(headers)[choice.index]
            found.entries[path] = Entry(path.name, DICOM, headers[path])
            found.chosen[path] = choice.why
            return path
        path = self._queue.folder / study
        reason = choice.why if choice.index is None else f"it could not be scored in {TRIES} tries"
        found.refused[path] = reason + (f"; {damaged} of its files cannot be read" if damaged else "")
        found.entries[path] = Entry(f"{study}.dcm", DICOM, _of_all(list(headers.values())))
        return path

    def _answer(self, study: str, row: pd.DataFrame, path: Path) -> None:
        folder, first = self._queue.answer_folder(study), row.iloc[0]
        if self._request.destination is not None:
            sources = [path] if path.is_file() else self._queue.take(study)
            try:
                write_report(self._predictor.card, self._weights, first, sources, self._request.codes, folder)
            except DataError as error:
                say(f"study {study}: no result as DICOM: {error}")
        self._queue.answered(study, {"status": first["status"], "line": self._rows.line(row)})
        self._failures.pop(study, None)
        why = first["reason"] or first.get(CHOSEN, "")
        say(f"study {study}: {first['status']} ({why})")

    def _is_due(self, study: str) -> bool:
        return time.monotonic() >= self._not_before.get(study, 0.0)

    def _postpone(self, studies: list[str], why: str) -> None:
        """Try again later, each time after twice the wait."""
        for study in studies:
            wait = min(2 * self._waits.get(study, FIRST_WAIT_S / 2), LONGEST_WAIT_S)
            self._waits[study], self._not_before[study] = wait, time.monotonic() + wait
        say(
            f"waiting: {studies[0]}{f' and {len(studies) - 1} more' * (len(studies) > 1)}: {why} Next try in {wait:g} s"
        )


def _headers(files: list[Path]) -> tuple[dict[Path, DicomHeader], int]:
    """Return the headers of files, and of how many there is none."""
    found = {}
    for path in files:
        try:
            found[path] = read_header(path)
        except DataError:
            continue
    return found, len(files) - len(found)


def _of_all(headers: list[DicomHeader]) -> DicomHeader | None:
    """Return what all headers of a study say alike."""
    if not headers:
        return None
    same = {name: {getattr(each, name) for each in headers} for name in ("patient", "study", "accession")}
    said = {name: values.pop() if len(values) == 1 else "" for name, values in same.items()}
    return DicomHeader("", "", "", "", None, 1, "", None, said["patient"], said["study"], accession=said["accession"])


def _columns(card) -> list[str]:
    """Return the columns of the table: those of `predictions.csv`, whether a study fills them or not."""
    values = {} if card.exclusive else {name: (card.thresholds.get(name) or {}).get("value") for name in card.labels}
    cut = [name for name, value in values.items() if value is not None]
    head = ["id", "patient", "split", "status", "reason"]
    scores = [f"{start}{name}" for start in ("y_", "p_") for name in card.labels]
    return [*head, *scores, *(PREDICTED + name for name in cut), *IDENTIFIERS, "view", CHOSEN, WARNING]


@contextmanager
def _model_named(request: ListenRequest, card) -> Iterator[None]:
    """Write beside the table whose scores they are; another model may not go on with it."""
    path = beside(request.out, "model")
    facts = model_facts(request.model, card) | {"sha256": file_sha256(request.model / card.weights_file)}
    before = read_json(path) if path.exists() and request.out.exists() else facts
    for name in ("sha256", "thresholds", "calibration"):
        if before.get(name) != facts[name]:
            raise UserError(f"{request.out}: was begun by another model ({name}). Name another --out for this one.")
    write_json(path, facts)
    yield


@contextmanager
def _in_thread(work: Callable[[threading.Event], None], stop: threading.Event) -> Iterator[None]:
    """Do something beside the block; the block's end, however it ends, ends it too."""
    thread = threading.Thread(target=work, args=(stop,), name="sending")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
