"""`clinvit verify`: whether a signed folder is as its signer left it, or the chain of an audit log is whole."""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .parser import Parser

SUMMARY = "check the signature of a model or encoder folder, or the chain of an audit log"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("place", type=Path, metavar="FOLDER or LOG", help="signed folder, or log of predict --audit")
    parser.add_argument("--key", type=Path, metavar="PEM", help="public key of the signer (of a folder)")
    parser.add_argument("--signature", type=Path, metavar="FILE", help="of a folder (default: model.sig in it)")


def run(options) -> None:
    """Check, and print what holds.

    Raises:
        UserError: It does not hold, or options are missing.
    """
    if options.place.is_dir() or options.key is not None:
        from ..core.signing import verify_folder

        if options.key is None:
            raise UserError(f"{options.place}: --key is missing: the public key of who signed it.")
        count = verify_folder(options.place, options.key, options.signature)
        print(f"{options.place}: {count} files, all as signed with {options.key}")
        return
    from ..core.audit import verify_log

    if options.signature is not None:
        raise UserError("--signature is for folders: leave it out.")
    state = verify_log(options.place)
    print(f"{options.place}: {state.lines:,} lines, each follows the one before; the last one {state.mac[:16]}")
