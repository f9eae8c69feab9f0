"""The stage `predict` of images and clips: files to rows, as they come, calibrated and called by thresholds."""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..core.alone import file_alone
from ..core.errors import UserError
from ..core.files import file_sha256, write_json, write_text
from ..datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from ..mil.calibrated import calibrated
from .facts import beside, model_facts
from .journal import Journal, remove_journals
from .requested import is_dicom, pseudonymised, requested_cases
from .seen import seen_facts
from .share import ALONE, Share, Team

PREDICTED = "pred_"


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


def predict_stage(request: Request) -> pd.DataFrame | None:
    """Predict files, folders, globs or a manifest; gives and writes one row per requested case.

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
    from ..finetune.model import load_model

    suffix = request.out.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise UserError(f"--out {request.out}: predictions are written as .csv or as .jsonl (JSON lines).")
    network, card = load_model(request.model)
    if request.method is not None and card.arch.frames > 1:
        raise UserError(f"{request.model}: a model of clips, which are explained by their frames: no --explain-method.")
    if request.explain is not None and len(card.scales) > 1:
        raise UserError(
            f"{request.model}: sees images at scales {list(card.scales)}; --explain is for models of one scale."
        )
    with contextlib.nullcontext() if request.share.rank > 0 else file_alone(request.out):
        return _predict(request, network, card)


def _predict(request: Request, network, card) -> pd.DataFrame | None:
    cases, truth = requested_cases(request.inputs, card.labels, card.suffixes())
    cases = _named(request, cases)
    sha256 = file_sha256(request.model / card.weights_file)
    said = model_facts(request.model, card) | {"seen": seen_facts(request.model, cases)}
    said |= {"sha256": sha256, "cases": _fingerprint(cases), "precision": _precision(request)}
    finished = request.resume and _finished(request.out, said)
    if request.share.rank > 0:
        if not finished:
            _scores(request, network, card, cases["path"].tolist(), sha256)
        return None
    if finished:
        table = read_table(request.out)
    else:
        scores, reasons = _scores(request, network, card, cases["path"].tolist(), sha256)
        reasons = [reason.replace(path, case) for reason, path, case in zip(reasons, cases["path"], cases["shown"])]
        table = predictions_table(cases, card.labels, truth, calibrated(card, scores), reasons)
        table = with_predicted_labels(table, card)
        # Killed between the two, a table of this model must not stand beside the facts of another.
        beside(request.out, "model").unlink(missing_ok=True)
        write_table(request.out, table, card.labels)
        write_json(beside(request.out, "model"), said)
    remove_journals(request.out)
    if request.explain is not None:
        from .explain import explain_cases

        explain_cases(request, network, card, cases, table)
    return table


def with_predicted_labels(table: pd.DataFrame, card) -> pd.DataFrame:
    """The table with `pred_<label>`: 1 where the score reaches the model's threshold, 0 where not, empty where the case
    failed or the label has no threshold. Exclusive classes have none: the largest score decides.
    """
    if card.exclusive:
        return table
    calls = {}
    for label in card.labels:
        cut = (card.thresholds.get(label) or {}).get("value")
        if cut is not None:
            scores = table[f"p_{label}"].to_numpy(np.float64)
            calls[PREDICTED + label] = np.where(np.isnan(scores), np.nan, scores >= cut)
    return pd.concat([table, pd.DataFrame(calls, index=table.index)], axis=1)


def write_table(out: Path, table: pd.DataFrame, labels: Sequence[str]) -> None:
    """Write predictions as CSV, or one JSON object a line."""
    if out.suffix.lower() == ".csv":
        write_predictions(out, table)
    else:
        write_text(
            out, "".join(json.dumps(_line(row, labels), ensure_ascii=False) + "\n" for row in table.to_dict("records"))
        )


def _line(row: Mapping, labels: Sequence[str]) -> dict:
    def values(prefix: str, kind: type) -> dict:
        named = {label: row[prefix + label] for label in labels if prefix + label in row}
        return {label: None if value != value else kind(value) for label, value in named.items()}

    head = {key: row[key] for key in ("id", "patient", "split", "status", "reason")}
    return head | {"scores": values("p_", float), "calls": values(PREDICTED, int), "truth": values("y_", int)}


def read_table(out: Path) -> pd.DataFrame:
    """A table that `write_table` has written, as far as the columns of CSV go."""
    if out.suffix.lower() == ".csv":
        return read_predictions(out).table
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    scores = pd.DataFrame([line["scores"] for line in lines]).add_prefix("p_")
    return pd.concat([pd.DataFrame(lines)[["id", "patient", "split", "status", "reason"]], scores], axis=1)


def _precision(request: Request) -> str:
    return "bf16" if request.bf16 else "fp32"


def _fingerprint(cases: pd.DataFrame) -> str:
    return hashlib.sha256(cases[["id", "path"]].to_csv(index=False).encode()).hexdigest()


def _finished(out: Path, said: dict) -> bool:
    """Whether the table of these cases by this model is there."""
    facts = beside(out, "model")
    return out.is_file() and facts.is_file() and json.loads(facts.read_text(encoding="utf-8")) == said


def _named(request: Request, cases: pd.DataFrame) -> pd.DataFrame:
    """The cases; DICOM files that come from no manifest get hashes for their names, which are often those of people."""
    if request.identifiers or not (cases["split"] == "new").all() or not is_dicom(cases).any():
        return cases
    key = beside(request.out, "key")
    salt = json.loads(key.read_text(encoding="utf-8"))["salt"] if request.resume and key.is_file() else ""
    cases, salt = pseudonymised(cases, salt)
    if request.share.rank > 0:
        return cases
    write_json(key, {"salt": salt, "files": dict(zip(cases["id"], cases["path"]))})
    key.chmod(0o600)
    return cases


def _scores(request: Request, network, card, paths: list[str], sha256: str) -> tuple[np.ndarray, list[str]]:
    """(N, L) scores and N reasons; those of the own share only, unless this is process 0."""
    from ..finetune.predict import predict_stream

    made_by = {"model": sha256, "precision": _precision(request)}
    journal = Journal(request.out, made_by, request.resume, request.share.part)
    team = Team(request.out, request.share, paths, request.batch)
    team.begin(journal)
    own = team.rows()
    done = {paths[row]: journal.done[paths[row]] for row in own if paths[row] in journal.done}
    open_rows = [row for row in own if paths[row] not in done]
    files, before = [Path(paths[row]) for row in open_rows], len(own) - len(open_rows)
    scores, reasons = np.full((len(paths), len(card.labels)), np.nan), [""] * len(paths)
    with contextlib.closing(journal):
        shown = None if request.share.rank == 0 else True
        with tqdm(total=len(own), initial=before, desc="predicting", unit="file", disable=shown) as bar:
            for found in predict_stream(network, card, files, request.batch, request.workers, request.bf16):
                rows = [open_rows[position] for position in found.positions]
                scores[rows] = found.scores
                for row, reason in zip(rows, found.reasons, strict=True):
                    reasons[row] = reason
                journal.append([paths[row] for row in rows], found.scores, found.reasons)
                bar.update(len(rows))
        done |= team.gather()
    open_rows = set(open_rows)
    for row, path in enumerate(paths):
        if row not in open_rows and path in done:
            reasons[row] = done[path]["reason"]
            scores[row] = done[path].get("scores", np.nan)
    return scores, reasons
