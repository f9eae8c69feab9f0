"""Encrypted ways: to the listener, to a receiver, and to a DICOMweb service that wants to see a certificate."""

import datetime
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
from clinvit.core.errors import UserError
from clinvit.stages.pacs.destination import StoreReceiver
from clinvit.stages.pacs.identity import Identity, is_plain, server_context
from clinvit.stages.pacs.web import PacsAway, PacsRefused, Web
from clinvit.tests.stages.pacs.servers import radiograph, write
from clinvit.tests.stages.pacs.test_listen import Listener, association, send

x509 = pytest.importorskip("cryptography.x509", reason="the part `sign` is not installed")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402


@pytest.fixture(scope="module")
def model(random_model):
    return random_model()


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """An authority, certificates of a server and a client that it has signed, and one that a stranger made."""
    folder = tmp_path_factory.mktemp("papers")
    authority = certificate("authority", folder)
    for name in ("server", "client"):
        certificate(name, folder, authority)
    certificate("stranger", folder)
    return folder


def certificate(name, folder, signer=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    issuer, signing = signer or (subject, key)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(9)).add_extension(names, False)
        .add_extension(x509.BasicConstraints(signer is None, None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), False)
        .add_extension(x509.KeyUsage(True, *[False] * 4, *[signer is None] * 2, False, False), True)
        .sign(signing, hashes.SHA256())
    )  # fmt: skip
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    words = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(key.private_bytes(*words, serialization.NoEncryption()))
    (folder / f"{name}.key").chmod(0o600)
    return subject, key


def identity(papers, name="client"):
    return Identity({}, papers / f"{name}.pem", papers / f"{name}.key", papers / "authority.pem")


def test_the_listener_takes_objects_by_tls_from_those_whose_certificate_it_knows(model, papers, tmp_path):
    tls = server_context(papers / "server.pem", papers / "server.key", papers / "authority.pem")
    with Listener(model, tmp_path, tls=tls) as listener:
        context = identity(papers).client_context()
        assert send(listener.port, radiograph(), tls=(context, "127.0.0.1")) == [0]
        path = write(radiograph(), tmp_path / "result.dcm")
        to = [StoreReceiver("CLINVIT", "127.0.0.1", listener.port, "PACS", who, True) for who in (
            identity(papers), identity(papers, "stranger"), Identity(),
        )]  # fmt: skip
        to[0].send([path])
        for stranger in to[1:]:
            with pytest.raises(PacsAway, match="by TLS"):
                stranger.send([path])
        with association(listener.port) as plain:
            assert not plain.is_established
        assert len(listener.rows(2)) == 2


@pytest.fixture
def https(papers):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.end_headers()
            self.wfile.write(b'[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}]')

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = server_context(papers / "server.pem", papers / "server.key", papers / "authority.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}/dicom-web"
    server.shutdown()
    server.server_close()


def test_a_service_that_asks_for_a_certificate_sees_ours_and_we_trust_no_stranger(papers, https):
    assert Web(https, identity(papers)).studies({}, 10) == ["1.2.3"]
    with pytest.raises(PacsRefused, match="not trusted here"):
        Web(https, Identity({}, papers / "client.pem", papers / "client.key")).studies({}, 10)
    with pytest.raises((PacsRefused, PacsAway)):
        Web(https, Identity(authority=papers / "authority.pem")).studies({}, 10)


def test_keys_are_their_owners_alone_and_fit_their_certificate(papers, tmp_path):
    with pytest.raises(UserError, match="not that of its key"):
        server_context(papers / "server.pem", papers / "client.key", None)
    with pytest.raises(UserError, match="--cert, which is missing"):
        Identity(key=papers / "client.key")
    with pytest.raises(UserError, match="no such file"):
        Identity(authority=tmp_path / "none.pem")
    loose = tmp_path / "loose.key"
    loose.write_bytes((papers / "client.key").read_bytes())
    loose.chmod(0o644)
    with pytest.raises(UserError, match="others may read it"):
        Identity({}, papers / "client.pem", loose)
    loose.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    loose.chmod(0o600)
    with pytest.raises(UserError, match="passphrase"):
        server_context(papers / "server.pem", loose, None)
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(UserError, match="no certificates in PEM form"):
        server_context(papers / "server.pem", papers / "server.key", tmp_path / "no.pem")
    assert server_context(papers / "server.pem", papers / "server.key", None).minimum_version == ssl.TLSVersion.TLSv1_2
    assert is_plain("http://pacs/x") and not is_plain("http://127.0.0.1/x") and not is_plain("https://pacs/x")
