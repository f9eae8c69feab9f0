"""`clinvit listen`: a DICOM receiver that scores each study once it is complete, and sends its result back."""

import signal
import threading
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..stages.pacs.options import add_identity, identity_of
from ..stages.unit_options import add_units, asked_units
from .options import add_task
from .parser import Parser

SUMMARY = "receive studies of a PACS (C-STORE), and give each one result"
TASKS = "all"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_task(parser)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--queue", type=Path, required=True, help="folder for what waits, its owner's alone (0700)")
    parser.add_argument(
        "--out", type=Path, default=Path("predictions.csv"), help="table, a row per study (default: %(default)s)"
    )
    parser.add_argument("--aet", default="CLINVIT", help="AE title that senders call (default: %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1",
        help="address to listen at; 0.0.0.0 for all of this machine's (default: %(default)s, this machine alone)",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=11112, help="default: %(default)s")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="AET", help="AE title that may send; may be repeated"
    )
    parser.add_argument(
        "--quiet", type=float, default=60, metavar="S",
        help="a study is complete when nothing of it has come for so many seconds (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--store", metavar="URL", help="send results to this DICOMweb service")
    parser.add_argument("--send", metavar="AET@HOST:PORT", help="send results there by C-STORE")
    add_units(
        parser, "study: score each study on all of its images (default: on the one image that is chosen, or as the "
        "model has learned)", units=("study",),
    )  # fmt: skip
    _add_advanced(parser)
    add_identity(parser)


def _add_advanced(parser: Parser) -> None:
    parser.add_argument("--send-tls", action="store_true", advanced=True, help="encrypt --send by TLS")
    parser.add_argument(
        "--tls-cert", type=Path, metavar="PEM", advanced=True, help="receive by TLS alone, with this certificate"
    )
    parser.add_argument("--tls-key", type=Path, metavar="PEM", advanced=True, help="key of --tls-cert (0600)")
    parser.add_argument(
        "--tls-ca", type=Path, metavar="PEM", advanced=True, help="senders need a certificate that these have signed"
    )
    parser.add_argument(
        "--associations", type=int, default=10, advanced=True, help="most senders at once (default: %(default)s)"
    )
    parser.add_argument(
        "--object-mb", type=float, default=500, advanced=True, help="largest object, MB (default: %(default)s)"
    )
    parser.add_argument(
        "--queue-gb", type=float, default=50, advanced=True, help="most that may wait, GB (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=1, advanced=True, help="reading processes (default: 1)")


def run(options) -> None:
    """Listen until SIGINT or SIGTERM.

    Raises:
        UserError: A wrong option, or slides, which are not received.
    """
    from ..stages.pacs.listen import ListenRequest, listen_stage

    if options.task.holds == "slide":
        raise UserError("slides are predicted from files (`clinvit predict`): listen takes images and clips.")
    request = ListenRequest(
        options.model, options.queue, options.out, _reception(options), options.quiet, options.queue_gb,
        _destination(options), options.workers, options.task.holds, options.task.codes(), asked_units(options),
    )  # fmt: skip
    print(f"listen {options.task.name} with {options.model} -> {options.out}", flush=True)
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        listen_stage(request, stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reception(options):
    from ..stages.pacs.destination import read_title
    from ..stages.pacs.identity import LOOPBACK, server_context
    from ..stages.pacs.receiver import Reception

    for name, least in (("quiet", 0), ("object_mb", 0), ("queue_gb", 0), ("associations", 0), ("workers", 0)):
        if not getattr(options, name) > least:
            raise UserError(f"--{name.replace('_', '-')} {getattr(options, name):g}: a number above {least}.")
    if not 0 < options.port < 65_536:
        raise UserError(f"--port {options.port}: 1 to 65535.")
    if options.tls_cert is None and (options.tls_key or options.tls_ca):
        raise UserError("--tls-cert is missing: the certificate that --tls-key or --tls-ca belongs to.")
    tls = None if options.tls_cert is None else server_context(options.tls_cert, options.tls_key, options.tls_ca)
    if options.host not in LOOPBACK:
        if tls is None:
            print("note: DICOM without --tls-cert is not encrypted: names and images can be read on the way.")
        if not options.allow and not options.tls_ca:
            print("note: without --allow or --tls-ca anybody who reaches this port may send.")
    allowed = [read_title(title, "--allow") for title in options.allow]
    title = read_title(options.aet, "--aet")
    return Reception(title, options.host, options.port, allowed, options.associations, options.object_mb, tls)


def _destination(options):
    from ..stages.pacs.destination import read_receiver, read_title
    from ..stages.pacs.identity import is_plain
    from ..stages.pacs.web import Web

    if options.store and options.send:
        raise UserError("--store and --send: results go to one place; leave one out.")
    identity = identity_of(options)
    if options.send:
        return read_receiver(options.send, read_title(options.aet, "--aet"), identity, options.send_tls)
    if options.send_tls:
        raise UserError("--send-tls belongs to --send: leave it out.")
    if not options.store:
        return None
    web = Web(options.store, identity)
    if is_plain(web.url):
        print(f"note: {web.url}: http is not encrypted: results and what --headers holds can be read on the way.")
    return web
