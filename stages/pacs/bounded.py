"""HTTP whose answers end: in bytes and in time, however slowly and however much a server sends."""

import time
from collections.abc import Iterator
from typing import Any

from requests import Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ReadTimeout

from ...core.errors import DataError
from ...datasets.loading.limits import Limit

ANSWER_GB = Limit("CLINVIT_MAX_PACS_GB", 1, "GB")
ANSWER_SECONDS = Limit("CLINVIT_PACS_SECONDS", 600, "s")
_STEP_BYTES = 1 << 16


class BoundedAdapter(HTTPAdapter):
    """Sends requests; what comes back is cut off by `ANSWER_GB` and `ANSWER_SECONDS`."""

    def send(self, *arguments: Any, **settings: Any) -> Response:
        """Send a request; its answer is read later."""
        end = time.monotonic() + ANSWER_SECONDS.value()
        response = super().send(*arguments, **settings)
        response.raw = _Bounded(response.raw, end)
        return response


class _Bounded:
    """The body of an answer, read piece by piece as it comes."""

    def __init__(self, raw: Any, end: float):
        self._raw, self._end = raw, end

    def stream(self, _amount: int, decode_content: bool | None = None) -> Iterator[bytes]:
        size = 0
        while piece := self._raw.read1(_STEP_BYTES, decode_content=decode_content):
            size += len(piece)
            if ANSWER_GB.exceeded(size / 1e9):
                raise DataError(f"the PACS sends more than is read ({ANSWER_GB.text()}).")
            if time.monotonic() > self._end:
                raise ReadTimeout
            yield piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def refuse_half(response: Response, *_: Any, **__: Any) -> None:
    """Refuse a multipart answer without its last boundary: a server that has died may leave one so.

    Raises:
        ChunkedEncodingError: It has none.
    """
    kind, _, more = response.headers.get("Content-Type", "").partition(";")
    if not response.ok or kind.strip().lower() != "multipart/related" or "boundary=" not in more.lower():
        return
    if not response.content.rstrip().endswith(b"--"):
        raise ChunkedEncodingError
