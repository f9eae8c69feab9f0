"""Results as a PACS takes them: of each row of predictions a report as DICOM, written to a folder and sent."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...core.errors import DataError, RunError, UserError, masked
from ...core.files import own_folder
from ...finetune.pipeline import PREDICTED, WARNING
from ..dicom.case import Algorithm, Finding, ResultCase
from ..requested import CHOSEN
from .destination import Destination
from .fetch import patient

KINDS = ("sr",)


def write_case(case: ResultCase, folder: Path) -> list[Path]:
    """Write the report of a case; one that failed has a report that says so.

    Raises:
        DataError: The sources name no study, or are of several studies or patients.
        UserError: `clinvit[dicom]` is not installed.
    """
    from ..dicom.write import write_results

    try:
        return write_results(case, KINDS, folder)
    except DataError as error:
        text = str(error)
        for source in case.sources:
            text = masked(text, str(source), case.id)
        raise DataError(text) from None


def result_case(card: Any, weights: str, row: Mapping[str, Any], sources: Sequence[Path]) -> ResultCase:
    """Return what a report says of a row of predictions.

    Args:
        card: Of the model.
        weights: SHA-256 of its weights.
        row: Of the predictions table.
        sources: DICOM files that it is about.
    """
    made_of = json.dumps([weights, card.thresholds, card.calibration], sort_keys=True, default=str)
    fingerprint = hashlib.sha256(made_of.encode()).hexdigest()
    name = f"{card.unit} model of {len(card.labels)} labels"
    algorithm = Algorithm(name, weights, fingerprint, card.network_words())
    facts = {"Image": row[CHOSEN]} if row.get(CHOSEN) else {}
    reason = str(row["reason"] or "")
    warning = row.get(WARNING, "")
    return ResultCase(
        str(row["id"]), tuple(sources), algorithm, tuple(_findings(card, row)), f"{reason.rstrip('.')}." * bool(reason),
        warning if isinstance(warning, str) else "", facts=facts,
    )  # fmt: skip


def _findings(card: Any, row: Mapping[str, Any]) -> Iterator[Finding]:
    scores = np.array([row[f"p_{label}"] for label in card.labels], dtype=np.float64)
    failed = bool(np.isnan(scores).any())
    for at, (label, score) in enumerate(zip(card.labels, scores)):
        threshold, present = (card.thresholds.get(label) or {}).get("value"), None
        if card.exclusive:
            threshold, present = None, bool(at == scores.argmax())
        elif threshold is not None:
            present = row.get(PREDICTED + label) == 1
        meaning = card.meaning.get(label, "")
        yield Finding(label, None if failed else float(score), None if failed else present, threshold, meaning)


def store_results(
    card: Any, weights: str, cases: pd.DataFrame, table: pd.DataFrame, folder: Path, destination: Destination
) -> None:
    """Write the results of fetched cases into a folder and send them; print how many were.

    Each file is removed when it was taken. A case whose image was not fetched has no result: there is nothing that
    its report could be filed by.

    Args:
        card: Of the model.
        weights: SHA-256 of its weights.
        cases: With `path`.
        table: Their predictions.
        folder: Made for the owner alone (0700), and removed when it is empty.
        destination: Takes them.

    Raises:
        RunError: Some were not taken; they stay in the folder.
    """
    own_folder(folder).chmod(0o700)
    stored, without, problems = 0, 0, []
    for path, row in zip(cases["path"], table.to_dict("records"), strict=True):
        if not Path(path).is_file():
            without += 1
            continue
        try:
            for file in write_case(result_case(card, weights, row, [Path(path)]), folder):
                file.chmod(0o600)
                patient(lambda file=file: [destination.send([file])])
                file.unlink()
                stored += 1
        except (RunError, UserError) as error:
            problems.append(f"{row['id']}: {error}")
    print(f"stored {stored:,} results" + (f"; {without:,} cases without an image have none" if without else ""))
    if not any(folder.iterdir()):
        shutil.rmtree(folder)
    if problems:
        left = f" What was not taken is in {folder}." if folder.exists() else ""
        raise RunError(f"{len(problems):,} results were not stored, the first: {problems[0]}{left}")
