"""The encapsulated PDF of a case: who, what the model says of every finding, its maps, and how it is to be read."""

import io
import textwrap
from collections.abc import Iterable, Sequence

from highdicom import SOPClass
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from .case import ResultCase
from .drawing import Drawn, drawn, verdict
from .equipment import NOTE, Naming, reading_note, software
from .filing import file_with, references

_A4_INCHES = (8.27, 11.69)
_CHARACTERS, _LINES = 92, 56
_TITLE = "AI results"


def documents(case: ResultCase, sources: Sequence[Dataset]) -> Iterable[Dataset]:
    """Yield the document of a case."""
    naming = Naming.of("pdf", case.algorithm, sources, False, case.method)
    content = _pdf(_text(case, sources[0]), list(drawn(case, sources[0])))
    made = SOPClass(
        study_instance_uid=sources[0].StudyInstanceUID, sop_class_uid=EncapsulatedPDFStorage, modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian, **naming.settings(),
    )  # fmt: skip
    made.ConversionType, made.BurnedInAnnotation = "WSD", "YES"
    made.VerificationFlag, made.DocumentTitle, made.AcquisitionDateTime = "UNVERIFIED", f"{_TITLE} - {NOTE}", None
    made.ConceptNameCodeSequence = [CodedConcept("18748-4", "LN", "Diagnostic Imaging Report")]
    made.SourceInstanceSequence = references(list(sources))
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(content)
    made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    yield file_with(made, sources[0])


def _text(case: ResultCase, source: Dataset) -> list[str]:
    """Return the lines of the first page, and of further ones where there are many findings."""
    patient = ", ".join(
        f"{words} {source.get(name)}"
        for words, name in (
            ("name", "PatientName"), ("number", "PatientID"), ("born", "PatientBirthDate"), ("sex", "PatientSex"),
        )
        if str(source.get(name, ""))
    )  # fmt: skip
    study = ", ".join(
        f"{words} {source.get(name)}"
        for words, name in (("date", "StudyDate"), ("accession", "AccessionNumber"), ("id", "StudyID"))
        if str(source.get(name, ""))
    )
    lines = [f"Patient: {patient or 'not stated'}", f"Study: {study or 'not stated'}", f"Case: {case.id}", ""]
    lines += [reading_note(case), ""]
    lines += [f"Warning: {case.warning}", ""] if case.warning else []
    for finding in (*case.judged(), *case.estimated()):
        lines.append(verdict(finding))
        lines += [f"    {finding.meaning}"] if finding.meaning else []
    lines += ["", *(f"{name}: {text}" for name, text in case.facts.items())]
    lines += [f"Model: {'; '.join(software(case.algorithm))}", case.algorithm.description]
    lines += [f"SHA-256 of the weights: {case.algorithm.weights}", f"Fingerprint: {case.algorithm.fingerprint}"]
    return [part for text in lines for part in (textwrap.wrap(text, _CHARACTERS, subsequent_indent="    ") or [""])]


def _pdf(lines: Sequence[str], images: Sequence[Drawn]) -> bytes:
    """Return a PDF of pages of text, then of images; without the time of its making, so that it repeats."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with PdfPages(file, metadata={"Title": f"{_TITLE} - {NOTE}", "CreationDate": None}) as pages:
        for start in range(0, len(lines), _LINES):
            page = Figure(figsize=_A4_INCHES)
            _head(page)
            text = "\n".join(line.replace("$", r"\$") for line in lines[start : start + _LINES])
            page.text(0.08, 0.9, text, va="top", fontsize=9, family="DejaVu Sans", linespacing=1.4)
            pages.savefig(page)
        for each in images:
            page = Figure(figsize=_A4_INCHES)
            _head(page)
            axes = page.add_axes((0.08, 0.06, 0.84, 0.84))
            axes.imshow(each.pixels, interpolation="none")
            axes.set_axis_off()
            pages.savefig(page, dpi=200)
    return file.getvalue()


def _head(page) -> None:
    page.text(0.08, 0.95, _TITLE, fontsize=16, weight="bold", va="center")
    page.text(0.92, 0.95, NOTE, fontsize=12, weight="bold", va="center", ha="right", color="#b00020")
