"""Studies of a PACS as files, for as long as a prediction needs them: one image each, and why this one."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from ...core.errors import DataError, UserError
from ...core.files import own_folder
from ...datasets.images.dicom_header import DicomHeader
from ...datasets.images.studies import choose_image, scorable
from ...datasets.kinds import DICOM
from ...datasets.manifest.contents import Entry
from ..requested_files import Expanded
from .identity import Identity
from .web import PacsAway, PacsRefused, Web

TRIES, FIRST_WAIT_S = 3, 1.0
# So many studies in a row that the PACS does not answer for: it is away, and the others are not asked for.
AWAY_IN_A_ROW = 3


@dataclass(frozen=True)
class WebQuery:
    """Which studies of which PACS.

    Attributes:
        url: Of its DICOMweb service.
        query: Values by keyword, as of `Web.studies`; they may name a patient and are not stored.
        identity: Who we are.
        limit: Most studies.
        store: Whether results go back.
        keep: Whether they stay here, too.
    """

    url: str
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    identity: Identity = field(default_factory=Identity)
    limit: int = 1000
    store: bool = False
    keep: bool = False


def read_query(words: list[str]) -> dict[str, str]:
    """Read `KEY=VALUE` words of a query.

    Raises:
        UserError: A word has no `=`, or a key is no keyword of DICOM.
    """
    from pydicom.datadict import tag_for_keyword

    found = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not value or tag_for_keyword(key) is None:
            raise UserError(
                f"--query {key}: write KEY=VALUE with a keyword of DICOM, such as StudyDate=20260101-20260131, "
                "ModalitiesInStudy=DX or PatientID=..."
            )
        found[key] = value
    return found


@contextmanager
def fetched(asked: WebQuery, folder: Path, unit: str, every: bool = False) -> Iterator[Expanded]:
    """Fetch the image to score of each study of a query; the files are removed when the block ends.

    A study that cannot be fetched, or has no image, is a case that is refused with the reason.

    Args:
        asked: Which studies.
        folder: Where the files lie meanwhile; made for the owner alone (0700), and emptied first.
        unit: As of `choose_image`.
        every: All images of a study that could be scored, for units larger than an image.

    Raises:
        PacsRefused, PacsAway: There is no list of studies.
        UserError: The query finds none.
    """
    web = Web(asked.url, asked.identity)
    studies = patient(lambda: web.studies(asked.query, asked.limit))
    if not studies:
        raise UserError(f"{web.url}: no study that fits the query.")
    if len(studies) == asked.limit:
        print(f"note: {web.url}: the first {asked.limit:,} studies; --limit takes more, a narrower --query fewer.")
    _remove(folder)
    own_folder(folder).chmod(0o700)
    try:
        yield _fetch(web, studies, folder, unit, every)
    finally:
        _remove(folder)


def patient(ask: Callable[[], list], tries: int = TRIES) -> list:
    """Return what a PACS answers, asked again after a while where it is away for a moment."""
    for number in range(tries - 1):
        try:
            return ask()
        except PacsAway:
            time.sleep(FIRST_WAIT_S * 2**number)
    return ask()


def _fetch(web: Web, studies: list[str], folder: Path, unit: str, every: bool) -> Expanded:
    found, away = Expanded(), 0
    for study in tqdm(studies, desc="fetching", unit="study", disable=None):
        path = folder / f"{hashlib.sha256(study.encode()).hexdigest()[:32]}.dcm"
        try:
            if away >= AWAY_IN_A_ROW:
                raise PacsAway(f"{web.url}: away; {AWAY_IN_A_ROW} studies before this one had no answer.")
            headers = (_fetch_every if every else _fetch_one)(web, study, path, unit, found)
            away = 0
        except (PacsAway, PacsRefused, DataError) as error:
            away = away + 1 if isinstance(error, PacsAway) else 0
            headers, found.refused[path] = {path: _unknown(study)}, str(error)
        for file, header in headers.items():
            found.entries[file] = Entry(file.name, DICOM, header)
            parts = zip(("studies", "series", "instances"), (study, header.series, header.instance))
            found.sources[file] = "/".join(f"{name}/{uid}" for name, uid in parts if uid)
    return found


def _fetch_every(web: Web, study: str, path: Path, unit: str, found: Expanded) -> dict[Path, DicomHeader]:
    """Fetch all images of a study that could be scored, numbered beside `path`; return their headers."""
    headers = patient(lambda: web.headers(study))
    fit, why, left_out = scorable(headers, unit)
    found.left_out.update(left_out)
    if not fit:
        found.refused[path] = why
        return {path: _unknown(study)}
    fetched = {path.with_name(f"{path.stem}-{number}.dcm"): headers[index] for number, index in enumerate(fit)}
    for file, header in fetched.items():
        patient(lambda file=file, header=header: [web.fetch(header, file)])
    return fetched


def _fetch_one(web: Web, study: str, path: Path, unit: str, found: Expanded) -> dict[Path, DicomHeader]:
    headers = patient(lambda: web.headers(study))
    choice = choose_image(headers, unit)
    found.left_out.update(choice.left_out)
    if choice.index is None:
        found.refused[path] = choice.why
        patients = {header.patient for header in headers if header.patient}
        return {path: replace(_unknown(study), patient=patients.pop() if len(patients) == 1 else "")}
    header = headers[choice.index]
    patient(lambda: [web.fetch(header, path)])
    found.chosen[path] = choice.why
    return {path: header}


def _unknown(study: str) -> DicomHeader:
    """Return the header of a study of which nothing is known but its UID."""
    return DicomHeader("", "", "", "", None, 1, "", None, "", study)


def _remove(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
