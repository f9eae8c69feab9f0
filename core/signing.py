"""Signatures of folders in the format of OpenSSF's model signing (version 1.0), made and checked with local keys.

A Sigstore bundle of JSON, `model.sig`, holds a DSSE envelope with an in-toto statement, which names every file of the
folder and its SHA-256. `model_signing verify key` checks ours, and its signatures with a key are checked here. Its own
library brings thirty packages for signing with accounts over the network; a local key needs `cryptography` alone.
"""

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .documents import parse_json, read_json, regular_bytes
from .errors import UserError
from .extras import require
from .files import file_sha256, write_json
from .platform import WINDOWS

SIGNATURE = "model.sig"
PASSWORD = "CLINVIT_SIGN_PASSWORD"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT, _PREDICATE = "https://in-toto.io/Statement/v1", "https://model_signing/signature/v1.0"
_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
_KEY_BYTES = 100_000


def sign_folder(folder: Path, key: Path) -> Path:
    """Write the signature `model.sig` of all files of a folder into it; return its path.

    Args:
        folder: Model or encoder folder.
        key: File of a private key of an elliptic curve (PEM; P-256, P-384 or P-521), the owner's alone; its password,
            if it has one, is in the environment variable `CLINVIT_SIGN_PASSWORD`.

    Raises:
        UserError: No such folder or key, a link in the folder, or others may read the key.
    """
    private = _private_key(key)
    digests = _digests(folder, {SIGNATURE})
    root = hashlib.sha256(b"".join(map(bytes.fromhex, digests.values()))).hexdigest()
    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE]}
    files = [{"name": name, "algorithm": "sha256", "digest": digest} for name, digest in digests.items()]
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": folder.resolve().name, "digest": {"sha256": root}}],
        "predicateType": _PREDICATE,
        "predicate": {"serialization": how, "resources": files},
    }
    payload = json.dumps(statement).encode()
    signature = private.sign(_encoded(payload), _algorithm(key, private.public_key()))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": _PAYLOAD,
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
    }
    material = {"publicKey": {"hint": _hint(private.public_key())}, "tlogEntries": []}
    out = folder / SIGNATURE
    write_json(out, {"mediaType": _BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope})
    return out


def verify_folder(folder: Path, key: Path, signature: Path | None = None) -> int:
    """Return how many files of a folder a signature names, all of which are as they were signed, and no other there.

    Args:
        folder: Model or encoder folder.
        key: File of the signer's public key (PEM), from the signer, not from the folder.
        signature: The bundle; None for `model.sig` in the folder.

    Raises:
        UserError: The signature is of another key, or a file was changed, added or removed.
    """
    path = signature or folder / SIGNATURE
    public = _public_key(key)
    try:
        statement = _statement(path, read_json(path), key, public)
    except FileNotFoundError:
        raise UserError(f"{path}: no signature. `clinvit sign` makes one, of who has the key.") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a readable signature of a model ({str(error)[:80]}). Fetch it again.") from None
    signed, ignored = statement
    found = _digests(folder, {*ignored, *([path.name] if path.parent.resolve() == folder.resolve() else [])})
    for what, names in {
        "changed": [name for name in signed if name in found and found[name] != signed[name]],
        "missing": [name for name in signed if name not in found],
        "not signed": [name for name in found if name not in signed],
    }.items():
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{folder / names[0]}: {what}{more}, by the signature {path}. Do not use this folder.")
    return len(signed)


def _statement(path: Path, bundle: Mapping[str, Any], key: Path, public: Any) -> tuple[dict[str, str], list[str]]:
    """Return the files that a bundle names with their digests, and those that were left out, once it is known good."""
    from cryptography.exceptions import InvalidSignature

    if bundle["mediaType"] != _BUNDLE:
        raise UserError(f"{path}: a bundle of another kind ({str(bundle['mediaType'])[:60]}), which is not read here.")
    if "publicKey" not in bundle["verificationMaterial"]:
        raise UserError(f"{path}: signed with a certificate, not with a key: `model_signing verify` checks it.")
    hint = bundle["verificationMaterial"]["publicKey"].get("hint")
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"], validate=True)
    signed = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    try:
        if hint and hint != _hint(public):
            raise InvalidSignature
        public.verify(signed, _encoded(payload), _algorithm(key, public))
    except InvalidSignature:
        raise UserError(f"{path}: not signed with the key {key}. Do not use this folder.") from None
    said = parse_json(payload)
    if (envelope["payloadType"], said["_type"], said["predicateType"]) != (_PAYLOAD, _STATEMENT, _PREDICATE):
        raise UserError(f"{path}: signed, but says nothing of a model's files.")
    how, files = said["predicate"]["serialization"], said["predicate"]["resources"]
    if how["method"] != "files" or {each["algorithm"] for each in files} - {"sha256"}:
        raise UserError(f"{path}: not signed by SHA-256 of whole files: `model_signing verify` checks it.")
    return {each["name"]: each["digest"] for each in files}, [str(each) for each in how.get("ignore_paths", ())]


def _digests(folder: Path, left_out: set[str]) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder and below by its name there, in order; links are refused."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder.")
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            inner = PurePosixPath(path.relative_to(folder).as_posix())
            if {str(inner), *map(str, inner.parents)} & left_out:
                continue
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found[str(inner)] = file_sha256(path)
            elif not stat.S_ISDIR(mode):
                raise UserError(f"{path}: a link, pipe or device: a signature holds files alone. Copy its content.")
    if not found:
        raise UserError(f"{folder}: no file in it.")
    return dict(sorted(found.items()))


def _encoded(payload: bytes) -> bytes:
    """Return what is signed (DSSE's pre-authentication encoding)."""
    return f"DSSEv1 {len(_PAYLOAD)} {_PAYLOAD} {len(payload)} ".encode() + payload


def _hint(public: Any) -> str:
    """Return what names a key: SHA-256 of its PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _algorithm(path: Path, public: Any) -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = getattr(getattr(public, "curve", None), "name", "")
    if curve not in _HASHES:
        raise UserError(
            f"{path}: no key of an elliptic curve P-256, P-384 or P-521. `openssl ecparam -name prime256v1 -genkey "
            "-noout -out key.pem` makes one."
        )
    return ec.ECDSA(getattr(hashes, _HASHES[curve])())


def _private_key(path: Path) -> Any:
    require("cryptography", "sign", "signing")
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = _key_text(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077 and not WINDOWS:
        raise UserError(f"{path}: others may read this key. If nobody has, `chmod 600 {path}`; else make a new one.")
    password = os.environ.get(PASSWORD)
    try:
        return load_pem_private_key(text, password.encode() if password else None)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: no readable private key ({error}); its password stands in {PASSWORD}.") from None
    except Exception as error:  # an algorithm that is not supported
        raise UserError(f"{path}: no readable private key ({type(error).__name__}).") from None


def _public_key(path: Path) -> Any:
    require("cryptography", "sign", "checking a signature")
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return load_pem_public_key(_key_text(path))
    except UserError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:80]
        raise UserError(f"{path}: no public key ({words}). `openssl ec -in key.pem -pubout` gives it.") from None


def _key_text(path: Path) -> bytes:
    try:
        return regular_bytes(path, _KEY_BYTES)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except ValueError as error:
        raise UserError(f"{path}: no key ({error}).") from None
