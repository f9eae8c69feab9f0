"""How we show a PACS who we are, and know that it is it: a header, a client certificate, an authority.

None of these is a word of the command line or of a URL: headers come from a file of the owner's alone or from the
environment, and no message repeats them.
"""

import os
import re
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ...core.addresses import refuse_secrets
from ...core.documents import regular_bytes
from ...core.errors import UserError
from ...core.extras import require
from ...core.files import refuse_irregular
from ...core.platform import WINDOWS

if TYPE_CHECKING:
    from requests import Session

VARIABLE = "CLINVIT_PACS_HEADERS"
MOST_BYTES = 65_536
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]+)")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Identity:
    """What we show and what we trust.

    Attributes:
        headers: Sent with each request of DICOMweb, never shown.
        certificate, key: PEM files of a client certificate and its key, which may be one file; None for none.
        authority: PEM file of the authorities that sign the PACS's certificate; None for those of the system.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def __post_init__(self) -> None:
        """Check the files."""
        if self.key is not None and self.certificate is None:
            raise UserError("--key: belongs to the client certificate of --cert, which is missing.")
        for path in (self.certificate, self.authority):
            if path is not None:
                refuse_irregular(path)
        if self.certificate is not None:
            check_key(self.key or self.certificate)

    def session(self) -> "Session":
        """Return an HTTP session that uses nothing else of this machine: no proxies, no `.netrc`; it is not led on."""
        requests = require("requests", "pacs", "DICOMweb")
        session = requests.Session()
        session.trust_env, session.max_redirects = False, 0
        session.headers.update(self.headers)
        session.verify = str(self.authority) if self.authority else True
        if self.certificate is not None:
            session.cert = (str(self.certificate), str(self.key or self.certificate))
        return session

    def client_context(self) -> ssl.SSLContext:
        """Return what TLS to a receiver of the classical network uses."""
        context = ssl.create_default_context(cafile=self.authority)
        if self.certificate is not None:
            load_certificate(context, self.certificate, self.key)
        return context


def read_identity(
    headers: Path | None = None, certificate: Path | None = None, key: Path | None = None, authority: Path | None = None
) -> Identity:
    """Return an identity, with the headers of a file or else of the environment.

    Args:
        headers: File of lines such as `Authorization: Bearer ...`, of the owner's alone; None for `VARIABLE`.
        certificate: As of `Identity`.
        key: As of `Identity`.
        authority: As of `Identity`.

    Raises:
        UserError: A file is missing, others may read it, or a line is no header.
    """
    text, where = os.environ.get(VARIABLE, ""), f"the environment variable {VARIABLE}"
    if headers is not None:
        text, where = _owners_text(headers), str(headers)
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _HEADER.fullmatch(line.strip())
        if match is None:
            raise UserError(f"{where}: line {number} is no header. Write lines such as `Authorization: Bearer TOKEN`.")
        found[match[1]] = match[2]
    return Identity(found, certificate, key, authority)


def checked_url(url: str) -> str:
    """Return the address of a DICOMweb service without a slash at its end.

    Raises:
        UserError: It is no http or https, or has a password, a token or a query in it.
    """
    refuse_secrets(url)
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise UserError(f"{url}: no address of a DICOMweb service, such as https://pacs.hospital/dicom-web.")
    return url.rstrip("/")


def is_plain(url: str) -> bool:
    """Return whether what is sent to an address could be read on its way."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK


def server_context(certificate: Path, key: Path | None, authority: Path | None) -> ssl.SSLContext:
    """Return what a listener's TLS uses.

    Args:
        certificate: Its own, PEM.
        key: The certificate's; None if it is in the same file.
        authority: Senders must show a certificate that one of these has signed; None lets anyone in.

    Raises:
        UserError: A file is missing or of another kind.
    """
    check_key(key or certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, certificate, key)
    if authority is not None:
        refuse_irregular(authority)
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError):
            raise UserError(f"{authority}: no certificates in PEM form.") from None
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Load a certificate and its key.

    Raises:
        UserError: They do not fit, or are of another form.
    """
    refuse_irregular(certificate)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError):
        raise UserError(f"{certificate}: no certificate in PEM form, or not that of its key.") from None


def check_key(path: Path) -> None:
    """Refuse a key that others may read, or that asks for a passphrase, which nobody could type.

    Raises:
        UserError: It is refused.
    """
    if b"ENCRYPTED" in _owners_text(path).encode():
        raise UserError(f"{path}: a key with a passphrase: give one without, that only its owner may read.")


def _owners_text(path: Path) -> str:
    try:
        text = regular_bytes(path, MOST_BYTES).decode()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except ValueError as error:
        words = "no text" if isinstance(error, UnicodeDecodeError) else error
        raise UserError(f"{path}: not readable ({words}).") from None
    if stat.S_IMODE(path.stat().st_mode) & 0o077 and not WINDOWS:
        raise UserError(f"{path}: others may read it. If nobody has, `chmod 600 {path}`; else get a new secret.")
    return text
