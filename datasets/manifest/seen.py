"""Which cases a network has seen, as hashes of ids and patients beside its weights.

So that nobody scores it on them unawares.

The hashes are made with the user's key (`core.secret`), which the first line of a file names but does not hold: who has
the file without the key finds no name in it, and for who has another key nothing is known.
"""

import functools
import sys
from collections.abc import Iterable, Set
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.documents import regular_bytes
from ...core.errors import UserError
from ...core.files import write_text
from ...core.secret import FILE_VARIABLE, key_name, keyed_hash, secret_key

TRAINED_ON = "trained_on.txt"  # of an encoder without labels, of a model with them
PRETRAINED_ON = "pretrained_on.txt"  # of a model or of features: what their encoder has seen
CHOSEN_ON = "chosen_on.txt"  # of a model: where the epoch, the thresholds and the calibration were chosen
UNKNOWN = "unknown"  # among hashes: these are not all, for what an encoder before had seen is not known


KEY = "key"  # begins the first line of such a file, which says which key the hashes were made with
MOST_BYTES = 10**9


@functools.cache
def _key() -> str:
    return secret_key()


def case_hash(case: str) -> str:
    """Return a short hash of a case's id."""
    return keyed_hash(_key(), case)


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
        write_text(path, "".join(f"{line}\n" for line in (f"{KEY} {key_name(_key())}", *sorted(hashes))))


def read_hashes(path: Path) -> frozenset[str] | None:
    """Return hashes of a file that `write_hashes` wrote; None where nothing is known: no file, or of another key.

    Raises:
        UserError: It is no such file.
    """
    try:
        first, *hashes = regular_bytes(path, MOST_BYTES).decode().splitlines() or [""]
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: not a readable list of hashes ({error}). Copy the folder again.") from None
    if first == f"{KEY} {key_name(_key())}":
        return frozenset(hashes)
    print(
        f"note: {path}: made with another key than yours: which cases were seen is not known. {FILE_VARIABLE} names "
        "the key's file.",
        file=sys.stderr,
    )
    return None


def seen_cases(cases: pd.DataFrame, hashes: frozenset[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) whether each case (`id`, `patient`) was seen itself, and whether at least its patient was."""
    own = cases["id"].map(case_hash).isin(hashes).to_numpy(bool)
    patients = {patient: patient_hash(patient) in hashes for patient in cases["patient"].unique()}
    return own, own | cases["patient"].map(patients).to_numpy(bool)
