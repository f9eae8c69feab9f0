"""The stage `listen`: studies as they are sent, one result each, in a table and back to the PACS."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.alone import file_alone
from ...core.documents import read_json
from ...core.errors import DataError, RunError, UserError
from ...core.extras import require
from ...core.files import file_sha256, write_json
from ...datasets.images.dicom_header import DicomHeader, read_header
from ...datasets.images.studies import choose_image, scorable
from ...datasets.kinds import DICOM
from ...datasets.manifest.contents import Entry
from ...datasets.manifest.tables import plural, truth_width
from ...finetune.pipeline import PREDICTED, WARNING, Predictor, predicted
from ...finetune.scored import cut_offs
from ..dicom.case import Code, ResultCase
from ..facts import beside, model_facts
from ..refused import RefusingPredictor
from ..requested import cases_of, marked
from ..requested_files import CHOSEN, IDENTIFIERS, Expanded, pseudonyms
from ..units import (
    IMAGES,
    Asked,
    image_card,
    scored_members,
    unit_card,
    unit_facts,
    units_table,
    with_unit_facts,
)
from .destination import Destination
from .queue import Queue
from .receiver import Reception, receiving
from .results import write_report
from .rows import STUDY, Rows
from .web import PacsAway

if TYPE_CHECKING:
    from ...eval.units import Units

LOOK_S = 0.25
MULTI_VIEW = "multi_view"  # kind of the card of a model that sees the images of a study together
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
        units: Whether a study is scored on all of its images; None for what the model's card says.
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
    units: Asked = IMAGES


def say(text: str) -> None:
    """Print a line with the time; no line names anybody."""
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}", flush=True)


def listen_stage(request: ListenRequest, stop: threading.Event) -> None:
    """Listen until `stop` is set.

    Raises:
        UserError: The table was begun by another model, another listener is at work, or units are not studies.
        RunError: The address is taken.
    """
    from ...mil.cards import load_predicting

    if request.out.suffix.lower() != ".csv":
        raise UserError(f"--out {request.out}: the table of a listener grows row by row, as .csv.")
    if request.destination is not None:
        require("highdicom", "pacs", "sending results")
    network, card = load_predicting(request.model)
    if (card.source_card() if card.kind == MULTI_VIEW else card).clip.roi == "boxes":
        raise UserError(
            f"{request.model}: reads clips cropped to the boxes of a table (data.clip.roi boxes), and a listener has "
            "none: `clinvit predict` scores them by a manifest; a model of data.clip.roi moving needs no boxes."
        )
    units = request.units.units(card)
    if units is not None and units.unit != STUDY:
        raise UserError(
            f"a listener scores study by study, not {plural(units.unit)}: take --unit study, or a model of studies; "
            "`clinvit predict` scores the others."
        )
    predictor = RefusingPredictor(_predictor(request, network, card))
    request.out.parent.mkdir(parents=True, exist_ok=True)
    with (
        file_alone(request.out),
        Queue(request.queue, request.queue_gb * 1e9) as queue,
        _model_named(request, card, units),
    ):
        rows = Rows(request.out, _columns(card, units))
        answering = Answering(request, queue, rows, predictor, request.unit or card.holds, card, units)
        answering.resume()
        with receiving(request.reception, queue, say), _in_thread(answering.send_until, stop):
            where = f"{request.reception.host}:{request.reception.port}"
            say(f"listening as {request.reception.title} at {where}")
            while not stop.wait(LOOK_S):
                answering.score_due()
    say("stopped")


def _predictor(request: ListenRequest, network: Any, card: Any) -> Predictor:
    """Return what scores images: of a model of studies without its thresholds and calibration, which are of these."""
    if card.kind == MULTI_VIEW:
        from ...mil.multi_view import MultiViewPredictor

        return MultiViewPredictor(network, image_card(card), workers=request.workers)
    from ...finetune.out_of_distribution import read_limit
    from ...finetune.predict import model_predictor

    limit = read_limit(request.model, card, network)
    return model_predictor(network, image_card(card), workers=request.workers, limit=limit)


class Answering:
    """Scores complete studies and sends their results, each once.

    Args:
        request: What is asked.
        queue: What waits.
        rows: The table.
        predictor: Scores cases; those with a reason are refused.
        unit: What a case is.
        card: Of the model.
        units: Of a study that is scored on all of its images, how; None where one image is chosen.
    """

    def __init__(
        self, request: ListenRequest, queue: Queue, rows: "Rows", predictor: Predictor, unit: str, card: Any,
        units: "Units | None" = None,
    ):  # fmt: skip
        self._weights = file_sha256(request.model / card.weights_file)
        self._request, self._queue, self._rows, self._predictor, self._unit = request, queue, rows, predictor, unit
        self._units, self._card = units, card
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
        paths = {study: self._chosen(found, study, self._queue.take(study)) for study in studies}
        of = {path: study for study, own in paths.items() for path in own}
        cases = cases_of(found)
        cases = cases.assign(**pseudonyms(cases, self._queue.salt))
        cases[STUDY] = [of[path] for path in found.entries]
        cases["patient"] = cases.groupby(STUDY)["patient"].transform("first")  # an image may lack the number
        truth = np.full((len(cases), truth_width(self._card.asked)), np.nan)
        table = marked(predicted(cases, truth, self._predictor, progress=False), cases)
        if self._units is None:
            at = dict(zip(cases[STUDY], range(len(cases))))
        else:
            images, out = table, self._request.out
            table = units_table(images, cases, self._units, self._card)
            members = scored_members(cases, images, self._units, out)
            paths = {of[Path(own[0])]: [Path(path) for path in own] for own in members.values()}
            at = {of[Path(own[0])]: table.index[table["id"] == name][0] for name, own in members.items()}
        for study in studies:
            self._answer(study, table.iloc[[at[study]]].assign(**{STUDY: study}), paths[study])

    def _chosen(self, found: Expanded, study: str, files: list[Path]) -> list[Path]:
        """Add the images of a study that are scored; return their paths, that of no file where none is."""
        headers, damaged = _headers(files)
        if self._units is None:
            choice = choose_image(list(headers.values()), self._unit)
            fit, why, left_out = [] if choice.index is None else [choice.index], choice.why, choice.left_out
        else:
            fit, why, left_out = scorable(list(headers.values()), self._unit)
        found.left_out.update(left_out)
        if fit and self._failures.get(study, 0) < TRIES:
            paths = [list(headers)[index] for index in fit]
            for path in paths:
                found.entries[path] = Entry(path.name, DICOM, headers[path])
                if self._units is None:
                    found.chosen[path] = why
            return paths
        path = self._queue.folder / study
        reason = f"it could not be scored in {TRIES} tries" if fit else why
        found.refused[path] = reason + (f"; {damaged} of its files cannot be read" if damaged else "")
        found.entries[path] = Entry(f"{study}.dcm", DICOM, _of_all(list(headers.values())))
        return [path]

    def _answer(self, study: str, row: pd.DataFrame, paths: list[Path]) -> None:
        folder, first = self._queue.answer_folder(study), row.iloc[0]
        if self._request.destination is not None:
            sources = [path for path in paths if path.is_file()] or self._queue.take(study)
            try:
                write_report(
                    self._report_card(), self._weights, first, sources, self._request.codes, folder, self._told
                )
            except DataError as error:
                say(f"study {study}: no result as DICOM: {error}")
        self._queue.answered(study, {"status": first["status"], "line": self._rows.line(row)})
        self._failures.pop(study, None)
        why = first["reason"] or first.get(CHOSEN, "") or f"scored on {len(paths)} of its images"
        say(f"study {study}: {first['status']} ({why})")

    def _report_card(self) -> Any:
        return self._card if self._units is None else unit_card(self._card, self._units)

    def _told(self, case: ResultCase) -> ResultCase:
        """Return a case that says on how many images its study was scored."""
        if self._units is None or case.reason:
            return case
        return with_unit_facts(self._units, {case.id: [str(path) for path in case.sources]})(case)

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


def _columns(card, units: "Units | None" = None) -> list[str]:
    """Return the columns of the table: those of `predictions.csv`, whether a study fills them or not."""
    own = card if units is None else unit_card(card, units)
    head = ["id", "patient", "split", "status", "reason"]
    scores = [f"{start}{name}" for start in ("y_", "p_") for name in card.labels]
    if card.kinds:
        none = [(each, np.empty((0, len(each.columns)))) for each in card.kinds]
        scores = [name for each, rows in none for name in (*each.truth, *each.decided(rows), *each.columns)]
    cut = [PREDICTED + name for name in cut_offs(own)]
    if units is not None:
        return [*head, STUDY, f"{units.of}s", f"failed_{units.of}s", *scores, *cut, WARNING]
    return [*head, *scores, *cut, *IDENTIFIERS, "view", CHOSEN, WARNING]


@contextmanager
def _model_named(request: ListenRequest, card, units: "Units | None" = None) -> Iterator[None]:
    """Write beside the table whose scores they are; another model may not go on with it."""
    path = beside(request.out, "model")
    facts = model_facts(request.model, card) | {"sha256": file_sha256(request.model / card.weights_file)}
    facts |= {} if units is None else unit_facts(card, units)
    before = read_json(path) if path.exists() and request.out.exists() else facts
    for name in ("sha256", "thresholds", "calibration", "aggregation"):
        if before.get(name) != facts.get(name):
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
