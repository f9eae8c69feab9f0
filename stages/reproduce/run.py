"""`clinvit reproduce`: trains or predicts what is missing, measures every row, and rewrites the table after each."""

import contextlib
import hashlib
import json
import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...core.documents import read_json
from ...core.errors import RunError, UserError
from ...core.files import copy_folder, write_json, write_text
from ...datasets.manifest.tables import Manifest
from ...engine.recipe import flat
from ...engine.run_folder import FREE, rank
from ..data import MANIFEST, open_manifest
from ..prepare import prepare_stage
from ..processes import wait_for_first
from ..task import Task
from .ahead import estimates, refuse_batches, work_ahead
from .catalogue import chosen_rows
from .cost import costed, processes, read_cost, total
from .measured import measured
from .output import write_table
from .plan import Plan, Planned, make_plan, unused_options
from .result import DONE, FAILED, NOT_RUN, RowResult, load_result, save_result
from .table import Measure, Mil, Pretrain, Table, Tile
from .weights import predict_given, weights_fingerprint
from .work import Work

STEP = "step.json"
PROBED = 200  # files that are looked for before anything runs


@dataclass(frozen=True)
class Request:
    """What is asked of `reproduce`.

    Attributes:
        table: The table.
        task: The task of the table.
        out: Folder of tables and steps.
        data: Manifest, its folder, or a data set as downloaded; None with `phantoms`, or to measure cost alone.
        pretrain_data: Data that encoders are pre-trained on; None for `data`.
        rows: Names of rows; None for all that can be run.
        weights: Row name to encoders and models.
        phantoms: Invented data and small recipes.
        download: Weights of timm's hub may be fetched.
        resamples: Resamples of the bootstrap by patient.
        options: Dotted options for the recipes.
        smoke: One epoch of every training, in a folder of its own: whether all goes through, not what the paper got.
    """

    table: Table
    task: Task
    out: Path
    data: Path | None = None
    pretrain_data: Path | None = None
    rows: Sequence[str] | None = None
    weights: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    phantoms: bool = False
    download: bool = False
    resamples: int = 2000
    options: Sequence[str] = ()
    smoke: bool = False

    def changes(self) -> tuple[str, ...]:
        """Return the options that change the recipes."""
        return (*(["--smoke"] if self.smoke else []), *self.options)


@dataclass(frozen=True)
class _Place:
    """Where things are: `root` holds steps, data and tables; `folder` is the table's own."""

    root: Path
    folder: Path
    data: Manifest | None
    pretrain_data: Manifest | None

    def fingerprint(self) -> str:
        """Return the fingerprint of the data; empty without data."""
        return self.data.fingerprint() if self.data is not None else ""


def reproduce(request: Request) -> tuple[Path, list[RowResult]]:
    """Run the rows asked for and write the table.

    Returns:
        The table's folder and the outcome of every row of the table, in its order.

    Raises:
        UserError: The request cannot be carried out; nothing was run then.
    """
    table = request.table
    place, plans = _planned(request)
    _probe(place)
    refuse_batches([plan for plan in plans if not plan.missing], place.data, place.pretrain_data)
    results = {row.name: load_result(place.folder, row.name, place.fingerprint()) for row in table.rows}
    before = {name for name, result in results.items() if result.state == FAILED}
    for plan in plans:
        open_row = RowResult(plan.row.name, NOT_RUN, plan.missing or "waits for its turn", data=place.fingerprint())
        results[plan.row.name] = open_row
    _write(request, place, results)
    # What failed before goes last: with several processes a failure ends the command, which is then repeated.
    ready = sorted((plan for plan in plans if not plan.missing), key=lambda plan: plan.row.name in before)
    for line in [] if request.phantoms else work_ahead(ready, place.data, place.pretrain_data):
        _say(f"      {line}")
    if rank() == 0:
        free = shutil.disk_usage(place.folder).free / 2**30
        _say(f"{table.name}: {len(ready)} of {len(table.rows)} rows, into {place.root} ({free:,.0f} GiB free there)")
    for number, plan in enumerate(ready, 1):
        _say(f"[{number}/{len(ready)}] {table.name}, {plan.row.name}: {plan.row.words}")
        results[plan.row.name] = result = _run_row(plan, request, place)
        if result.state == FAILED:
            _say(f"      failed: {result.reason}")
        if rank() == 0:
            save_result(place.folder, result)
        _write(request, place, results)
        if result.state == FAILED and processes() > 1:
            raise RunError(
                f"row {result.name}: {result.reason} Several processes cannot go on after that: repeat the command, "
                "which then does the other rows first."
            )
    return place.folder, [results[row.name] for row in table.rows]


def estimated(request: Request) -> str:
    """Return what each training of the rows asked for would cost here, as text; nothing is trained.

    Raises:
        UserError: As of `reproduce`.
    """
    place, plans = _planned(request)
    ready = [plan for plan in plans if not plan.missing]
    refuse_batches(ready, place.data, place.pretrain_data)
    return estimates(ready, place.data, place.pretrain_data)


def _planned(request: Request) -> tuple[_Place, list[Plan]]:
    """Return where things are, and what each row asked for will do.

    Raises:
        UserError: The request cannot be carried out.
    """
    table = request.table
    rows = list(table.rows) if request.rows is None else chosen_rows(table, request.rows)
    _refuse(request, [row.name for row in rows])
    place = _place(request)
    plans = [
        make_plan(
            row, place.data, request.weights.get(row.name, ()), phantoms=request.phantoms, download=request.download,
            options=request.options, smoke=request.smoke,
        )
        for row in rows
    ]  # fmt: skip
    _refuse_plans(request, plans)
    return place, plans


def _refuse(request: Request, rows: Sequence[str]) -> None:
    """Refuse a table that is only printed, and options that contradict each other or would be ignored."""
    if not any(row.steps for row in request.table.rows):
        row = request.table.rows[0]
        raise UserError(f"{request.table.name} is printed by --list only, no row is built here. {row.name}: {row.note}")
    if not request.table.data and (request.phantoms or request.data or request.pretrain_data):
        raise UserError(f"{request.table.name} needs no data: leave --data, --pretrain-data and --phantoms out.")
    if request.phantoms and request.smoke:
        raise UserError("--phantoms makes the recipes small already: leave --smoke out.")
    if request.phantoms and (request.data or request.pretrain_data):
        raise UserError("--phantoms brings its own data: leave --data and --pretrain-data out.")
    known = {row.name for row in request.table.rows}
    for name in request.weights:
        if name not in rows:
            why = "not among --rows" if name in known else f"no row of {request.table.name}"
            raise UserError(f"--weights {name}=...: {why}; the rows are {', '.join(rows)}.")


def _refuse_plans(request: Request, plans: Sequence[Plan]) -> None:
    for plan in plans:
        if plan.missing and request.rows is not None:
            raise UserError(f"row {plan.row.name}: {plan.missing}.")
    if not any(plan.steps and not plan.missing for plan in plans):
        if request.data is None and not request.phantoms and request.table.data:
            raise UserError(
                f"--data is missing: {request.table.data}; or --phantoms for a small table on invented data."
            )
        raise UserError(f"{request.table.name}: no row can be run. {plans[0].row.name}: {plans[0].missing}.")
    unused = unused_options(plans, request.options)
    if unused:
        raise UserError(
            f"--{unused[0]}: no recipe of these rows has it (see `clinvit finetune {request.table.task} -h`)."
        )
    pretrains = [planned.step for plan in plans for planned in plan.steps if isinstance(planned.step, Pretrain)]
    if request.pretrain_data is not None and not pretrains:
        raise UserError("--pretrain-data: none of these rows pre-trains; leave it out.")


def _place(request: Request) -> _Place:
    root = request.out / ("phantoms" if request.phantoms else "smoke" if request.smoke else "")
    folder = root / request.table.name
    if request.phantoms:
        # Tables of one layout share their phantoms, and so their steps, as they do on real data.
        name = f"{request.table.task}-{request.table.layout}"
        assert request.table.phantoms is not None, f"{request.table.name} has rows to run, and no phantoms"
        data = open_manifest(request.table.phantoms(root / "data" / name))
        return _Place(root, folder, data, data)
    data = _manifest(request, request.data, root) if request.data is not None else None
    before = request.pretrain_data
    place = _Place(root, folder, data, _manifest(request, before, root) if before is not None else data)
    if data is not None and not len(data.rows("test")):
        raise UserError(
            f"{data.path}: no case in the split test, on which the table is measured. `clinvit prepare --resplit` "
            "deals the patients out anew."
        )
    return place


def _manifest(request: Request, data: Path, root: Path) -> Manifest:
    """Return the manifest itself, or that of a data set as downloaded."""
    if data.is_file() or (data / MANIFEST).is_file() or not data.is_dir():
        return open_manifest(data)
    table = request.table
    # Another option (the lists of one task) is another manifest, whose steps must not meet those of the first.
    named = (value for value in table.options.values() if isinstance(value, str))
    out = root / "data" / "-".join([data.resolve().name, *named]) / MANIFEST
    prepared = prepare_stage(request.task.layouts(), data, out, layout=table.layout, options=table.options)
    for text in [*prepared.notes, *prepared.warnings]:
        _say(f"      {text}")
    return prepared.manifest


def _probe(place: _Place) -> None:
    """Look for some of the files, evenly over the table, so that a wrong folder is noticed before days of training."""
    for manifest in {id(each): each for each in (place.data, place.pretrain_data) if each is not None}.values():
        files = manifest.files()
        probed = files[:: max(1, len(files) // PROBED)]
        missing = [file for file in probed if not file.exists()]
        if len(missing) > len(probed) // 2:
            raise UserError(
                f"{manifest.path}: {len(missing)} of {len(probed)} files looked for are missing, such as {missing[0]}. "
                "Paths are relative to the manifest: has it, or have they, been moved?"
            )


def _run_row(plan: Plan, request: Request, place: _Place) -> RowResult:
    """Run the steps and measure; whatever fails becomes the row's reason, and the other rows go on."""
    common = {"data": place.fingerprint(), "changes": request.changes(), "left_out": plan.left_out}
    common["start"] = _start(plan, request)
    folders: list[Path] = []
    try:
        _run_steps(plan, request, place, folders)
        metrics = measured(request.table, folders, request.resamples) if rank() == 0 else None
    except Exception as error:  # A row may fail for any reason, memory and disk included; its table must not.
        if not isinstance(error, UserError | RunError) and rank() == 0:
            write_text(place.folder / "rows" / f"{plan.row.name}.traceback.txt", traceback.format_exc(), private=True)
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        return RowResult(plan.row.name, FAILED, reason, cost=total(map(read_cost, folders)), **common)
    if metrics is None:
        return RowResult(plan.row.name, DONE, **common)
    return RowResult(plan.row.name, DONE, "", metrics, total(map(read_cost, folders)), **common)


def _start(plan: Plan, request: Request) -> str:
    """Return what the row started from, where that is not its own pre-training."""
    paths = plan.given.paths()
    if paths:
        return "given weights " + ", ".join(path.name for path in paths)
    if plan.row.needs():
        return "random weights: phantoms need no checkpoint" if not request.download else plan.row.needs()
    return ""


def _run_steps(plan: Plan, request: Request, place: _Place, folders: list[Path]) -> None:
    """Run the steps that are not finished; `folders` grows by each as it begins."""
    given = "".join(weights_fingerprint(path) for path in plan.given.paths())
    suffix = f"-given-{hashlib.sha256(given.encode()).hexdigest()[:6]}" if given else ""
    before: dict[str, Path] = {}
    fingerprints: dict[str, str] = {}
    for planned in plan.steps:
        step, manifest = planned.step, place.data
        if isinstance(step, Pretrain) and "tile" not in before:
            manifest = place.pretrain_data
        if isinstance(step, Measure) and not step.data:
            manifest = None
        on_its_own = isinstance(step, Pretrain | Tile) or manifest is None  # no given weights reach it
        out = place.root / "steps" / _data_name(manifest) / f"{step.key}{'' if on_its_own else suffix}"
        folders.append(out)
        work = Work(
            planned.recipe, manifest.path if manifest is not None else Path(), out, dict(before),
            given=plan.given.encoder, phantoms=request.phantoms, download=request.download, rule=request.table.rule,
        )  # fmt: skip
        read = [value for kind, value in fingerprints.items() if step.reads is None or kind in step.reads]
        fingerprints[step.kind] = fingerprint = _fingerprint(
            planned, manifest, [] if manifest is None else read, "" if on_its_own else given
        )
        if not _finished(out, fingerprint):
            _say(f"      {step.key} -> {out}")
            with costed(out) if rank() == 0 else contextlib.nullcontext():
                _run_step(planned, plan, work, manifest)
            if rank() == 0:
                write_json(out / STEP, {"fingerprint": fingerprint, "kind": step.kind})
            wait_for_first(out)
        before[step.kind] = out


def _run_step(planned: Planned, plan: Plan, work: Work, manifest: Manifest | None) -> None:
    if not planned.predict:
        planned.step.run(work)
    elif rank() == 0 and isinstance(planned.step, Mil):
        _predict_slides(plan.given.model, work)
    elif rank() == 0:
        labelled, head = manifest.with_labels(plan.row.labels or manifest.labels), getattr(planned.step, "head", None)
        predict_given(plan.given.model, work.recipe, labelled, work.out, head)


def _predict_slides(model: Path, work: Work) -> None:
    """Predict with a given aggregator on the row's features; the model is copied, for steps that read it."""
    from ..slides.predict import Request as Slides
    from ..slides.predict import predict_slides

    copy_folder(model, work.out / "model")
    predict_slides(
        Slides(
            work.out / "model", [str(work.data)], work.out / "predictions.csv", work.before["extract"],
            splits=("val", "test"),
        )
    )  # fmt: skip


def _data_name(manifest: Manifest | None) -> str:
    if manifest is None:
        return "without-data"
    return f"{manifest.path.resolve().parent.name}-{manifest.fingerprint()[:8]}"


def _fingerprint(planned: Planned, manifest: Manifest | None, before: Sequence[str], given: str) -> str:
    """Return a short hash of all that decides a step's result: recipe, data, weights and the steps before it."""
    recipe = {key: value for key, value in flat(planned.recipe).items() if key not in FREE}
    data = manifest.fingerprint() if manifest is not None else ""
    start = getattr(planned.step, "encoder", "")
    parts = [planned.step.kind, recipe, data, start, planned.predict, list(before), given]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def _finished(folder: Path, fingerprint: str) -> bool:
    try:
        known = read_json(folder / STEP, remedy="Remove it to repeat the step.")["fingerprint"]
    except FileNotFoundError:
        return False
    except KeyError as error:
        raise UserError(f"{folder / STEP}: damaged (no {error}). Remove it to repeat the step.") from None
    if known != fingerprint:
        raise UserError(
            f"{folder}: holds a finished step of another recipe, start or weights. Remove the folder, or choose "
            "another --out."
        )
    return True


def _write(request: Request, place: _Place, results: Mapping[str, RowResult]) -> None:
    if rank() == 0:
        rows = [results[row.name] for row in request.table.rows]
        write_table(place.folder, request.table, rows, phantoms=request.phantoms, manifest=place.data)


def _say(text: str) -> None:
    if rank() == 0:
        print(text, flush=True)
