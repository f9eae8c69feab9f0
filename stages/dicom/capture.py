"""Secondary captures: the image with a heat map, and burned into it that it is not for diagnosis."""

from collections.abc import Iterable, Sequence

from highdicom.sc import SCImage
from pydicom import Dataset

from .case import ResultCase
from .drawing import drawn
from .equipment import NOTE, Naming
from .filing import file_with, laterality, references


def captures(case: ResultCase, sources: Sequence[Dataset]) -> Iterable[Dataset]:
    """Yield a secondary capture for each finding shown (`maps.shown_findings`); one of the bare image without maps."""
    naming = Naming.of("sc", case.algorithm, sources[:1], False, case.method)
    for number, (label, pixels) in enumerate(drawn(case, sources[0]), 1):
        made = SCImage(
            pixels, "RGB", 8, "PATIENT", sources[0].StudyInstanceUID, patient_orientation=("L", "F"),
            **naming.settings(number, label),
        )  # fmt: skip
        made.PatientOrientation = None  # of a page with text, nothing is said
        made.Laterality = laterality(sources[0])
        made.ImageComments = NOTE
        made.SourceImageSequence = references(sources[:1])
        yield file_with(made, sources[0])
