"""Results of a whole prediction: an object of each kind for each case from a DICOM file, and what had none and why."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from ...core.errors import DataError, RunError, UserError, masked
from ...core.extras import require
from ...core.files import write_json
from ...datasets.kinds import is_dicom
from ...datasets.manifest.units import plural
from ...finetune.scored import kinds_of
from .case import SHOWING, Code, ResultCase, checked_kinds
from .rows import result_case

LISTING = "results.json"
NO_DICOM = "no DICOM file"
_NAMED = 5  # cases without results whose ids are printed

Shown = Callable[[ResultCase], ResultCase]  # adds the maps to a case that went well


@dataclass(frozen=True)
class Results:
    """What DICOM results are asked for.

    Attributes:
        kinds: Of `case.KINDS`.
        folder: Where they go.
        codes: Of findings, by label.
    """

    kinds: tuple[str, ...]
    folder: Path
    codes: Mapping[str, Code] = field(default_factory=dict)

    @classmethod
    def beside(cls, out: Path, kinds: Iterable[str], codes: Mapping[str, Code]) -> "Results":
        """Return what goes into the folder `<table's name>-dicom` beside a predictions table."""
        return cls(tuple(kinds), out.with_name(f"{out.stem}-dicom"), codes)

    def refuse_maps(self, unit: str) -> None:
        """Raise where a kind shows one image, and results are of units of several.

        Raises:
            UserError: The message names the kind.
        """
        if wrong := [kind for kind in self.kinds if kind in SHOWING]:
            raise UserError(
                f"--dicom {wrong[0]} shows a single image: of {plural(unit)} there is a report alone, --dicom sr."
            )

    def of_values(self, card: Any) -> "Results":
        """Return the kinds that a model has: one of numbers, grades or times outlines nothing.

        Raises:
            UserError: None is left.
        """
        if "seg" not in self.kinds or not kinds_of(card):
            return self
        why = f"seg outlines findings that are present; {', '.join(card.labels)}: of the whole {card.unit}"
        if self.kinds == ("seg",):
            raise UserError(f"--dicom {why}. Take sr, pm (heat map), sc or pdf.")
        print(f"note: --dicom {why}, so no seg is written; pm holds the heat map.")
        return replace(self, kinds=tuple(kind for kind in self.kinds if kind != "seg"))

    @property
    def shows(self) -> bool:
        """Return whether a kind shows where the model looked."""
        return any(kind in SHOWING for kind in self.kinds)

    def refuse(self) -> None:
        """Raise what can be raised before anything is predicted.

        Raises:
            UserError: An unknown kind, or `highdicom` is not installed.
            RunError: The folder cannot be made.
        """
        checked_kinds(self.kinds)
        require("highdicom", "dicom", "--dicom")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder}: cannot be made ({error.strerror}). Name another place with --out."
            ) from None


def write_all(
    wanted: Results, card: Any, weights: str, cases: pd.DataFrame, table: pd.DataFrame, shown: Shown | None,
    members: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, dict]:  # fmt: skip
    """Write the results of the cases of a prediction, and `results.json`: the files of each case, or why it has none.

    Cases whose files are no DICOM have none, and neither have those of a study that holds files of several patients:
    a report would be filed with the wrong one.

    Args:
        wanted: Kinds, folder and codes.
        card: Of the model.
        weights: SHA-256 of its weights.
        cases: `id, path` of the cases.
        table: Their predictions, row by row; of units larger than an image, those of these.
        shown: Adds the maps to a case; None for kinds without.
        members: Of units, the paths of the cases that each consists of, by its id.

    Returns:
        By id `{"files": [names]}` or `{"reason": why}`, as stored.

    Raises:
        RunError: A result cannot be written. What was written before is whole.
    """
    mixed = _of_several_patients(cases)
    listed: dict[str, dict] = {}
    rows = table.to_dict("records")
    paths = [[path] for path in cases["path"]] if members is None else [members[row["id"]] for row in rows]
    for own, row in tqdm(list(zip(paths, rows, strict=True)), "DICOM results", unit="case", disable=None):
        name = str(row["id"])
        sources = [path for path in own if is_dicom(Path(path))]
        if not sources:
            listed[name] = {"reason": NO_DICOM}
        elif mixed.intersection(sources):
            listed[name] = {"reason": "its study UID is also that of another patient's files; correct it in the PACS"}
        else:
            listed[name] = _written(wanted, card, weights, sources, row, shown)
    write_json(wanted.folder / LISTING, {"kinds": list(wanted.kinds), "cases": listed})
    _report(wanted, listed)
    return listed


def _written(wanted: Results, card: Any, weights: str, sources: Sequence[str], row: dict, shown: Shown | None) -> dict:
    from .write import write_results

    try:
        case = result_case(card, weights, row, [Path(path) for path in sources], wanted.codes)
        if shown is not None and not case.reason:
            case = shown(case)
        return {"files": [file.name for file in write_results(case, wanted.kinds, wanted.folder)]}
    except DataError as error:
        text = str(error)
        for path in sources:
            text = masked(text, path, str(row["id"]))
        return {"reason": text}


def _of_several_patients(cases: pd.DataFrame) -> set[str]:
    """Return the paths of DICOM files whose study UID stands in files of several patients, too."""
    from .source import patient_of, read_sources

    patients: dict[str, set] = {}
    studies: dict[str, str] = {}
    for path in cases["path"]:
        try:
            (source,) = read_sources([Path(path)])
        except DataError:  # its own row of the listing will say why
            continue
        studies[path] = source.StudyInstanceUID
        patients.setdefault(source.StudyInstanceUID, set()).add(patient_of(source))
    return {path for path, study in studies.items() if len(patients[study]) > 1}


def _report(wanted: Results, listed: Mapping[str, dict]) -> None:
    """Print how many cases have results, and of those without which and why."""
    files = sum(len(each.get("files", ())) for each in listed.values())
    having = sum("files" in each for each in listed.values())
    print(f"{wanted.folder}: {files:,} DICOM results ({','.join(wanted.kinds)}) of {having:,} cases")
    reasons: dict[str, list[str]] = {}
    for name, each in listed.items():
        if "reason" in each:
            reasons.setdefault(each["reason"].replace(name, "ID"), []).append(name)
    for reason, names in reasons.items():
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        print(f"note: no DICOM result of {len(names):,} cases ({reason}): {', '.join(names[:_NAMED])}{more}")
