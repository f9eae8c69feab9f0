"""What every result says of itself: UIDs, series, the software that made it, and how it is to be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydicom import Dataset

from ...datasets.images.dicom_header import OWN
from .case import Algorithm, ResultCase
from .codes import line
from .uids import result_uid

MANUFACTURER = MODEL_NAME = OWN
NOTE = "AI, not for diagnosis"
READING_NOTE = (
    "Made by a computer model without a reader. A probability is of the label as the model was trained on it; absent "
    "means below the model's threshold, not ruled out. Read the images."
)
READING_NOTE_OF_VALUES = (
    "Made by a computer model without a reader. A value is what the model predicts of the case as a whole, not a "
    "measurement in the image; how far off it is on average stands in the model's evaluation. Read the images."
)
# Series of results come behind those of the scanner.
_SERIES = {"sr": 9101, "seg": 9102, "pm": 9103, "sc": 9104, "pdf": 9105}
_WORDS = {
    "sr": "AI report",
    "seg": "AI regions",
    "pm": "AI heat maps",
    "sc": "AI capture",
    "pdf": "AI document",
}


@dataclass(frozen=True)
class Naming:
    """Names one kind of result of one case.

    Attributes:
        kind: One of `case.KINDS`.
        algorithm: The model.
        sources: SOP Instance UIDs of the files.
        failed: Whether the case failed.
        words: What the objects depend on beside these, such as how maps were made.
    """

    kind: str
    algorithm: Algorithm
    sources: tuple[str, ...]
    failed: bool
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: str, algorithm: Algorithm, sources: Sequence[Dataset], failed: bool, *words: str) -> "Naming":
        """Name a kind of result of these sources."""
        return cls(kind, algorithm, tuple(source.SOPInstanceUID for source in sources), failed, words)

    def uid(self, what: str, *words: str) -> str:
        """Return the UID of a part of the result (`uids`)."""
        kind = f"{self.kind} failed" if self.failed else self.kind
        return result_uid(what, kind, self.algorithm.fingerprint, self.sources, *self.words, *words)

    def settings(self, instance: int = 1, *words: str) -> dict[str, Any]:
        """Return what constructors of `highdicom` take to name an object.

        Args:
            instance: Its number in its series.
            words: What tells it from others of the series.
        """
        return {
            "series_instance_uid": self.uid("series"),
            "series_number": _SERIES[self.kind],
            "series_description": f"{_WORDS[self.kind]} - {NOTE}",
            "sop_instance_uid": self.uid("instance", *words),
            "instance_number": instance,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": software(self.algorithm),
            "device_serial_number": self.algorithm.fingerprint[:16],
        }


def reading_note(case: ResultCase) -> str:
    """Return how the results of a case are to be read."""
    return READING_NOTE_OF_VALUES if case.estimates else READING_NOTE


def software(algorithm: Algorithm) -> tuple[str, ...]:
    """Return versions of the program, and of the model by name and fingerprint."""
    name = line(algorithm.name, 40)
    return f"clinvit {version('clinvit')}", f"model {name} {algorithm.fingerprint[:16]}"
