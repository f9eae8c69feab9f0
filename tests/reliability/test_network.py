"""No verb connects to anything unasked: each runs with every connection of Python's refused and written down.

Processes of one machine may talk to each other through Unix sockets. `listen` opens a port of this machine alone;
`predict --dicomweb` goes where it is told to, and nowhere else.
"""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli.command import VERBS
from clinvit.phantoms.slides import write_camelyon16
from clinvit.tests.core.test_signing import write_keys
from clinvit.tests.pretrain.text_folder import write_text_encoder
from clinvit.tests.reliability.work import RUN, TINY
from clinvit.tests.stages.conftest import random_model as random_model
from clinvit.tests.stages.pacs.servers import free_port

pytestmark = pytest.mark.reliability

# Loaded by every interpreter that a command starts.
GUARD = """
import os, re, sys

def look(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        address = arguments
        if re.fullmatch(r"[0-9.]+|[0-9a-f]*:[0-9a-f:]+", str(address[0])):  # a number: nobody is asked
            return
    else:
        return
    if address is None or isinstance(address, (str, bytes)):  # of a socket that is connected; of a Unix socket
        return
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(f"{event} {address!r}\\n")
    if event != "socket.bind":
        raise OSError("no network in this test")

sys.addaudithook(look)
"""
# One process, so that everything is imported once; a line per verb. The demo is the whole one with few patients and
# epochs: as users run it, it takes longer than all other verbs together.
RUNNER = """
import json, os, signal, sys, threading
from dataclasses import replace
from functools import partial
import clinvit.cli as cli

def shorten_demo():
    from clinvit.tasks.thorax import demo
    for name in ("pretrain_demo", "finetune_demo", "finetune_demo_scratch"):
        recipe = getattr(demo, name)()
        short = replace(recipe, optim=replace(recipe.optim, epochs=1, warmup_epochs=0))
        setattr(demo, name, partial(replace, short))
    demo.demo = partial(demo.demo, patients=120, labelled=(40, 60))

for command in json.loads(sys.stdin.read()):
    if command[0] == "listen":
        threading.Timer(10, os.kill, (os.getpid(), signal.SIGTERM)).start()
    if command[0] == "demo":
        shorten_demo()
    code = cli.main(command)
    print("done", command[0], code, flush=True)
"""


def test_the_guard_sees_a_connection(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "SEEN": str(tmp_path / "seen")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "no network in this test" in done.stderr and "127.0.0.1" in (tmp_path / "seen").read_text()


def test_no_verb_connects_to_anything(cohort, tmp_path):
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    data, (private, public) = cohort(patients=100).parent, write_keys(tmp_path / "keys")
    write_camelyon16(tmp_path / "slides", normal=2, tumour=2, test=2, size_px=(1472, 1536))
    torch.manual_seed(0)
    arch = Architecture(16, 4, 2, image_size=(64, 64), patch_size=16, channels=3)
    save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.6, 0.5, 0.6), (0.2, 0.2, 0.2)))
    bags = pd.DataFrame({"0": [n % 2 for n in range(20)], "1": range(20), "2": 0.1, "3": range(20)})
    bags.to_csv(tmp_path / "bags.csv", index=False, header=False)
    cases = pd.read_csv(data / "manifest.csv")["id"]
    pd.DataFrame({"id": cases, "report": "A dark bar."}).to_csv(tmp_path / "reports.csv", index=False)
    text = write_text_encoder(tmp_path / "bert", ["A dark bar."])
    (tmp_path / "target.yaml").write_text("threshold: 0.5\nminimum:\n  sensitivity: 0.8\n")
    port, out, tiny = free_port(), tmp_path / "out", [*TINY, *RUN, "--optim.epochs", 1, "--optim.warmup_epochs", 0]
    table, model = out / "ft/predictions.csv", out / "ft/model"
    slides = ["--data", out / "slides.csv"]
    commands = [
        ["check", "thorax", data],
        ["curate", data, "--out", out / "curated", "--balance", "findings", "--per-entry", 5],
        ["prepare", "slides", tmp_path / "slides", "--out", out / "slides.csv"],
        ["tile", "slides", "--recipe", "demo", *slides, "--out", out / "tiles"],
        ["extract", "slides", "--recipe", "demo", *slides, "--tiles", out / "tiles", "--encoder", tmp_path / "encoder",
         "--out", out / "features"],
        ["pool", *slides, "--features", out / "features", "--out", out / "vectors"],
        ["retrieve", "slides", *slides, "--vectors", out / "vectors", "--queries", "val", "--out", out / "retrieval"],
        ["pretrain", "thorax", "--recipe", "tiny", "--data", data, "--out", out / "mae", *tiny],
        ["finetune", "thorax", "--recipe", "tiny", "--data", data, "--out", out / "ft", *tiny],
        *[["finetune", "thorax", "--recipe", "tiny", "--data", data, "--out", out / name, *tiny,
           "--encoder", out / "mae/encoder"] for name in ("north", "south")],
        ["audit", model, data, "--out", out / "audit", "--text-images", 3],
        ["merge", f"base={out / 'mae/encoder'}", out / "north", out / "south", "--out", out / "merged"],
        ["merge", "--verify", f"merged={out / 'merged'}", f"own={out / 'north'}", "--data", data, "--out",
         out / "verified"],
        ["pretrain", "thorax", "--recipe", "reports_tiny", "--data", data, "--out", out / "reports",
         "--reports", tmp_path / "reports.csv", "--text-encoder", text, *tiny],
        ["zero-shot", out / "reports/encoder", "--text-encoder", text, "--labels", "Bar", "--out", out / "zero"],
        ["learning-curve", "thorax", "--recipe", "tiny", "--data", data, "--out", out / "curve", "--shares", "1/2,1",
         "--seeds", 1, *tiny],
        ["distil", "thorax", "--recipe", "tiny", "--data", data, "--teacher", model, "--out", out / "student", *tiny],
        ["compress", out / "ft", "--data", data, "--margin", 0.9, "--methods", "prune", "--target", "torch",
         "--epochs", 1, "--out", out / "small"],
        ["recalibrate", model, table, "--out", out / "calibrated"],
        ["predict", "thorax", data / "images", "--model", model, "--out", out / "p.csv", "--audit", out / "log.jsonl"],
        ["evaluate", out / "ft", "--data", data, "--out", out / "report", "--resamples", 50],
        ["listen", "thorax", "--model", model, "--queue", out / "queue", "--out", out / "l.csv", "--port", port,
         "--store", "http://127.0.0.1:9/dicom-web"],
        ["triage", out / "p.csv", "--reference", table, "--promise", "npv=0.9", "--out", out / "worklist.csv"],
        ["compare", f"a={table}", f"b={table}", "--out", out / "compared", "--resamples", 50],
        ["contract", model, "--predictions", table, "--split", "test", "--out", out / "contract.yaml"],
        ["monitor", out / "contract.yaml", table, "--out", out / "watch"],
        ["plan", "sensitivity", "--expected", 0.9, "--prevalence", 0.1, "--width", 0.1],
        ["acceptance", "lock", tmp_path / "target.yaml"],
        ["reproduce", "--list"],
        ["bags", tmp_path / "bags.csv", "--out", out / "bags", "--aggregators", "max", "--folds", 3, "--repeats", 1],
        ["weights", "inspect", out / "mae/encoder"],
        ["export", model, "--to", "card", "--out", out / "card"],
        ["sign", model, "--key", private],
        ["verify", model, "--key", public],
        ["sbom", "--out", out / "sbom.json"],
        ["completion", "bash"],
        ["demo", "thorax", "--out", out / "demo"],
    ]  # fmt: skip
    assert {command[0] for command in commands} == VERBS.keys()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "guard"), "SEEN": str(tmp_path / "seen")}
    text = json.dumps([[str(each) for each in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=text, env=environment, capture_output=True, text=True, check=False
    )
    ended = [line.split() for line in done.stdout.splitlines() if line.startswith("done ")]
    assert [verb for _, verb, _ in ended] == [command[0] for command in commands], done.stderr[-3000:]
    failed = [verb for _, verb, code in ended if code != "0"]
    assert not failed, (failed, [line for line in done.stderr.splitlines() if "error:" in line])
    assert seen(tmp_path) == {f"socket.bind ('127.0.0.1', {port})"}


def test_studies_are_asked_for_where_the_command_says_and_nowhere_else(random_model, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "SEEN": str(tmp_path / "seen")}
    words = ["predict", "thorax", "--model", random_model(), "--out", tmp_path / "p.csv", "--dicomweb"]
    text = json.dumps([[str(each) for each in [*words, "http://127.0.0.1:9/dicom-web"]]])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=text, env=environment, capture_output=True, text=True, check=False
    )
    assert "done predict 1" in done.stdout and "cannot be reached" in done.stderr
    assert seen(tmp_path) == {"socket.connect ('127.0.0.1', 9)"}


def seen(folder) -> set[str]:
    """What was connected to or bound, but for a look of urllib3's whether this machine has IPv6."""
    return {*(folder / "seen").read_text().splitlines()} - {"socket.bind ('::1', 0)"}
