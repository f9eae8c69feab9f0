"""`clinvit sign`: a signature of a model or encoder folder, which others verify with the signer's public key."""

from pathlib import Path
from typing import Any

from .parser import Parser

SUMMARY = "sign a model or encoder folder with a key of your own"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="model or encoder folder; `model.sig` is put there")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="PEM",
        help="private key (elliptic curve P-256, P-384 or P-521), readable by its owner alone",
    )  # fmt: skip


def run(options) -> None:
    """Sign, and print where the signature is."""
    from ..core.signing import sign_folder

    print(sign_folder(options.folder, options.key))
