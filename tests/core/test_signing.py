"""Signatures of model folders: OpenSSF's model-signing format, both ways, and whatever was done to a signed folder."""

import json
import os
import stat

import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.core.signing import SIGNATURE, sign_folder, verify_folder
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

# Made by model-signing 1.1.1 (`model_signing sign key`) over `FILES`.
PUBLIC = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEx6VE5AmCx6Dtk7sp2V3yDSuVfRbF
FkvAMufwaoh5Szgros3MKVf8JzwR5n5Ikwu5aPK3SopLHloHIzF78Ijxow==
-----END PUBLIC KEY-----
"""
PAYLOAD = (
    "ewogICJfdHlwZSI6ICJodHRwczovL2luLXRvdG8uaW8vU3RhdGVtZW50L3YxIiwKICAic3ViamVjdCI6IFsKICAgIHsKICAgICAgIm5hbWUiOi"
    "AibSIsCiAgICAgICJkaWdlc3QiOiB7CiAgICAgICAgInNoYTI1NiI6ICI4NmY3MTgwMDVhZjcyODE4ZWQ3Mjg5MmVlMzQ1NTJiNmFjOTY1ZTM0"
    "MjczZmYyZTJiZWZmY2FiODlhNDA1YTgyIgogICAgICB9CiAgICB9CiAgXSwKICAicHJlZGljYXRlVHlwZSI6ICJodHRwczovL21vZGVsX3NpZ2"
    "5pbmcvc2lnbmF0dXJlL3YxLjAiLAogICJwcmVkaWNhdGUiOiB7CiAgICAicmVzb3VyY2VzIjogWwogICAgICB7CiAgICAgICAgIm5hbWUiOiAi"
    "bW9kZWwuanNvbiIsCiAgICAgICAgImFsZ29yaXRobSI6ICJzaGEyNTYiLAogICAgICAgICJkaWdlc3QiOiAiZThjNjI4ZWRjOTk2OGVmMGM2Nj"
    "hmNTRlMGJhMjYzNmIzNTUwMzM1N2ViMWFjYTBkZGM4MjhhZWFjZTQzMmY2NyIKICAgICAgfSwKICAgICAgewogICAgICAgICJuYW1lIjogInN1"
    "Yi93LmJpbiIsCiAgICAgICAgImFsZ29yaXRobSI6ICJzaGEyNTYiLAogICAgICAgICJkaWdlc3QiOiAiOWExMjkwMzhkOWEwMGFlZDBjZjZhN2"
    "VhMDU5Y2E1MGE4MTM0NDkwNjFhYjg3ODQ4Y2YxYTEzZWFmZGYzM2IyYyIKICAgICAgfQogICAgXSwKICAgICJzZXJpYWxpemF0aW9uIjogewog"
    "ICAgICAiaWdub3JlX3BhdGhzIjogWwogICAgICAgICIuZ2l0aWdub3JlIiwKICAgICAgICAibW9kZWwuc2lnIiwKICAgICAgICAiLmdpdGF0dH"
    "JpYnV0ZXMiLAogICAgICAgICIuZ2l0IiwKICAgICAgICAiLmdpdGh1YiIKICAgICAgXSwKICAgICAgImhhc2hfdHlwZSI6ICJzaGEyNTYiLAog"
    "ICAgICAibWV0aG9kIjogImZpbGVzIiwKICAgICAgImFsbG93X3N5bWxpbmtzIjogZmFsc2UKICAgIH0KICB9Cn0="
)
SIGNED = "MEYCIQCk0rHSTA/UTj0DKFsMoLne3R4HefgS5im13avLraZfIwIhAMphvkBmHs2DdM5ZXsqgxwT8GFEIPzy1yKcQdmyDGZlI"
THEIRS = {
    "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "verificationMaterial": {
        "publicKey": {"hint": "e3f00db9ce53075746eb940926ca9e0c55f123b90d0ef5456b4c7a9ba4852280"},
        "tlogEntries": [],
    },
    "dsseEnvelope": {
        "payload": PAYLOAD,
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [
            {
                "sig": SIGNED,
                "keyid": "",
            }
        ],
    },
}
FILES = {"model.json": b'{"a": 1}\n', "sub/w.bin": b"weights"}


@pytest.fixture
def model(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "m" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "m"


def write_keys(folder, private=None, name="key", password=None):
    private = private or ec.generate_private_key(ec.SECP256R1())
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.pem"
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
    path.chmod(0o600)
    public = folder / f"{name}.pub"
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path, public


def test_a_signature_of_their_tool_is_checked(model, tmp_path):
    (tmp_path / "key.pub").write_text(PUBLIC)
    (model / SIGNATURE).write_text(json.dumps(THEIRS))
    assert verify_folder(model, tmp_path / "key.pub") == 2
    (model / ".gitignore").write_text("what theirs leaves out")
    assert verify_folder(model, tmp_path / "key.pub") == 2
    (model / "sub/w.bin").write_bytes(b"Weights")
    with pytest.raises(UserError, match=r"w.bin: changed"):
        verify_folder(model, tmp_path / "key.pub")


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_what_was_signed_is_verified(model, tmp_path, curve):
    private, public = write_keys(tmp_path / "keys", ec.generate_private_key(curve()))
    assert sign_folder(model, private) == model / SIGNATURE
    assert verify_folder(model, public) == 2
    assert sign_folder(model, private) == model / SIGNATURE  # once more, over itself
    assert verify_folder(model, public) == 2
    statement = json.loads((model / SIGNATURE).read_text())
    assert statement.keys() == THEIRS.keys()
    assert statement["dsseEnvelope"].keys() == THEIRS["dsseEnvelope"].keys()


DONE = {
    "changed": lambda m: (m / "model.json").write_text("{}"),
    "missing": lambda m: (m / "sub/w.bin").unlink(),
    "not signed": lambda m: (m / "sub/new.bin").write_text("x"),
    "a link": lambda m: (m / "sub/link").symlink_to(m / "model.json"),
    "a link, pipe": lambda m: os.mkfifo(m / "pipe"),
}


@pytest.mark.parametrize("words", DONE)
def test_whatever_was_done_to_a_folder_shows(model, tmp_path, capsys, words):
    private, public = write_keys(tmp_path / "keys")
    assert main(["sign", str(model), "--key", str(private)]) == 0
    assert main(["verify", str(model), "--key", str(public)]) == 0
    DONE[words](model)
    capsys.readouterr()
    assert main(["verify", str(model), "--key", str(public)]) == 2
    assert words in capsys.readouterr().err


def test_another_key_and_a_bundle_of_another_folder(model, tmp_path):
    private, public = write_keys(tmp_path / "keys")
    _, other = write_keys(tmp_path / "keys", name="other")
    sign_folder(model, private)
    with pytest.raises(UserError, match=r"not signed with the key .*other.pub"):
        verify_folder(model, other)
    bundle = json.loads((model / SIGNATURE).read_text())
    bundle["verificationMaterial"]["publicKey"] = {}  # older signatures name no key
    (model / SIGNATURE).write_text(json.dumps(bundle))
    assert verify_folder(model, public) == 2
    bundle["dsseEnvelope"]["payload"] = PAYLOAD
    (model / SIGNATURE).write_text(json.dumps(bundle))
    with pytest.raises(UserError, match="not signed with the key"):
        verify_folder(model, public)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "[" * 5000, '{"mediaType": 7}', '{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}',
     json.dumps(THEIRS | {"dsseEnvelope": {"payload": "!", "signatures": []}}),
     json.dumps(THEIRS | {"dsseEnvelope": {"payload": PAYLOAD, "signatures": []}}),
     json.dumps(THEIRS | {"verificationMaterial": {"certificate": {"rawBytes": "x"}}})],
)  # fmt: skip
def test_a_damaged_signature_is_one_line(model, tmp_path, text):
    (tmp_path / "key.pub").write_text(PUBLIC)
    (model / SIGNATURE).write_text(text)
    with pytest.raises(UserError, match=r"model.sig: ") as raised:
        verify_folder(model, tmp_path / "key.pub")
    assert "\n" not in str(raised.value)


def test_keys_that_are_not_taken(model, tmp_path, monkeypatch):
    private, public = write_keys(tmp_path / "keys")
    private.chmod(0o644)
    with pytest.raises(UserError, match="others may read this key"):
        sign_folder(model, private)
    private.chmod(0o600)
    for key in (public, tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=str(key)):
            sign_folder(model, key)
        if key != public:
            with pytest.raises(UserError, match=str(key)):
                verify_folder(model, key)
    with pytest.raises(UserError, match="no key of an elliptic curve P-256"):
        sign_folder(model, write_keys(tmp_path / "keys", ed25519.Ed25519PrivateKey.generate(), "other")[0])
    locked, opened = write_keys(tmp_path / "keys", name="locked", password=b"secret words")
    with pytest.raises(UserError, match="CLINVIT_SIGN_PASSWORD"):
        sign_folder(model, locked)
    assert not (model / SIGNATURE).exists()
    monkeypatch.setenv("CLINVIT_SIGN_PASSWORD", "secret words")
    sign_folder(model, locked)
    assert verify_folder(model, opened) == 2
    assert stat.S_IMODE(locked.stat().st_mode) == 0o600
