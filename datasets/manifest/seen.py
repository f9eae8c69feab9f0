"""Which cases a network has seen, as hashes of ids and patients beside its weights.

So that nobody scores it on them unawares.

The hashes tell whether a known name is among them. They are no protection: short patient numbers can be found by
trying all of them.
"""

import hashlib
from collections.abc import Iterable, Set
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.files import write_text

TRAINED_ON = "trained_on.txt"  # of an encoder without labels, of a model with them
PRETRAINED_ON = "pretrained_on.txt"  # of a model or of features: what their encoder has seen
CHOSEN_ON = "chosen_on.txt"  # of a model: where the epoch, the thresholds and the calibration were chosen


def case_hash(case: str) -> str:
    """Return a short hash of a case's id."""
    return hashlib.sha256(case.encode()).hexdigest()[:16]


def patient_hash(patient: str) -> str:
    """Return a short hash of a patient, another than that of a case of this name."""
    return case_hash(f"patient\0{patient}")


def write_hashes(path: Path, ids: Iterable[str], patients: Iterable[str] = (), before: Iterable[str] = ()) -> None:
    """Write the hashes of cases and of patients, beside hashes from before."""
    save_hashes(path, {*map(case_hash, ids), *map(patient_hash, patients), *before})


def save_hashes(path: Path, hashes: Set[str] | None) -> None:
    """Write hashes, a line each; None, which is not known, leaves no file."""
    if hashes is None:
        Path(path).unlink(missing_ok=True)
    else:
        write_text(path, "".join(f"{hash_}\n" for hash_ in sorted(hashes)))


def read_hashes(path: Path) -> frozenset[str] | None:
    """Return hashes of a file that `write_hashes` wrote; None where there is none: then nothing is known."""
    path = Path(path)
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else None


def seen_cases(cases: pd.DataFrame, hashes: frozenset[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) whether each case (`id`, `patient`) was seen itself, and whether at least its patient was."""
    own = cases["id"].map(case_hash).isin(hashes).to_numpy(bool)
    patients = {patient: patient_hash(patient) in hashes for patient in cases["patient"].unique()}
    return own, own | cases["patient"].map(patients).to_numpy(bool)
