"""What a DICOM header says of its object, of the view and of the patient, for tables that name nobody."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    UID,
    MediaStorageDirectoryStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from ...core.errors import DataError
from ...core.secret import keyed_hash
from .dicom import read_elements

_TAGS = (
    "SOPClassUID", "Modality", "Rows", "Columns", "NumberOfFrames", "ViewPosition", "ViewCodeSequence",
    "BodyPartExamined", "PatientSex", "PatientAge", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "ImageType",
    "TotalPixelMatrixColumns", "TotalPixelMatrixRows", "SOPInstanceUID", "AccessionNumber", "AcquisitionDateTime",
    "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime", "PresentationIntentType",
    "Manufacturer",
)  # fmt: skip
_AGE_UNITS_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}

# Modalities whose images are X-ray projections, and those that also hold them: copies, scans of film, fluoroscopy.
XRAY_MODALITIES = ("CR", "DX", "RG", "DR", "RF", "XA", "PX", "SC", "OT", "HC")
# Defined terms of PS3.3 C.7.3.1 that may stand in a message; any other word of a header may be a name.
_MODALITIES = frozenset(
    (
        "AR AS BI BMD CR CT CTPROTOCOL DG DOC DR DX ECG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO LEN LS MG MR NM "
        "OAM OCT OP OPM OPT OPV OSS OT PLAN PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTPLAN RTRECORD RTSTRUCT RWV SC "
        "SEG SM SMR SR SRF STAIN TG US VA XA XC"
    ).split()
)
# Body parts (PS3.16 annex L) that are certainly no chest; words that are not in here decide nothing.
OTHER_THAN_CHEST = frozenset(
    (
        "ABDOMEN ANKLE ANUS ARM BLADDER BRAIN BREAST CALCANEUS CALF CAROTID CEREBELLUM COLON CSPINE COCCYX EAR "
        "ELBOW EXTREMITY EYE FACE FEMUR FIBULA FINGER FOOT FOREARM HAND HEAD HIP HUMERUS ILIUM JAW KIDNEY KNEE LEG "
        "LIVER LOWERLIMB LSPINE MANDIBLE MAXILLA METACARPUS METATARSUS NECK NOSE ORBIT PANCREAS PATELLA PELVIS "
        "PENIS PROSTATE RADIUS RADIUSULNA RECTUM SCALP SCROTUM SELLA SHOULDER SIJOINT SKULL SPLEEN SSPINE STOMACH "
        "TEETH TESTIS THIGH THUMB TIBIA TIBIAFIBULA TMJOINT TOE TONGUE ULNA UPPERLIMB URETER URETHRA UTERUS WRIST"
    ).split()
)
# Words of ViewPosition and of the meanings of view codes (CID 4010) as people's archives have them.
_VIEWS = {
    "POSTEROANTERIOR": "PA",
    "POSTEROANTERIORPROJECTION": "PA",
    "ANTEROPOSTERIOR": "AP",
    "ANTEROPOSTERIORPROJECTION": "AP",
    "LEFTLATERAL": "LL",
    "LEFTLATERALPROJECTION": "LL",
    "RIGHTLATERAL": "RL",
    "RIGHTLATERALPROJECTION": "RL",
    "LATERAL": "LATERAL",
    "LAT": "LATERAL",
    "LATERALPROJECTION": "LATERAL",
}
# Defined terms of ViewPosition (PS3.3 C.8.1.2, C.8.7.1, C.8.11.7) that may stand in a table; any other may be a name.
_VIEW_TERMS = frozenset("AP PA LL RL LLD RLD LLO RLO LATERAL CC MLO ML LM LMO FB SIO ISO XCC XCCL XCCM AT CV".split())
OWN = "ClinViT"  # the manufacturer that our results name
RESULT = "result of ClinViT"
DIRECTORY = "DICOMDIR, the list of a medium's files"


@dataclass(frozen=True)
class DicomHeader:
    """What one DICOM object is.

    Attributes:
        sop_class: UID of its kind of object; '' where it is not given.
        modality: Such as `DX`; '' where it is not given.
        view: `PA`, `AP`, `LL`, `RL`, `LATERAL`, or whatever else the header says, in capitals; '' if nothing.
        body_part: In capitals, without blanks; '' if not given.
        size: (height, width) in px; None where there is no image.
        frames: How many.
        sex: `M`, `F`, `O` or ''.
        age: Years; None if not given.
        patient, study: As the header says them, '' if not given. They name a person.
        series: SeriesInstanceUID, '' if not given: which files are one whole-slide image.
        flavour: Third value of ImageType, such as `VOLUME` or `LABEL`; '' if not given.
        matrix_px: Px of the whole image that a tiled file holds; 0 if not given.
        instance, accession: SOPInstanceUID and AccessionNumber, '' if not given. They name a person.
        taken: Date and time of the acquisition, else of the content, as digits that sort; '' if not given.
        derived: Whether ImageType says that it was made of other images.
        for_processing: Whether it is raw, for a machine and not for a reader (PresentationIntentType).
        is_result: Whether it is a result of ours (Manufacturer), which is never a case.
    """

    sop_class: str
    modality: str
    view: str
    body_part: str
    size: tuple[int, int] | None
    frames: int
    sex: str
    age: float | None
    patient: str
    study: str
    series: str = ""
    flavour: str = ""
    matrix_px: int = 0
    instance: str = ""
    accession: str = ""
    taken: str = ""
    derived: bool = False
    for_processing: bool = False
    is_result: bool = False

    def facts(self, salt: str) -> dict[str, str | float | None]:
        """Return `view, sex, age, patient, study`, identifiers hashed with the salt; as `dicom_facts` does."""
        return {
            "view": self.view,
            "sex": self.sex,
            "age": _top_coded(self.age),
            "patient": keyed_hash(salt, self.patient) if self.patient else "",
            "study": keyed_hash(salt, self.study) if self.study else "",
        }

    @property
    def is_directory(self) -> bool:
        """Whether this is a DICOMDIR, which lists the files of a medium."""
        return self.sop_class == MediaStorageDirectoryStorage

    @property
    def is_cut_off(self) -> bool:
        """Whether the header ends before it describes the image that its kind of object has."""
        image = "Image" in UID(self.sop_class).name if self.sop_class else not self.modality
        return self.size is None and image

    @property
    def is_lateral(self) -> bool:
        """Whether it is a lateral view."""
        return self.view in ("LL", "RL", "LATERAL")

    @property
    def sayable_view(self) -> str:
        """Return the view if it is a term of the standard, `other` if it is some other word, '' if there is none."""
        return self.view if self.view in _VIEW_TERMS or not self.view else "other"

    @property
    def is_slide(self) -> bool:
        """Whether this is a part of a whole-slide image."""
        return self.sop_class == VLWholeSlideMicroscopyImageStorage

    def words(self) -> str:
        """Return what it is in words that the standard has: never what a person has typed."""
        uid = UID(self.sop_class)
        if self.sop_class and uid.name != uid:
            return uid.name
        return f"modality {self.modality}" if self.modality in _MODALITIES else "of an unknown kind"


@dataclass(frozen=True)
class Wanted:
    """Which DICOM images are wanted; an empty tuple wants all.

    Attributes:
        modalities: Such as `DX`.
        views: Such as `PA`. A file that does not state its view is not wanted then.
        body_parts: Such as `CHEST`. A file that does not state its body part is not wanted then.
    """

    modalities: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, modalities: Any, views: Any, body_parts: Any) -> "Wanted":
        """Return what options say: None, `PA,AP` or a list."""
        return cls(_words(modalities), tuple(map(_view, _words(views))), tuple(map(_plain, _words(body_parts))))

    def needs_header(self) -> bool:
        """Return whether a file without a header cannot be known to be wanted."""
        return bool(self.modalities or self.views or self.body_parts)


def read_header(path: Path) -> DicomHeader:
    """Read what a DICOM file says of itself, without its pixels.

    Raises:
        DataError: The file cannot be opened or is no DICOM file.
    """
    try:
        with path.open("rb") as file:
            header = read_elements(path, file, _TAGS, stop_before_pixels=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}).") from None
    return header_of(header, str(header.file_meta.get("MediaStorageSOPClassUID", "")))


def header_elements() -> list[str]:
    """Return the tags that `header_of` looks at, as DICOM's JSON writes them: `00080018`."""
    return [f"{tag_for_keyword(name):08X}" for name in _TAGS]


def header_of(header: Dataset, sop_class: str = "") -> DicomHeader:
    """Return what elements say, wherever they were read.

    Args:
        header: The elements; those that are missing are not given.
        sop_class: What counts where there is no SOPClassUID.
    """
    sop_class = _text(header, "SOPClassUID") or sop_class
    return DicomHeader(
        sop_class=sop_class,
        modality=_text(header, "Modality").upper(),
        view=_view(_text(header, "ViewPosition")) or _coded_view(header),
        body_part=_plain(_text(header, "BodyPartExamined")),
        size=_size(header),
        frames=_frames(header),
        sex=_text(header, "PatientSex").upper(),
        age=_years(_text(header, "PatientAge")),
        patient=_text(header, "PatientID"),
        study=_text(header, "StudyInstanceUID"),
        series=_text(header, "SeriesInstanceUID"),
        flavour=_flavour(header),
        matrix_px=_matrix_px(header),
        instance=_text(header, "SOPInstanceUID"),
        accession=_text(header, "AccessionNumber"),
        taken=_taken(header),
        derived=_image_type(header)[:1] == ["DERIVED"],
        for_processing=_text(header, "PresentationIntentType").upper() == "FOR PROCESSING",
        is_result=_text(header, "Manufacturer") == OWN,
    )


def dicom_facts(path: str | Path, salt: str) -> dict[str, str | float | None]:
    """Read facts of a DICOM header for a manifest that say nothing about who the patient is.

    Args:
        path: The file.
        salt: A key of 16 bytes or more, the same for all files of a data set and kept secret (`core.secret`): patient
            numbers are short, and without it a hash is reversed by hashing every number there is.

    Returns:
        `view` (ViewPosition: `PA`, `AP`, `LL`, ...; '' if not given), `sex` (`M`, `F`, `O` or ''), `age` in
        years (90 for all above 89; None if not given), `patient` and `study`: the first 16 hexadecimal digits of the
        HMAC-SHA256 of the identifier ('' if not given).

    Raises:
        DataError: The file cannot be opened or is no DICOM file.
        UserError: The salt is too short.
    """
    return read_header(Path(path)).facts(salt)


def listed_files(path: Path) -> list[str]:
    """Return the files that a DICOMDIR lists, relative to its folder, with `/`; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            records = read_elements(path, file, ("DirectoryRecordSequence",)).get("DirectoryRecordSequence") or ()
            names = [record.get("ReferencedFileID") for record in records]
    except (DataError, OSError):
        return []
    return ["/".join([name] if isinstance(name, str) else name) for name in names if name]


def not_wanted(header: DicomHeader, wanted: Wanted, *, chest: bool) -> str:
    """Return why a DICOM object is no case among images; '' where it is one.

    Args:
        header: Of the object.
        wanted: What was asked for.
        chest: Whether only X-ray images that may show a chest are cases.
    """
    if header.is_directory:
        return DIRECTORY
    if header.size is None:
        return f"DICOM without an image ({header.words()})"
    if header.is_result:
        return RESULT
    if header.is_slide:
        return "DICOM of a whole slide"
    if header.frames > 1:
        return "DICOM of several frames"
    if wanted.modalities and header.modality not in wanted.modalities:
        return _unwanted("modality", header.modality, header.modality in _MODALITIES)
    if not wanted.modalities and chest and header.modality and header.modality not in XRAY_MODALITIES:
        return f"DICOM that is no X-ray image ({header.words()})"
    if wanted.body_parts and header.body_part not in wanted.body_parts:
        return _unwanted("body part", header.body_part, header.body_part in OTHER_THAN_CHEST)
    if not wanted.body_parts and chest and header.body_part in OTHER_THAN_CHEST:
        return f"DICOM of another body part ({header.body_part})"
    if wanted.views and header.view not in wanted.views:
        return _unwanted("view", header.view, header.view in (*_VIEWS.values(), "AP", "PA"))
    return ""


def _unwanted(what: str, value: str, sayable: bool) -> str:
    if not value:
        return f"DICOM that does not state its {what}"
    return f"DICOM of another {what} ({value})" if sayable else f"DICOM of another {what}"


def _size(header: Dataset) -> tuple[int, int] | None:
    try:
        return int(header["Rows"].value), int(header["Columns"].value)
    except (KeyError, TypeError, ValueError):
        return None


def _frames(header: Dataset) -> int:
    try:
        return int(header.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return 1


def _flavour(header: Dataset) -> str:
    return "".join(_image_type(header)[2:3])


def _image_type(header: Dataset) -> list[str]:
    """Return the values of ImageType in capitals."""
    values = header.get("ImageType") or ()
    return [str(value).strip().upper() for value in ([values] if isinstance(values, str) else values)]


def _taken(header: Dataset) -> str:
    """Return when the image was taken, as digits that sort."""
    whole = _text(header, "AcquisitionDateTime")
    for name in ("Acquisition", "Content"):
        whole = whole or (_text(header, f"{name}Date") and _text(header, f"{name}Date") + _text(header, f"{name}Time"))
    return re.sub(r"\D", "", whole)


def _matrix_px(header: Dataset) -> int:
    try:
        return int(header["TotalPixelMatrixColumns"].value) * int(header["TotalPixelMatrixRows"].value)
    except (KeyError, TypeError, ValueError):
        return 0


def _coded_view(header: Dataset) -> str:
    items = header.get("ViewCodeSequence") or ()
    known = [_VIEWS.get(_plain(str(item.get("CodeMeaning", ""))), "") for item in items]
    return next((view for view in known if view), "")


def _view(text: str) -> str:
    return _VIEWS.get(_plain(text), text.strip().upper())


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).upper()


def _words(option: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return an option's values in capitals."""
    words = option.split(",") if isinstance(option, str) else (option or ())
    return tuple(str(word).strip().upper() for word in words)


def _text(header: Dataset, name: str) -> str:
    value = header.get(name)
    return "" if value is None else str(value).strip()


def _years(age: str) -> float | None:
    """Return an age such as `045Y`, `018M`, `003W`, `010D` or `45` in years, to 2 digits; None if it is no such."""
    match = re.fullmatch(r"(\d+)([DWMY]?)", age)
    return round(int(match[1]) / _AGE_UNITS_PER_YEAR[match[2] or "Y"], 2) if match else None


def _top_coded(years: float | None) -> float | None:
    """Return 90 for all ages above 89, which are so rare that they name people (HIPAA, 45 CFR 164.514 (b)(2)(i)(C))."""
    return 90.0 if years is not None and years > 89 else years
