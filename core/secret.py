"""The key of all hashes that stand for people: kept by the owner alone, made on first use, never typed.

Patient numbers are short: without a key whoever has a hash finds the number by trying all of them, in seconds. Who has
the key can too. Hashes made with one key are the same everywhere; a group that compares them shares the file.
"""

import hashlib
import hmac
import os
import secrets
import stat
import sys
from pathlib import Path

from .documents import regular_bytes
from .errors import UserError
from .files import write_text
from .locks import Lock
from .platform import WINDOWS

VARIABLE, FILE_VARIABLE = "CLINVIT_KEY", "CLINVIT_KEY_FILE"
LEAST_BYTES, MOST_BYTES = 16, 4096


def secret_key() -> str:
    """Return the key: of `CLINVIT_KEY`, else of the file that `CLINVIT_KEY_FILE` names, else of the user's own file.

    The user's own, `~/.config/clinvit/key`, is made on first use, which is printed.

    Raises:
        UserError: It is shorter than 16 bytes, others may read its file, or the file that is named is missing.
    """
    if VARIABLE in os.environ:
        return checked_key(os.environ[VARIABLE], f"the environment variable {VARIABLE}")
    named = os.environ.get(FILE_VARIABLE)
    path = Path(named) if named else _own_file()
    if not named and not path.exists():
        _make(path)
    try:
        text = regular_bytes(path, MOST_BYTES).decode().strip()
    except (FileNotFoundError, ValueError) as error:
        words = "no such file" if isinstance(error, FileNotFoundError) else error
        raise UserError(f"{path}: not a readable key ({words}). See {FILE_VARIABLE} in SECURITY.md.") from None
    if stat.S_IMODE(path.stat().st_mode) & 0o077 and not WINDOWS:
        raise UserError(f"{path}: others may read this key. If nobody has, `chmod 600 {path}`; else make a new one.")
    return checked_key(text, str(path))


def checked_key(text: object, where: str) -> str:
    """Return a key that is long enough.

    Raises:
        UserError: It is no text of 16 bytes or more.
    """
    if not isinstance(text, str) or len(text.strip().encode()) < LEAST_BYTES or len(set(text)) < 5:
        raise UserError(
            f"{where}: no key of at least {LEAST_BYTES} bytes drawn at random. `openssl rand -hex 32` makes one."
        )
    return text.strip()


def keyed_hash(key: str, text: str) -> str:
    """Return the first 16 hexadecimal digits of the HMAC-SHA256 of a text.

    Raises:
        UserError: The key is too short.
    """
    return message_code(key, os.fsencode(text))[:16]


def message_code(key: str, text: bytes) -> str:
    """Return the HMAC-SHA256 of some bytes, 64 hexadecimal digits.

    Raises:
        UserError: The key is too short.
    """
    return hmac.new(checked_key(key, "the key").encode(), text, hashlib.sha256).hexdigest()


def key_name(key: str) -> str:
    """Return what says which key hashes were made with, and nothing about the key."""
    return keyed_hash(key, "\0which key\0")


def _own_file() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "clinvit" / "key"


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with Lock(path.with_name("key.lock"), path, wait=True):
            if not path.exists():
                write_text(path, secrets.token_hex(32) + "\n", private=True)
                print(f"note: {path}: made the key of all hashes of patients and cases; keep it.", file=sys.stderr)
    except OSError as error:
        raise UserError(
            f"{path}: the key of all hashes cannot be written ({error.strerror}). Name another place with "
            f"{FILE_VARIABLE}, a file of the owner's alone, or set {VARIABLE}."
        ) from None
