"""The stage `predict` of images and clips: files to rows, as they come, calibrated and called by thresholds."""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..core.alone import file_alone
from ..core.documents import parse_json, read_json
from ..core.errors import UserError
from ..core.files import file_sha256, write_json, write_text
from ..datasets.loading.readers import with_boxes
from ..datasets.manifest.tables import read_predictions, truth_width, unit_ids, write_predictions
from ..finetune.pipeline import PREDICTED, WARNING, predicted
from ..finetune.scored import Predictor, kinds_of
from .audit import Audit
from .dicom.case import ResultCase
from .dicom.results import Results, write_all
from .explain import EXPLANATIONS, MAPS, explain_cases, refuse_method
from .facts import beside, model_facts
from .journal import Journal, remove_journals
from .journalled import JournalledPredictor
from .patient_alarm import COLUMN, PatientWatch
from .processes import ALONE, Share, Team
from .refused import RefusingPredictor
from .requested import LEFT_OUT, cases_of, marked, requested_cases
from .requested_files import CHOSEN, IDENTIFIERS, SOURCE, fingerprint, name_salt, pseudonyms, write_key
from .seen import seen_facts
from .units import (
    IMAGES,
    Asked,
    image_card,
    images_table,
    scored_members,
    unit_card,
    unit_facts,
    units_table,
    with_unit_facts,
)

if TYPE_CHECKING:
    from ..finetune.answers import Answers
    from .pacs.fetch import WebQuery

MULTI_VIEW = "multi_view"  # kind of the card of a model that sees the images of a unit together
HEAD = (
    "id", "patient", "split", "status", "reason", *IDENTIFIERS, "case", "images", "failed_images", "clips",
    "failed_clips", "view", CHOSEN, COLUMN, WARNING,
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is asked of a prediction.

    Attributes:
        model: Model folder.
        inputs: Files, folders, globs, or one manifest CSV.
        out: The table to write, `.csv` or `.jsonl` (JSON lines).
        batch: Files per batch.
        workers: Reading processes, at least one.
        explain: Folder for where the model looked: maps of images, of clips the frames that the score rests on.
        method: Of the maps of images (`finetune.relevance`); None for gradients.
        resume: Go on where a killed prediction stopped.
        identifiers: Name DICOM files by their file names and patient numbers, not by hashes.
        bf16: Matmuls in bfloat16.
        share: Which of how many processes this is that were all asked for the same.
        unit: What a case in a folder is (`datasets.manifest.contents`); '' for what the model's card says.
        audit: Log to which is added who asked for what (`stages.audit`); None for none.
        one: Of each DICOM study, score the one image that `datasets.images.studies` chooses.
        web: Studies of a PACS instead of `inputs`.
        dicom: Results as DICOM objects; None for none. Where they show maps, `explain` is `explanations` beside `out`
            if it is None.
        runtime: What computes: `torch`, or `onnx`, whose `model` is a folder of `export --to onnx` or a graph in it.
        units: Units larger than an image that the rows are to be; None for what the model's card says.
        alarm: File of `clinvit audit --alarm`, to be asked whether images look like the patient they claim; None: none.
        only: Ids of the cases of a manifest that are scored; None for all.
    """

    model: Path
    inputs: Sequence[str]
    out: Path
    batch: int = 32
    workers: int = 1
    explain: Path | None = None
    method: str | None = None
    resume: bool = False
    identifiers: bool = False
    bf16: bool = False
    share: Share = ALONE
    unit: str = ""
    audit: Path | None = None
    one: bool = False
    web: "WebQuery | None" = None
    dicom: Results | None = None
    runtime: str = "torch"
    units: Asked = IMAGES
    alarm: Path | None = None
    only: frozenset[str] | None = None


def predict_stage(request: Request) -> pd.DataFrame | None:
    """Predict files, folders, globs or a manifest; gives and writes one row per requested case.

    Where rows are units larger than an image, the scores of these stand beside it (`units.images_table`).
    Beside the table `out` stands `<out's name>.model.json`: which model, its thresholds, how and on what they were
    chosen, its calibration, and how many of the cases it has seen before. Rows are kept in `<out>.partial.jsonl` until
    the table is whole. Of several processes each does its share; process 0 writes everything and gives the table, the
    others give None. The ids and patients of DICOM files are hashes, unless they come from a manifest; `<out's
    name>.key.json` says which id is which file.

    Raises:
        UserError: The model cannot be explained so, `out` has another suffix, another process is writing it, or what
            is to go on was begun by another model.
        RunError: Another process of a shared prediction did not begin, or ended before its share was done.
    """
    from ..mil.cards import load_predicting

    suffix = request.out.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise UserError(f"--out {request.out}: predictions are written as .csv or as .jsonl (JSON lines).")
    if request.runtime == "onnx":
        return _predict_exported(request)
    network, card = load_predicting(request.model, dense=True)
    if card.kind == MULTI_VIEW:
        _refuse_multi_view(request)
    if getattr(card, "dense", None) and request.explain is None:  # what it draws is its answer
        request = replace(request, explain=request.out.parent / EXPLANATIONS)
    if request.dicom is not None:
        request = replace(request, dicom=request.dicom.of_values(card))
        assert request.dicom is not None
        if (of_units := request.units.units(card)) is not None:
            request.dicom.refuse_maps(of_units.unit)
    request = _with_maps(request, card)
    if request.method is not None and card.arch.frames > 1:
        raise UserError(f"{request.model}: a model of clips, which are explained by their frames: no --explain-method.")
    if request.explain is not None and len(card.scales) > 1:
        raise UserError(
            f"{request.model}: sees images at scales {list(card.scales)}; --explain is for models of one scale."
        )
    if request.explain is not None and card.arch.frames == 1:
        refuse_method(network, request.method)
    sha256 = file_sha256(request.model / card.weights_file)
    return _predict_alone(request, network, card, sha256, model_facts(request.model, card))


def _predict_exported(request: Request) -> pd.DataFrame | None:
    """Predict by an exported graph."""
    from ..core.extras import require
    from .exported import read_exported

    if request.explain is not None or request.bf16:
        raise UserError("--explain and --bf16 are for --runtime torch: a graph gives probabilities alone.")
    if request.dicom is not None or request.alarm is not None:
        name = "--dicom" if request.dicom is not None else "--alarm"
        raise UserError(f"{name} is for --runtime torch: leave one of them out.")
    require("onnxruntime", "export", "--runtime onnx")
    card = read_exported(request.model)
    table = _predict_alone(request, None, card, file_sha256(card.graph), dict(card.facts))
    if table is not None and card.unwatched:
        table.attrs["notes"] = [f"no case is flagged as out of distribution: {card.unwatched}."]
    return table


def _predict_alone(request: Request, network, card, sha256: str, facts: dict) -> pd.DataFrame | None:
    """Predict while no other prediction writes the table."""
    if request.web is not None and request.share.of > 1:
        raise UserError("--dicomweb: studies are fetched by one process: start it without torchrun or SLURM's tasks.")
    with (
        Team(request.out, request.share) as team,
        file_alone(request.out) if team.first else contextlib.nullcontext(),
        _cases(request, card) as (cases, truth),
    ):
        return _predict(request, network, card, team, cases, truth, sha256, facts)


@contextlib.contextmanager
def _cases(request: Request, card) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Give the cases and their truth; those of a PACS lie here for as long as the block lasts."""
    unit = request.unit or card.holds
    if request.web is None:
        cases, truth = requested_cases(request.inputs, card.asked, unit, request.one)
        if request.only is not None:
            wanted = cases["id"].isin(request.only).to_numpy()
            cases, truth = cases[wanted].reset_index(drop=True), truth[wanted]
        yield cases, truth
        return
    from .pacs.fetch import fetched

    folder, every = request.out.with_name(f".{request.out.name}.studies"), request.units.units(card) is not None
    with fetched(request.web, folder, unit, every) as found:
        cases = cases_of(found)
        yield cases, np.full((len(cases), truth_width(card.asked)), np.nan)


def _predict(
    request: Request, network, card, team: Team, cases: pd.DataFrame, truth: np.ndarray, sha256: str, facts: dict
) -> pd.DataFrame | None:
    if hasattr(card, "reader"):
        with_boxes(card.reader(), cases)  # clips without the boxes that they are cropped to are refused
    key = beside(request.out, "key")
    units = request.units.units(card)
    watch = _watch(request, units is not None, sha256, cases)
    audit = Audit(request.audit if team.first else None, sha256, cases)
    cases = without_names(cases, key, request.identifiers, [key] if request.resume else [], request.share.rank == 0)
    said = facts | {"seen": seen_facts(request.model, cases)}
    said |= {"sha256": sha256, "cases": fingerprint(cases), "precision": _precision(request, card)}
    said |= {LEFT_OUT: cases.attrs.get(LEFT_OUT, {})}
    if request.alarm is not None:
        said["alarm"] = file_sha256(request.alarm)
    if units is not None:
        unit_ids(request.out, cases, units.unit)  # refused before anything is scored
        said |= unit_facts(card, units)
    whole = request.out if units is None else images_table(request.out, card)
    finished = request.resume and _finished(request.out, said)
    of_images = card if units is None else image_card(card)
    predictor = None if finished else _predictor(request, network, of_images, team, sha256)
    if not team.first:
        if predictor is not None:
            deque(RefusingPredictor(predictor).scores(cases), maxlen=0)
        return None
    if predictor is None:
        images, table = read_table(whole, bool(kinds_of(card))), read_table(request.out, bool(kinds_of(card)))
    else:
        images = table = marked(predicted(cases, truth, RefusingPredictor(predictor), progress=False), cases)
        # Killed between the two, a table of this model must not stand beside the facts of another.
        beside(request.out, "model").unlink(missing_ok=True)
        if watch is not None:
            images = table = watch.watched(table, cases, request.batch, request.workers)
        if units is not None:
            table = units_table(images, cases, units, card)
            write_table(whole, images, of_images)
        write_table(request.out, table, card)
        write_json(beside(request.out, "model"), said)
    audit.written(request.out, table)
    remove_journals(request.out)
    if request.explain is not None:
        explain_cases(request, network, of_images, cases, images)
    if request.dicom is not None:
        if units is None:
            listed = write_all(request.dicom, card, sha256, cases, table, _shown(request, network, card, cases))
        else:
            members = scored_members(cases, images, units, request.out)
            told, own = with_unit_facts(units, members), unit_card(card, units)
            listed = write_all(request.dicom, own, sha256, cases, table, told, members)
        if request.web is not None and request.web.store:
            _send(request, listed)
    return marked(table, cases) if units is None else table


def _watch(request: Request, of_units: bool, sha256: str, cases: pd.DataFrame) -> PatientWatch | None:
    """Open the alarm that is to be asked; what it cannot be asked is refused before anything is scored."""
    if request.alarm is None:
        return None
    if of_units:
        raise UserError("--alarm is for predictions of single images: set --unit image, or leave it out.")
    return PatientWatch(request.alarm, request.model, sha256, cases)


def _send(request: Request, listed: Mapping[str, dict]) -> None:
    """Send the results of fetched cases back to where they came from."""
    from .pacs.results import send_results
    from .pacs.web import Web

    assert request.web is not None and request.dicom is not None
    send_results(listed, request.dicom.folder, Web(request.web.url, request.web.identity), request.web.keep)


def _with_maps(request: Request, card) -> Request:
    """Return a request whose DICOM results can be written, and which explains what they show."""
    if request.dicom is None:
        return request
    request.dicom.refuse()
    if not request.dicom.shows or request.explain is not None or card.arch.frames > 1 or len(card.scales) > 1:
        return request
    return replace(request, explain=request.out.parent / EXPLANATIONS)


def _shown(request: Request, network, card, cases: pd.DataFrame) -> Callable[[ResultCase], ResultCase] | None:
    """Return what adds to a case of results where the model looked; None where no kind shows it."""
    from .dicom.heat import with_clip_maps, with_image_maps

    if request.dicom is None or not request.dicom.shows:
        return None
    if card.arch.frames > 1:
        reader = with_boxes(card.reader(), cases)
        return lambda case: with_clip_maps(case, network, card, reader)
    if request.explain is None:  # a model of several scales
        return None
    maps = request.explain / MAPS
    return lambda case: with_image_maps(case, maps)


def write_table(out: Path, table: pd.DataFrame, card: "Answers") -> None:
    """Write predictions as CSV, or one JSON object a line."""
    if out.suffix.lower() == ".csv":
        write_predictions(out, table)
    else:
        write_text(
            out, "".join(json.dumps(_line(row, card), ensure_ascii=False) + "\n" for row in table.to_dict("records"))
        )


def _line(row: Mapping, card: "Answers") -> dict:
    labels, head = card.labels, {key: row[key] for key in HEAD if key in row}
    if getattr(card, "targets", ()):
        truth = {column for each in card.kinds for column in each.truth}
        own = {key: None if value != value else float(value) for key, value in row.items() if isinstance(value, float)}
        scores = {key: value for key, value in own.items() if key not in truth}
        return head | {"scores": scores, "truth": {key: value for key, value in own.items() if key in truth}}

    def values(prefix: str, kind: type) -> dict:
        named = {label: row[prefix + label] for label in labels if prefix + label in row}
        return {label: None if value != value else kind(value) for label, value in named.items()}

    return head | {"scores": values("p_", float), "predicted": values(PREDICTED, int), "truth": values("y_", int)}


def read_table(out: Path, targets: bool = False) -> pd.DataFrame:
    """A table that `write_table` has written, as far as the columns of CSV go; of findings or of `targets`."""
    if out.suffix.lower() == ".csv":
        return read_predictions(out, targets=True).table
    lines = [parse_json(line) for line in out.read_bytes().splitlines()]
    scores = pd.DataFrame([line["scores"] for line in lines]).add_prefix("" if targets else "p_")
    head = pd.DataFrame(lines)
    return pd.concat([head[[key for key in HEAD if key in head]], scores], axis=1)


def _precision(request: Request, card) -> str:
    if request.runtime == "onnx":
        return card.graph.name
    return "bf16" if request.bf16 else "fp32"


def _finished(out: Path, said: dict) -> bool:
    """Whether the table of these cases by this model is there."""
    facts = beside(out, "model")
    return out.is_file() and facts.is_file() and read_json(facts) == said


def without_names(
    cases: pd.DataFrame, key: Path, identifiers: bool, earlier: Sequence[Path] = (), write: bool = True
) -> pd.DataFrame:
    """The cases; DICOM files that come from no manifest get hashes for their names, which are often those of people.

    Args:
        cases: As from `requested_cases`.
        key: Where it is written which id is which file.
        identifiers: Whether all keep their names.
        earlier: Keys whose secret is taken again, the first that is there.
        write: Whether this process writes the key.
    """
    if identifiers or not (cases["split"] == "new").all() or not cases["dicom"].any():
        return cases
    salt = name_salt(earlier)
    cases = cases.assign(**pseudonyms(cases, salt))
    if write:
        files = cases.get(SOURCE, cases["path"])
        write_key(key, salt, cases["id"].tolist(), files.tolist())
    return cases


def _refuse_multi_view(request: Request) -> None:
    """Refuse what is of single images where a model sees the images of a unit together."""
    asked = {
        "--explain": request.explain, "--resume": request.resume, "--bf16": request.bf16,
        "several processes": request.share.of > 1, "--alarm": request.alarm,
    }  # fmt: skip
    for name, value in asked.items():
        if value:
            raise UserError(f"{request.model}: a model of several views, for which {name} is not made: leave it out.")


def _predictor(request: Request, network, card, team: Team, sha256: str) -> Predictor:
    if network is not None and card.kind == MULTI_VIEW:
        from ..mil.multi_view import MultiViewPredictor

        return MultiViewPredictor(network, card, request.batch, request.workers)
    from ..finetune.out_of_distribution import read_limit
    from ..finetune.predict import model_predictor

    made_by = {"model": sha256, "precision": _precision(request, card)}
    journal = Journal(request.out, made_by, request.resume, request.share.part)
    if network is None:
        from .onnx_runtime import graph_predictor

        predictor = graph_predictor(card.graph, card, request.batch, request.workers, card.limit)
    else:
        limit = read_limit(request.model, card, network)
        predictor = model_predictor(network, card, request.batch, request.workers, request.bf16, limit)
    return JournalledPredictor(predictor, journal, team, request.batch)
