"""What tests of the listener wait for."""

import csv
import socket
import time

from pynetdicom import AE
from pynetdicom.sop_class import Verification


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.05)


def echo(port, title="CLINVIT", tls=False):
    if tls:
        return _open(port)
    entity = AE()
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port, ae_title=title)
    if not association.is_established:
        return False
    status = association.send_c_echo().Status
    association.release()
    return status == 0


def _open(port):
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0
