"""A trial of the listener: storescu sends, the listener is killed, both go on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from clinvit.tests.stages.pacs.servers import free_port, needs_storescu, radiograph, write
from clinvit.tests.stages.pacs.waiting import echo, table, wait_for
from pydicom.uid import generate_uid

START_S = 300  # of a busy machine


class Command:
    """`clinvit listen` as a process."""

    def __init__(self, folder: Path, model: Path, port: int, quiet_s: float, *more):
        self.folder, self.port, self.log = folder, port, folder / "log"
        self._words = [
            sys.executable, "-c", "import sys; from clinvit.cli import main; sys.exit(main())", "listen", "thorax",
            "--model", model, "--queue", folder / "queue", "--out", folder / "p.csv", "--port", port,
            "--quiet", quiet_s, *more,
        ]  # fmt: skip

    def start(self) -> None:
        with self.log.open("ab") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            words = [str(word) for word in self._words]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=environment, cwd=self.folder)
        wait_for(lambda: echo(self.port) or self._ended(), START_S)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0, self.log.read_text()

    def _ended(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return False


def trial(
    folder: Path, model: Path, associations: int, studies: int, images: int, quiet_s: float, twice: bool = False
) -> None:
    """Send `associations` x `studies` x `images` objects; kill the listener while it receives.

    Args:
        folder: Empty.
        model: Model folder.
        associations: Senders at once.
        studies: Of each.
        images: Of each study.
        quiet_s: A study's quiet time.
        twice: Kill it while it scores, too.
    """
    storescu, port = needs_storescu(), free_port()
    batches, sent = [], Counter()
    for batch in range(associations):
        files = []
        for _ in range(studies):
            study = generate_uid()
            for number in range(images):
                found = radiograph(study, view="LL" if number else "PA", seed=number)
                files.append(str(write(found, folder / f"in{batch}" / f"{len(files):03d}.dcm")))
                sent[study] += 1
        batches.append([storescu, "-R", "-aet", "MODALITY", "-aec", "CLINVIT", "127.0.0.1", str(port), *files])
    listener = Command(folder, model, port, quiet_s)
    listener.start()
    running = {batch: subprocess.Popen(words, stderr=subprocess.DEVNULL) for batch, words in enumerate(batches)}
    half = sum(sent.values()) // 2
    came: set[Path] = set()  # on a slow machine the first are scored and gone before the last come

    def half_came() -> bool:
        sending = None in [process.poll() for process in running.values()]
        came.update((folder / "queue").rglob("[!.]*.dcm"))
        assert came or sending, "the senders sent nothing"
        return len(came) >= half

    try:
        wait_for(half_came, START_S)
    finally:
        listener.kill()
    failed = [batch for batch, process in running.items() if process.wait()]
    assert failed, "all was sent before the listener was killed"
    listener.start()
    while failed:  # as a modality does: what was not taken is sent again
        again = {batch: subprocess.Popen(batches[batch], stderr=subprocess.DEVNULL) for batch in failed}
        failed = [batch for batch, process in again.items() if process.wait()]
    if twice:
        wait_for(lambda: len(table(folder / "p.csv")) >= 1, START_S)
        listener.kill()
        listener.start()
    wait_for(lambda: len(table(folder / "p.csv")) >= len(sent), START_S)
    wait_for(lambda: not [*(folder / "queue").rglob("*.dcm"), *(folder / "queue/outgoing").iterdir()])
    time.sleep(1)
    listener.stop()
    check(folder, sent, images)


def check(folder: Path, sent: Counter, images: int) -> None:
    rows = table(folder / "p.csv")
    assert Counter(row["study"] for row in rows).most_common(1)[0][1] == 1 and len(rows) == len(sent)
    why = f"PA comes first, of {images} images" if images > 1 else "the only image"
    assert {(row["status"], row["view"], row["chosen"]) for row in rows} == {("ok", "PA", why)}
    ledger = [json.loads(line) for line in (folder / "queue" / "ledger.jsonl").read_text().splitlines()]
    assert not [line for line in ledger if "late" in line]
    assert {line["study"] for line in ledger} == {row["study"] for row in rows} and len(ledger) == len(sent)
    instances = Counter(instance for line in ledger for instance in line["instances"])
    assert len(instances) == sum(sent.values()) == sum(instances.values())
