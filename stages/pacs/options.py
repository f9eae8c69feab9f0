"""Options of the verbs that talk to a PACS."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import UserError

if TYPE_CHECKING:
    from .fetch import WebQuery
    from .identity import Identity


def add_identity(parser: Any) -> None:
    """Add how we show a PACS who we are."""
    parser.add_argument(
        "--headers", type=Path, metavar="FILE", advanced=True,
        help="file (0600) of lines such as `Authorization: Bearer ...` for DICOMweb (default: CLINVIT_PACS_HEADERS)",
    )  # fmt: skip
    parser.add_argument(
        "--cert", type=Path, metavar="PEM", advanced=True, help="client certificate, with its key or beside --key"
    )
    parser.add_argument("--key", type=Path, metavar="PEM", advanced=True, help="key of --cert (0600)")
    parser.add_argument(
        "--ca", type=Path, metavar="PEM", advanced=True,
        help="authorities that sign the PACS's certificate (default: those of the system)",
    )  # fmt: skip


def add_web(parser: Any) -> None:
    """Add what a prediction reads from a PACS."""
    parser.add_argument(
        "--dicomweb", metavar="URL", help="read studies of a PACS by DICOMweb, such as https://pacs/dicom-web"
    )
    parser.add_argument(
        "--query", action="append", default=[], metavar="KEY=VALUE",
        help="with --dicomweb, which studies, such as StudyDate=20260101-20260131; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--store", action="store_true", help="with --dicomweb, write results back (of the kinds of --dicom; sr without)"
    )
    parser.add_argument(
        "--limit", type=int, default=1000, advanced=True, help="with --dicomweb, most studies (default: %(default)s)"
    )
    parser.add_argument(
        "--images", choices=["all", "one"],
        help="of a DICOM study, score all images or one, chosen by its view; why stands in the column `chosen` "
        "(default: all; with --dicomweb one)",
    )  # fmt: skip
    add_identity(parser)


def identity_of(options: Namespace) -> "Identity":
    """Return who we are, by the options."""
    from .identity import read_identity

    return read_identity(options.headers, options.cert, options.key, options.ca)


def web_query(options: Namespace) -> "WebQuery | None":
    """Return which studies of which PACS the options name; None for files.

    Raises:
        UserError: Options that need `--dicomweb` without it, files beside it, or a wrong value.
    """
    if options.dicomweb is None:
        for name in ("query", "store", "headers", "cert", "key", "ca"):
            if getattr(options, name):
                raise UserError(f"--{name} belongs to --dicomweb: leave it out, or name the PACS.")
        return None
    if options.inputs:
        raise UserError(f"{options.inputs[0]}: files are not predicted together with --dicomweb: one at a time.")
    if options.images == "all":
        raise UserError("--images all: of a study of a PACS one image is scored; fetch the files to score all.")
    if options.limit < 1:
        raise UserError(f"--limit {options.limit}: at least one study.")
    from .fetch import WebQuery, read_query
    from .identity import checked_url, is_plain

    url, identity = checked_url(options.dicomweb), identity_of(options)
    if is_plain(url):
        print(f"note: {url}: http is not encrypted: images and what --headers holds can be read on the way.")
    return WebQuery(url, read_query(options.query), identity, options.limit, options.store, bool(options.dicom))
