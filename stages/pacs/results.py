"""Results on their way to a PACS: written as DICOM for each study, and sent."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import DataError, RunError, UserError, masked
from ..dicom.case import Code, ResultCase
from ..dicom.results import LISTING
from ..dicom.rows import result_case
from .destination import Destination
from .fetch import patient

KINDS = ("sr",)


def write_report(
    card: Any, weights: str, row: Mapping[str, Any], sources: Sequence[Path], codes: Mapping[str, Code], folder: Path,
    told: Callable[[ResultCase], ResultCase] = lambda case: case,
) -> None:  # fmt: skip
    """Write the report of a study; one that failed has a report that says so.

    Args:
        card: Of the model.
        weights: SHA-256 of its weights.
        row: Of the predictions table.
        sources: DICOM files of the study that it is about.
        codes: Of findings, by label.
        folder: Where to.
        told: Adds what there is to say more.

    Raises:
        DataError: The sources name no study, or are of several studies or patients. The message names no file.
        UserError: `clinvit[dicom]` is not installed.
    """
    from ..dicom.write import write_results

    try:
        write_results(told(result_case(card, weights, row, sources, codes)), KINDS, folder)
    except DataError as error:
        text = str(error)
        for source in sources:
            text = masked(text, str(source), str(row["id"]))
        raise DataError(text) from None


def send_results(listed: Mapping[str, dict], folder: Path, destination: Destination, keep: bool = True) -> None:
    """Send the results of a prediction; print how many were taken.

    Args:
        listed: As of `dicom.results.write_all`.
        folder: Where the files are.
        destination: Takes them.
        keep: Whether files stay that were taken; else the folder goes too, when all were.

    Raises:
        RunError: Some were not taken; they stay.
    """
    files = [folder / name for each in listed.values() for name in each.get("files", ())]
    problems = []
    for file in files:
        try:
            patient(lambda file=file: [destination.send([file])])
        except (RunError, UserError) as error:
            problems.append(str(error))
        else:
            if not keep:
                file.unlink()
    print(f"stored {len(files) - len(problems):,} of {len(files):,} results in the PACS")
    if problems:
        raise RunError(
            f"{len(problems):,} results were not stored, the first: {problems[0]} They are in {folder}; the table is "
            "whole."
        )
    if not keep and {path.name for path in folder.iterdir()} <= {LISTING}:
        shutil.rmtree(folder)
