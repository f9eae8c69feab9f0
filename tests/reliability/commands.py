"""What the tests of faults share: commands in processes that can be killed, whether files are whole, equal results."""

import json
import math
import os
import shutil
import sys
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import safetensors.torch
import torch
import yaml
from clinvit.cli import main
from clinvit.core.files import ASIDE
from clinvit.datasets.loading.isolation import PRELOAD
from PIL import Image

# Processes are forked from one that has imported everything: a kill then falls into the work, not into imports.
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *PRELOAD, "clinvit.tests.reliability.commands", "clinvit.pretrain.run", "clinvit.finetune.run",
        "clinvit.mil.extract", "clinvit.mil.run", "clinvit.stages.evaluate", "clinvit.eval.report.report",
        "albumentations", "matplotlib.pyplot",
    ]
)  # fmt: skip

# Written anew by every start, or at times of its own: never the same twice.
TIMES = {"environment.json", ".lock", "lock", "index.jsonl"}
PROGRESS = (".ckpt", ".part", ".partial.jsonl", ".lock")


def run_command(arguments: list[str], output: Path) -> None:
    """The command with its output in a file."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    # The list above is for commands; the processes that a command starts to read files import what they do for users.
    CONTEXT.set_forkserver_preload(PRELOAD)
    code = main(arguments)
    sys.stdout.flush()
    sys.exit(code)


def start(arguments, output: Path):
    """A command that runs; gives its process."""
    process = CONTEXT.Process(target=run_command, args=([str(each) for each in arguments], output))
    process.start()
    return process


def finish(arguments, output: Path) -> None:
    """A command to its good end."""
    process = start(arguments, output)
    process.join()
    assert process.exitcode == 0, output.read_text()


def files(folder: Path) -> dict[str, Path]:
    """Relative name to path of every file in a folder and below, but for unfinished ones that nobody looks at."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if not ASIDE.fullmatch(path.name)}


def leftovers(folder: Path) -> list[Path]:
    """The unfinished files."""
    return [path for path in folder.rglob("*") if ASIDE.fullmatch(path.name)]


def check_whole(folder: Path) -> int:
    """Open every file to its end, so that a half one fails; gives how many there were."""
    whole = files(folder)
    for path in whole.values():
        try:
            _open(path)
        except Exception as error:
            raise AssertionError(f"{path} is not whole: {error}") from error
    return len(whole)


def _open(path: Path) -> None:
    suffix = path.suffix
    if suffix == ".json":
        json.loads(path.read_text())
    elif suffix == ".yaml":
        assert yaml.safe_load(path.read_text())
    elif suffix == ".csv":
        assert path.read_bytes().endswith(b"\n")
        pd.read_csv(path, on_bad_lines="error")
    elif suffix == ".safetensors":
        safetensors.torch.load_file(path)
    elif suffix == ".ckpt":
        torch.load(path, weights_only=True)
    elif suffix == ".h5":
        with h5py.File(path) as file:
            assert np.isfinite(file["features"][:]).all() and len(file["coords"]) == len(file["features"])
    elif suffix in (".png", ".jpg"):
        with Image.open(path) as image:
            image.load()
    elif suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")


def assert_same(folder: Path, expected: Path) -> None:
    """The same files with the same contents, but for times and what stays of progress."""
    own, other = ({name: path for name, path in files(each).items() if _is_result(path)} for each in (folder, expected))
    assert own.keys() == other.keys()
    for name, path in own.items():
        assert _content(path) == _content(other[name]), f"{name} differs"


def _is_result(path: Path) -> bool:
    return path.name not in TIMES and not path.name.endswith(PROGRESS) and "tfevents" not in path.name


def _content(path: Path):
    """Contents that `==` compares, without times."""
    if path.name == "log.csv":
        return pd.read_csv(path, dtype=str).drop(columns="seconds").to_csv()
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: file[name][:].tobytes() for name in file}, sorted(map(str, file.attrs.items()))
    if path.name == "pixels.u8":
        # In the order in which the reading processes were done.
        pixels = path.read_bytes()
        lines = map(json.loads, path.with_name("index.jsonl").read_text().splitlines())
        return {key: pixels[offset : offset + math.prod(shape)] for key, offset, shape, _ in lines}
    if path.parent.name == "status" and path.suffix == ".json":
        return json.loads(path.read_text()) | {"finished": 0}
    return path.read_bytes()


def remove(folder: Path) -> None:
    """A clean start."""
    shutil.rmtree(folder, ignore_errors=True)


def show(request, text: str) -> None:
    """Print through pytest's capturing: metrics that are to be read."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(text, flush=True)
