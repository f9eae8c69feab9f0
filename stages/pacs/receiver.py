"""The receiver of the classical network: C-ECHO and C-STORE, from those who may, in sizes that fit, into a queue."""

import logging
import ssl
import warnings
from collections.abc import Callable, Collection
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from ...core.errors import DataError, RunError
from ...core.extras import require
from ...datasets.images.dicom import read_elements
from .queue import LATE, Queue

# Of PS3.4 B.2.3 and GG.4.
STORED, OUT_OF_RESOURCES, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
PDU_BYTES = 131_072
SILENCE_S = 60
Say = Callable[[str], None]


@dataclass(frozen=True)
class Reception:
    """How a receiver listens.

    Attributes:
        title: Our AE title, which senders must call.
        host, port: Where; 127.0.0.1 lets this machine alone in.
        allowed: AE titles that may send; none lets all in.
        associations: Most at once.
        object_mb: Largest object.
        tls: Of the connections; None for none.
    """

    title: str = "CLINVIT"
    host: str = "127.0.0.1"
    port: int = 11112
    allowed: Collection[str] = ()
    associations: int = 10
    object_mb: float = 500
    tls: ssl.SSLContext | None = None


def hush() -> None:
    """Keep the words of the network's and DICOM's libraries, which quote headers, out of console and logs.

    For a whole process: its threads read headers at once.
    """
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")


@contextmanager
def receiving(reception: Reception, queue: Queue, say: Say):
    """Receive into a queue for as long as the block lasts.

    Args:
        reception: How.
        queue: Where to.
        say: Takes a line for each thing that a person should know; it names nobody.

    Raises:
        RunError: The address is taken, or not ours.
    """
    require("pynetdicom", "pacs", "clinvit listen")
    from pydicom.uid import AllTransferSyntaxes
    from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
    from pynetdicom.sop_class import Verification

    hush()
    _config.LOG_HANDLER_LEVEL = "none"
    entity = AE(ae_title=reception.title)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, AllTransferSyntaxes)
    entity.add_supported_context(Verification)
    entity.require_called_aet, entity.require_calling_aet = True, list(reception.allowed)
    entity.maximum_associations, entity.maximum_pdu_size = reception.associations, PDU_BYTES
    entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = SILENCE_S
    limit = int(reception.object_mb * 1e6)
    handlers = [
        (evt.EVT_CONN_OPEN, _bound, [limit, say]),
        (evt.EVT_DIMSE_RECV, _begin_anew, [limit]),
        (evt.EVT_REJECTED, _rejected, [reception, say]),
        (evt.EVT_C_STORE, _store, [queue, say]),
    ]
    address = (reception.host, reception.port)
    try:
        server = entity.start_server(address, block=False, evt_handlers=handlers, ssl_context=reception.tls)
    except OSError as error:
        where = f"{reception.host}:{reception.port}"
        raise RunError(f"{where}: cannot listen there ({error.strerror}). Name another --port or --host.") from None
    try:
        yield server
    finally:
        server.shutdown()


class _Counted:
    """The reading side of a connection: no message is larger than `limit`, no piece than a PDU, no silence for long."""

    def __init__(self, socket: Any, limit: int, say: Say):
        self._recv, self._say, self.limit = socket.recv, say, limit
        self.left = self.limit + PDU_BYTES

    def recv(self, size: int) -> bytearray:
        self.left -= size
        if size > 8 * PDU_BYTES or self.left < 0:
            self._say(f"hung up on a sender: an object of more than {self.limit / 1e6:g} MB (--object-mb)")
            raise OSError("more than is received")
        return self._recv(size)


def _bound(event: Any, limit: int, say: Say) -> None:
    """Bound what a new connection may send."""
    socket = event.assoc.dul.socket
    socket.socket.settimeout(SILENCE_S)
    event.assoc.counted = _Counted(socket, limit, say)
    socket.recv = event.assoc.counted.recv


def _begin_anew(event: Any, limit: int) -> None:
    """A message is there: count the next one from its beginning."""
    event.assoc.counted.left = limit + PDU_BYTES


def _rejected(event: Any, reception: Reception, say: Say) -> None:
    asked = event.assoc.requestor
    called, calling = event.assoc.requestor.primitive.called_ae_title, asked.ae_title
    why = "--associations are open already"
    if called != reception.title:
        why = f"it called {called!r}, and this is {reception.title!r}"
    elif reception.allowed and calling not in reception.allowed:
        why = "--allow does not name it"
    say(f"refused the sender {calling!r} at {asked.address}: {why}")


def _store(event: Any, queue: Queue, say: Say) -> int:
    """Keep an object; return the status that the sender is told."""
    try:
        content = event.encoded_dataset()
        study, instance = _uids(content)
        state = queue.add(study, instance, [content])
    except DataError as error:
        say(f"refused an object: {str(error).removeprefix(f'{_NO_PATH}: ')}")
        return NOT_UNDERSTOOD
    except (RunError, OSError) as error:
        say(f"refused an object for now: {error}")
        return OUT_OF_RESOURCES
    except Exception as error:  # whatever libraries make of it; the sender must not think that it is here
        say(f"refused an object: it cannot be read ({type(error).__name__})")
        return NOT_UNDERSTOOD
    if state == LATE:
        say(f"study {queue.name(study)}: an object came after its result, and is not scored: a longer --quiet waits")
    return STORED


_NO_PATH = Path("object")


def _uids(content: bytes) -> tuple[str, str]:
    """Return the UIDs of study and instance.

    Raises:
        DataError: It has none, or is no DICOM.
    """
    names = ("StudyInstanceUID", "SOPInstanceUID")
    found = read_elements(_NO_PATH, BytesIO(content), names, stop_before_pixels=True)
    study, instance = (str(found.get(name) or "").strip() for name in names)
    if not study or not instance:
        raise DataError("it has no study or no instance UID.")
    return study, instance
