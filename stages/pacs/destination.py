"""Where results go: a DICOMweb service, or a receiver of the classical network."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...core.errors import UserError
from ...core.extras import require
from ...datasets.images.dicom import quiet
from .identity import Identity
from .web import PacsAway, PacsRefused

_ADDRESS = re.compile(r"([\x21-\x7e]{1,16})@(\[[0-9a-fA-F:]+\]|[^@:\s]+):(\d{1,5})")
_TIMEOUT_S = 60
# Warnings with which an object is stored all the same (PS3.4 B.2.3).
_STORED = {0x0000, 0xB000, 0xB006, 0xB007}


class Destination(Protocol):
    """Takes results."""

    def send(self, files: Sequence[Path]) -> None:
        """Store objects.

        Raises:
            PacsAway: Trying again later may help.
            PacsRefused: It will not.
        """


@dataclass(frozen=True)
class StoreReceiver:
    """A receiver of C-STORE.

    Attributes:
        title, host, port: Its AE title and address.
        own_title: Ours.
        identity: Who we are, for TLS.
        tls: Whether the connection is encrypted.
    """

    title: str
    host: str
    port: int
    own_title: str
    identity: Identity
    tls: bool = False

    def send(self, files: Sequence[Path]) -> None:
        """Store objects, all in one association."""
        require("pynetdicom", "pacs", "C-STORE")
        from pydicom import dcmread
        from pynetdicom import AE

        entity = AE(ae_title=self.own_title)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
        with quiet():
            objects = [dcmread(file) for file in files]
        kinds = {(each.SOPClassUID, each.file_meta.TransferSyntaxUID) for each in objects}
        for kind, syntax in sorted(kinds):
            entity.add_requested_context(kind, syntax)
        where = f"{self.title}@{self.host}:{self.port}"
        tls = (self.identity.client_context(), self.host) if self.tls else None
        association = entity.associate(self.host, self.port, ae_title=self.title, tls_args=tls)
        if association.is_rejected:
            raise PacsRefused(f"{where}: refuses us: does it know the AE title {self.own_title} (--aet)?")
        if not association.is_established:
            raise PacsAway(f"{where}: cannot be reached{' by TLS' if self.tls else ''}.")
        try:
            for each in objects:
                self._send_one(association, each, where)
        finally:
            association.release()

    def _send_one(self, association, each, where: str) -> None:
        try:
            status = association.send_c_store(each).get("Status")
        except ValueError:  # no context was accepted for it
            raise PacsRefused(f"{where}: takes no {each.SOPClassUID.name}.") from None
        if status is None:
            raise PacsAway(f"{where}: hung up over a result.")
        if status not in _STORED:
            text = f"{where}: does not store the result (status {status:04X}H)."
            raise PacsAway(text) if status >> 8 == 0xA7 else PacsRefused(text)


def read_receiver(text: str, own_title: str, identity: Identity, tls: bool) -> StoreReceiver:
    """Read `TITLE@HOST:PORT`.

    Raises:
        UserError: It is something else.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match[3]) < 65_536:
        raise UserError(f"--send {text}: write TITLE@HOST:PORT, such as PACS@10.0.0.5:104.")
    return StoreReceiver(match[1], match[2].strip("[]"), int(match[3]), own_title, identity, tls)


def read_title(text: str, option: str) -> str:
    """Return an AE title: 1 to 16 printable characters without a backslash.

    Raises:
        UserError: It is something else.
    """
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", text) or not text.strip():
        raise UserError(f"{option} {text}: an AE title has 1 to 16 characters of ASCII, without a backslash.")
    return text.strip()
