"""`clinvit predict` by several processes: one table, the bytes of one process, killed and resumed, nothing left."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.cli import main
from clinvit.engine.run_folder import rank, world_size
from clinvit.finetune.model import ModelCard, build_model, save_model
from clinvit.finetune.recipe import View
from clinvit.tasks.prediction import Request, predict_stage
from clinvit.tasks.share import Share
from PIL import Image

BATCH = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder with random weights."""
    arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
    card = ModelCard(
        ("Square", "Bar"), {}, False, "full", "vit", "mean", arch, (0.5,), (0.25,), View("squash", None), 40
    )  # fmt: skip
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("model"), build_model(card), card)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """30 small pictures, two of them broken."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(30):
        Image.fromarray(generator.integers(0, 255, (40, 40), np.uint8)).save(folder / f"{number:02d}.png")
    for number in (2, 17):
        (folder / f"{number:02d}.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def whole(model, pictures, tmp_path_factory):
    """The table of one process, and what stands beside it."""
    out = tmp_path_factory.mktemp("whole") / "p.jsonl"
    predict_stage(Request(model, [str(pictures)], out, batch=BATCH))
    return out.read_bytes(), out.with_name("p.model.json").read_bytes()


@pytest.fixture
def start(model, tmp_path):
    """`start(rank, of, inputs, *options)` is such a process of `clinvit predict`, ended with the test."""
    started = []

    def run(number, of, inputs, *options, batch=BATCH):
        arguments = ["predict", "thorax", *map(str, inputs), "--model", str(model), "--out", "p.jsonl"]
        process = subprocess.Popen(
            [sys.executable, "-m", "clinvit.cli", *arguments, "--batch", str(batch), *options],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"RANK": str(number), "WORLD_SIZE": str(of), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def ended(processes):
    """Exit codes, and all that was said."""
    said = [process.communicate(timeout=60) for process in processes]
    return [process.returncode for process in processes], ["".join(each) for each in said]


def found(folder):
    """The table and what stands beside it; nothing else may be there."""
    assert sorted(path.name for path in folder.iterdir()) == ["p.jsonl", "p.model.json"]
    return (folder / "p.jsonl").read_bytes(), (folder / "p.model.json").read_bytes()


def test_two_processes_write_what_one_does(start, pictures, tmp_path, whole):
    # Of an older prediction, thrown away: not by --resume.
    (tmp_path / "p.jsonl.partial-1of2.jsonl").write_text('{"model": "another"}\n')
    (tmp_path / "p.jsonl.partial-2of5.jsonl").write_text('{"model": "another"}\n')
    codes, said = ended([start(number, 2, [pictures]) for number in (0, 1)])
    assert codes == [0, 0], said
    assert "30 requested = 28 ok + 2 failed" in said[0] and "requested" not in said[1]
    assert found(tmp_path) == whole


@pytest.mark.parametrize("again", [2, 1])
def test_killed_and_resumed_it_is_the_same_table(start, pictures, tmp_path, whole, again):
    """`again`: by how many processes it goes on."""
    first, second = start(0, 2, [pictures]), start(1, 2, [pictures])
    journal = tmp_path / "p.jsonl.partial-1of2.jsonl"
    while not (journal.is_file() and journal.read_bytes().count(b"\n") > BATCH):
        assert second.poll() is None or journal.is_file()
        time.sleep(0.002)
    second.send_signal(signal.SIGKILL)
    codes, said = ended([first, second])
    if codes[1] == 0:
        pytest.skip("it was too quick to be killed")
    assert codes == [1, -signal.SIGKILL]
    assert said[0].count("process 1 has ended with") == 1 and "--resume" in said[0]
    assert not (tmp_path / "p.jsonl").exists()
    codes, said = ended([start(number, again, [pictures], "--resume") for number in range(again)])
    assert codes == [0] * again, said
    assert found(tmp_path) == whole


def test_what_is_finished_is_found_so_by_all(start, pictures, tmp_path, model, whole):
    predict_stage(Request(model, [str(pictures)], tmp_path / "p.jsonl", batch=BATCH))
    codes, said = ended([start(number, 2, [pictures], "--resume") for number in (0, 1)])
    assert codes == [0, 0], said
    assert found(tmp_path) == whole


def test_three_processes_for_two_cases(start, pictures, tmp_path):
    two = [pictures / "00.png", pictures / "01.png"]
    codes, said = ended([start(number, 3, two, batch=1) for number in range(3)])
    assert codes == [0, 0, 0], said
    table = found(tmp_path)[0].decode().splitlines()
    assert len(table) == 2 and all('"status": "ok"' in line for line in table)


def test_other_files_are_refused(start, pictures, tmp_path):
    first, second = start(0, 2, [pictures]), start(1, 2, [pictures / "00.png"])
    codes, said = ended([first])
    assert codes == [2] and "process 1 finds other files than process 0" in said[0]
    second.kill()


@pytest.mark.parametrize("cases, of, batch", [(0, 2, 4), (2, 3, 1), (30, 4, 4), (31, 7, 32)])
def test_each_case_is_in_one_share(cases, of, batch):
    shares = [Share(number, of).rows(cases, batch).tolist() for number in range(of)]
    assert sorted(sum(shares, [])) == list(range(cases))


@pytest.mark.parametrize(
    "said, expected",
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "3"}, (2, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),  # a batch script, before srun
    ],
)
def test_what_a_launcher_says(monkeypatch, said, expected):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert (rank(), world_size()) == expected


def test_slides_are_not_predicted_by_several(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["predict", "slides", "a.svs", "--model", str(tmp_path), "--features", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "extract first" in said and said.count("\n") == 1
