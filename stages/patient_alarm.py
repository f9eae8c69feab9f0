"""The patient alarm: made by an audit from an archive, asked by a prediction about images that claim patients."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..core.errors import UserError
from ..core.secret import key_name, keyed_hash, secret_key
from ..datasets.manifest.plain_cells import visible
from ..datasets.manifest.seen import case_hash, patient_hash
from ..finetune.scored import WARNING
from .case_features import BATCH, ModelFeatures

if TYPE_CHECKING:
    from ..finetune.patient_alarm import PatientAlarm
    from .case_features import Maker

COLUMN = "patient_alarm"


def refuse_few(table: pd.DataFrame, rate: float) -> None:
    """Refuse an archive with too few patients to train a head, or to choose a limit; before anything is read.

    Raises:
        UserError: Says which.
    """
    from ..finetune.patient_alarm import limit_of
    from ..finetune.reidentify import LEAST_PATIENTS, enough_patients

    if not enough_patients(table.loc[table["split"] == "train", "patient"].tolist()):
        raise UserError(
            f"--alarm: fewer than {LEAST_PATIENTS} patients of the split train have two images: nothing to learn from."
        )
    counts = table.loc[table["split"] == "val", "patient"].value_counts()
    limit_of(np.zeros(int((counts > 1).sum())), rate)


def make_alarm(
    path: Path, maker: "Maker", features: np.ndarray, table: pd.DataFrame, rate: float, seed: int
) -> "PatientAlarm":
    """Write an alarm of all images of an archive: a head from the split train, its limit from the split val.

    Args:
        path: The file.
        maker: Of the features, a model's.
        features: (N, D) of N images.
        table: `id`, `patient` and `split` of these.
        rate: Share of right claims that are flagged at most.
        seed: Of the head and the claims.

    Raises:
        UserError: Too few patients.
    """
    from ..finetune.patient_alarm import PatientAlarm, claims, head_vectors, limit_of, write_alarm
    from ..finetune.reidentify import train_head

    refuse_few(table, rate)  # again: some images may not have been readable
    patients, split = table["patient"].astype(str).to_numpy(), table["split"].to_numpy()
    head = train_head(features[split == "train"], patients[split == "train"].tolist(), seed)
    parts = [value.detach().numpy().astype(np.float64) for value in (head.mean, head.std, head.linear.weight)]
    vectors = head_vectors(*parts, features)
    own = split == "val"
    right, wrong = claims(vectors[own], patients[own].tolist(), np.random.default_rng(seed))
    limit, place = limit_of(right, rate)
    mean, std, linear = parts
    alarm = PatientAlarm(
        mean, std, linear, vectors, tuple(map(patient_hash, patients)), tuple(map(case_hash, table["id"])), limit,
        place, len(right), float((wrong < limit).mean()), maker.sha256, key_name(secret_key()),
    )  # fmt: skip
    write_alarm(path, alarm)
    return alarm


def alarm_sentences(path: Path, alarm: "PatientAlarm") -> list[str]:
    """Say what an alarm does, and what its file holds."""
    low, high = alarm.interval()
    return [
        f"patient alarm: {path}: flags an image whose likeness to the claimed patient's earlier images is below "
        f"{alarm.limit:.2f}: {alarm.rate:.3f} of right claims (exact 95 % interval {low:.3f} to {high:.3f}, from "
        f"{alarm.validation:,} validation patients); among these it caught {alarm.caught:.2f} of the wrong claims.",
        f"patient alarm: the file holds vectors of {len(alarm.gallery):,} images of {len(set(alarm.patients)):,} "
        "patients under hashes. Patients can be recognised by them: it stays in the hospital.",
    ]


def _claimed_names(cases: pd.DataFrame) -> list[str]:
    """Return whom each case claims to show: of a DICOM file the header's number, not the name of a file without one."""
    names = cases["patient"].astype(str)
    if "number" in cases:
        names = names.where(~cases["dicom"].astype(bool), cases["number"])
    return names.tolist()


def _spellings(key: str, name: str) -> Iterator[str]:
    """Yield what the archive's manifest may call a patient: hashes if it was prepared from DICOM files, else names."""
    plain = visible(name)  # as manifests are read
    yield from (plain, keyed_hash(key, name), keyed_hash(key, plain))


class PatientWatch:
    """Asks an alarm about the cases of one prediction.

    Args:
        path: The alarm's file.
        model: Folder of the predicting model.
        sha256: Of its weights.
        cases: `id` and `patient` as they were asked for, before any hashing.

    Raises:
        UserError: There is no such alarm, it is of another model, or of another key.
    """

    def __init__(self, path: Path, model: Path, sha256: str, cases: pd.DataFrame):
        from ..finetune.patient_alarm import read_alarm

        self.path, self.model, self.alarm = path, model, read_alarm(path)
        key = secret_key()
        if self.alarm.model != sha256:
            raise UserError(
                f"{path}: an alarm of another model (SHA-256 {self.alarm.model[:12]}..., not {sha256[:12]}...): make "
                f"one by `clinvit audit {model} ARCHIVE --alarm FILE`."
            )
        if self.alarm.key != key_name(key):
            raise UserError(f"{path}: its patients were hashed with another key than yours: see CLINVIT_KEY_FILE.")
        known, names = set(self.alarm.patients), _claimed_names(cases)
        self.claimed = [
            next((each for each in map(patient_hash, _spellings(key, name)) if each in known), "") if name else ""
            for name in names
        ]
        self.cases = [case_hash(case) for case in cases["id"]]
        if any(names) and not any(self.claimed):
            print(
                f"note: {path}: the alarm knows none of the patients of these {len(cases):,} images: nothing is "
                "flagged. They are new, or its archive names patients otherwise (another key, a prefix).",
                file=sys.stderr,
            )

    def watched(self, table: pd.DataFrame, cases: pd.DataFrame, batch: int = BATCH, workers: int = 1) -> pd.DataFrame:
        """Return a table of predictions with the column `patient_alarm`, and a warning for each image that is flagged.

        The column is 1 where an image is flagged, 0 where it is not, empty where it failed or where the claimed patient
        has no earlier image. What came of it is printed.

        Args:
            table: Of the N cases, as predicted.
            cases: The same cases with `path`.
            batch: Files per batch.
            workers: Reading processes.
        """
        rows = np.flatnonzero(
            (table["status"] == "ok").to_numpy() & np.array([bool(each) for each in self.claimed], bool)
        )
        vectors = self._vectors(cases.iloc[rows].reset_index(drop=True), batch, workers)
        column = [""] * len(table)
        warnings = list(table[WARNING]) if WARNING in table else [""] * len(table)
        for row, vector in zip(rows, vectors, strict=True):
            found = self.alarm.likeness(vector, self.claimed[row], self.cases[row])
            if np.isnan(found.own):  # the image itself is all that is known of the patient
                continue
            flagged = self.alarm.flags(found)
            column[row] = str(int(flagged))
            if flagged:
                warnings[row] = "; ".join(filter(None, [warnings[row], self.alarm.words(found)]))
        self._say(column)
        table = table.assign(**{COLUMN: column})
        return table.assign(**{WARNING: warnings}) if any(warnings) else table

    def _vectors(self, cases: pd.DataFrame, batch: int, workers: int) -> np.ndarray:
        import torch

        from ..finetune.pipeline import collected

        maker = ModelFeatures(self.model)
        if not len(cases):
            return np.zeros((0, self.alarm.linear.shape[0]))
        with torch.inference_mode():
            found = maker.predictor(batch, workers).scores(cases)
            features, _ = collected(found, len(cases), maker.width)
        return self.alarm.vectors(features)

    def _say(self, column: Sequence[str]) -> None:
        looked, flagged = sum(each != "" for each in column), column.count("1")
        print(
            f"patient alarm: {self.path}: {flagged:,} of {looked:,} images unlike the earlier images of the patient "
            f"they claim; {len(column) - looked:,} not looked at (failed, or no earlier image of the patient)."
        )
