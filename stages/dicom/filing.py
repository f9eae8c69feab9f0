"""Patient and study of a source on an object that `highdicom` does not copy them to."""

from pydicom import Dataset

from .source import PATIENT, STUDY


def file_with(made: Dataset, source: Dataset) -> Dataset:
    """Copy patient and study of a source onto an object, and return it."""
    for name in (*PATIENT, *STUDY, "SpecificCharacterSet"):
        if name in source:
            setattr(made, name, source[name].value)
    return made


def laterality(source: Dataset) -> str | None:
    """Return the side of a source; None, which is written as unknown, where it does not say it."""
    return source.get("Laterality") or source.get("ImageLaterality") or None


def references(sources: list[Dataset]) -> list[Dataset]:
    """Return items that refer to sources by kind and SOP Instance UID."""
    items = []
    for source in sources:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        items.append(item)
    return items
