"""What the audit log of predictions says: who asked, when, of which model, for which cases, and what came of it."""

import getpass
import platform
from pathlib import Path

import pandas as pd

from ..core.audit import AuditLog
from ..core.files import file_sha256
from ..datasets.manifest.seen import case_hash, patient_hash
from .patient_alarm import COLUMN


class Audit:
    """The part of one prediction in a log: lines before the first case is scored, and one when the table is there.

    Cases and patients are hashes with the user's key, of ids and patients before any other hashing: with the key
    whoever asks finds a patient again, without it nobody.

    Args:
        path: The log; None writes nothing.
        model: SHA-256 of the model's weights.
        cases: `id` and `patient` of what is asked for.

    Raises:
        UserError: The log was changed, or is of another key.
    """

    def __init__(self, path: Path | None, model: str, cases: pd.DataFrame):
        self._log = None if path is None else AuditLog(path)
        if self._log is None:
            return
        asked = {"event": "asked", "user": _user(), "machine": platform.node(), "model": model, "cases": len(cases)}
        hashes = zip(cases["id"].map(case_hash), cases["patient"].map(patient_hash), strict=True)
        each = ({"event": "case", "model": model, "case": case, "patient": patient} for case, patient in hashes)
        self._log.add([asked, *each])
        self._model = model

    def written(self, out: Path, table: pd.DataFrame) -> None:
        """Add that the table was written, and print the number and code of the log's last line."""
        if self._log is None:
            return
        failed = int((table["status"] == "failed").sum())
        facts = {"event": "written", "user": _user(), "model": self._model, "table": file_sha256(out)}
        facts |= {"ok": len(table) - failed, "failed": failed}
        if COLUMN in table:
            facts |= {"patient_alarms": int((table[COLUMN].astype(str) == "1").sum())}
        state = self._log.add([facts])
        print(f"audit: {self._log.path}: {state.lines:,} lines, the last one {state.mac[:16]}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        return "unknown"
