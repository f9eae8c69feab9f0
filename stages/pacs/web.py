"""A PACS by DICOMweb: what studies it has (QIDO-RS), their headers and images (WADO-RS), and results back (STOW-RS)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ...core.errors import DataError, RunError, UserError
from ...core.extras import require
from ...core.files import written_aside
from ...datasets.images.dicom import quiet
from ...datasets.images.dicom_header import DicomHeader, header_elements, header_of
from .identity import Identity, checked_url

TIMEOUT_S = 60
ADVICE = {
    401: "not authorised: name a file of headers (--headers) or a client certificate (--cert)",
    403: "forbidden: this identity may not do that; ask the PACS's administrator",
    404: "not found",
    407: "a proxy stands between: name the PACS itself",
}
# Answers after which asking once more may help.
PASSING = {408, 425, 429, 500, 502, 503, 504}


class PacsAway(RunError):
    """The PACS does not answer, or not now: trying again later may help."""


class PacsRefused(UserError):
    """The PACS says no; the same request will be refused again.

    Attributes:
        status: Of HTTP; 0 where it is none.
    """

    def __init__(self, message: object = "", status: int = 0):
        super().__init__(message)
        self.status = status


class Web:
    """A DICOMweb service.

    Args:
        url: Its address, with the prefix of its paths.
        identity: Who we are.
        timeout_s: Longest silence.

    Raises:
        UserError: No such address, or `clinvit[pacs]` is not installed.
    """

    def __init__(self, url: str, identity: Identity, timeout_s: float = TIMEOUT_S):
        self.url, self._timeout_s = checked_url(url), timeout_s
        library = require("dicomweb_client.web", "pacs", "DICOMweb")
        from .bounded import BoundedAdapter, refuse_half

        # These log addresses with UIDs, headers and tracebacks.
        for name in ("dicomweb_client", "urllib3", "retrying"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        session = identity.session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, BoundedAdapter())
        self._client = library.DICOMwebClient(self.url, session, callback=refuse_half, timeout=timeout_s)
        self._client.set_http_retry_params(retry=False)

    def studies(self, query: Mapping[str, str], limit: int) -> list[str]:
        """Return the UIDs of studies that a query finds.

        Args:
            query: Values by keyword of DICOM, such as `StudyDate`: `20260101-20260131`.
            limit: Most studies.

        Raises:
            PacsRefused, PacsAway: The PACS does not answer so.
        """
        with self._asking("a list of studies"):
            found = self._client.search_for_studies(search_filters=dict(query), limit=limit)
            return list(dict.fromkeys(_uid(each, "0020000D") for each in found))[:limit]

    def headers(self, study: str) -> list[DicomHeader]:
        """Return the headers of all objects of a study.

        Raises:
            PacsRefused, PacsAway: As of `studies`.
        """
        with self._asking("a study"):
            try:
                found = self._client.retrieve_study_metadata(study)
            except _http_error() as error:
                if error.response.status_code != HTTPStatus.NOT_FOUND:
                    raise
                raise PacsRefused(f"{self.url}: the PACS has no such study any more (404).", 404) from None
            return [_header(each) for each in found]

    def fetch(self, header: DicomHeader, to: Path) -> None:
        """Write an object to a file of the owner's alone.

        Raises:
            PacsRefused, PacsAway: As of `studies`.
            DataError: Another object came.
        """
        with self._asking("an image"), quiet():
            found = self._client.retrieve_instance(header.study, header.series, header.instance)
            if (str(found.SOPInstanceUID), str(found.StudyInstanceUID)) != (header.instance, header.study):
                raise DataError(f"{self.url}: another object came than the one that was asked for.")
            with written_aside(to, private=True) as aside:
                found.save_as(aside, enforce_file_format=True)

    def send(self, files: Sequence[Path]) -> None:
        """Store objects, one request each.

        Raises:
            PacsRefused, PacsAway: As of `studies`; those before the one that failed are stored.
        """
        from pydicom import dcmread

        for file in files:
            with self._asking("a result"), quiet():
                answer = self._client.store_instances([dcmread(file)])
                failed = answer.get("FailedSOPSequence") or []
                if failed:
                    code = int(failed[0].get("FailureReason") or 0)
                    raise PacsRefused(f"{self.url}: does not store the result (failure reason {code:04X}H).")

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn whatever goes wrong into one line without the address below the service, which names studies."""
        from requests import exceptions as wrong

        try:
            yield
        except (UserError, RunError):
            raise
        except wrong.HTTPError as error:
            raise self._answered(what, error.response.status_code) from None
        except wrong.TooManyRedirects:
            raise PacsRefused(f"{self.url}: leads on to another address: name that one.") from None
        except wrong.SSLError:
            raise PacsRefused(
                f"{self.url}: no TLS with it: its certificate is not trusted here (--ca), or it wants ours (--cert)."
            ) from None
        except wrong.Timeout:
            raise PacsAway(f"{self.url}: too slow with {what}: no answer within {self._timeout_s:g} s.") from None
        except wrong.ChunkedEncodingError:
            raise PacsAway(f"{self.url}: half an answer: it ended in the middle of {what}.") from None
        except wrong.ConnectionError:
            raise PacsAway(f"{self.url}: cannot be reached, or hung up over {what}.") from None
        except Exception as error:  # whatever a library makes of an answer that is none
            if isinstance(error, OSError) and not isinstance(error, wrong.RequestException):
                raise
            raise PacsRefused(
                f"{self.url}: its answer for {what} is no DICOMweb ({type(error).__name__}). Is this the right address?"
            ) from None

    def _answered(self, what: str, status: int) -> UserError | RunError:
        words = ADVICE.get(status) or (HTTPStatus(status).phrase.lower() if status in set(HTTPStatus) else "?")
        text = f"{self.url}: answered {status} for {what} ({words})."
        return PacsAway(text) if status in PASSING else PacsRefused(text, status)


def _http_error() -> type[Exception]:
    from requests.exceptions import HTTPError

    return HTTPError


def _uid(found: Mapping[str, Any], tag: str) -> str:
    return str(found[tag]["Value"][0])


def _header(found: Mapping[str, Any]) -> DicomHeader:
    """Return a header of DICOM's JSON; only the elements that are looked at are made of it."""
    from pydicom import Dataset

    wanted = {tag: found[tag] for tag in header_elements() if tag in found}
    with quiet():
        return header_of(Dataset.from_json(wanted, lambda *_: None))
