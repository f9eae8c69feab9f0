"""`clinvit predict` by several processes: one table, the bytes of one process, killed and resumed, nothing left."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from clinvit.cli import main
from clinvit.core.alone import file_alone
from clinvit.engine.run_folder import rank, world_size
from clinvit.stages.predict import Request, predict_stage
from clinvit.stages.processes import Share

BATCH = 4
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "1"}
LAUNCHER = """
import json, os, sys, time
import clinvit.finetune.model, clinvit.finetune.predict, clinvit.stages.predict
from clinvit.cli import main
from clinvit.core.errors import DataError

def near(read, files, workers, ahead):
    # Reading processes take seconds to start; what they give is tested elsewhere.
    for file in files:
        time.sleep(0.02)
        try:
            yield read(file)
        except DataError as error:
            yield error

clinvit.finetune.predict.isolated = near

for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
        continue
    number = os.fork()
    if number == 0:
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        code = main(asked["arguments"])
        sys.stdout.flush()
        os._exit(code)
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def model(random_model):
    return random_model()


@pytest.fixture(scope="module")
def images(small_images):
    """30 small images, two of them broken."""
    return small_images(30, (2, 17))


@pytest.fixture(scope="module")
def whole(model, images, tmp_path_factory):
    """The table of one process, and what stands beside it."""
    out = tmp_path_factory.mktemp("whole") / "p.jsonl"
    predict_stage(Request(model, [str(images)], out, batch=BATCH))
    return out.read_bytes(), out.with_name("p.model.json").read_bytes()


@pytest.fixture(scope="module")
def launcher():
    """Has loaded all that prediction needs, and starts processes and waits for them on demand."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip

        def ask(**what):
            print(json.dumps(what), file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield ask
        process.stdin.close()


def torchrun(number, of):
    """What torchrun tells its processes."""
    return TORCHRUN | {"RANK": str(number), "WORLD_SIZE": str(of)}


def srun(number, of):
    """What srun tells its processes."""
    return {"SLURM_PROCID": str(number), "SLURM_NTASKS": str(of), "SLURM_STEP_NUM_TASKS": str(of)}


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def start(launcher, model, tmp_path, tmp_path_factory):
    """`start(rank, of, inputs, *options)` is such a process of `clinvit predict`: its id and its log. The processes of
    one prediction are started one after the other, from process 0 on.
    """
    logs, count = tmp_path_factory.mktemp("logs"), itertools.count()
    ports = []

    def run(number, of, inputs, *options, batch=BATCH, by=torchrun):
        if number == 0:
            ports.append(free_port())
        arguments = ["predict", "thorax", *map(str, inputs), "--model", str(model), "--out", "p.jsonl"]
        log = logs / f"{next(count)}"
        env = by(number, of) | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[-1])}
        arguments += ["--batch", str(batch), *options]
        return launcher(arguments=arguments, env=env, cwd=str(tmp_path), log=str(log)), log

    return run


@pytest.fixture
def ended(launcher):
    """Exit codes of processes, and all that was said."""

    def wait(processes):
        return [launcher(wait=number) for number, _ in processes], [log.read_text() for _, log in processes]

    return wait


def found(folder):
    """The table and what stands beside it; nothing else may be there."""
    assert sorted(path.name for path in folder.iterdir()) == ["p.jsonl", "p.model.json"]
    return (folder / "p.jsonl").read_bytes(), (folder / "p.model.json").read_bytes()


@pytest.mark.parametrize("by", [torchrun, srun])
def test_two_processes_write_what_one_does(start, ended, images, tmp_path, whole, by):
    # Of an older prediction, thrown away: not by --resume.
    (tmp_path / "p.jsonl.partial-1of2.jsonl").write_text('{"model": "another"}\n')
    (tmp_path / "p.jsonl.partial-2of5.jsonl").write_text('{"model": "another"}\n')
    codes, said = ended([start(number, 2, [images], by=by) for number in (0, 1)])
    assert codes == [0, 0], said
    assert "30 requested = 28 ok + 2 failed" in said[0] and "requested" not in said[1]
    assert found(tmp_path) == whole


@pytest.mark.parametrize("again", [2, 1])
def test_killed_and_resumed_it_is_the_same_table(start, ended, images, tmp_path, whole, again):
    """`again`: by how many processes it goes on."""
    first, second = start(0, 2, [images]), start(1, 2, [images])
    journal = tmp_path / "p.jsonl.partial-1of2.jsonl"
    end = time.monotonic() + 60
    while not (journal.is_file() and journal.read_bytes().count(b"\n") > BATCH):
        assert time.monotonic() < end
        time.sleep(0.001)
    os.kill(second[0], signal.SIGKILL)
    codes, said = ended([first, second])
    if codes[1] == 0:
        pytest.skip("it was too quick to be killed")
    assert codes == [1, -signal.SIGKILL]
    assert said[0].count("process 1 has ended before its share was done") == 1 and "--resume" in said[0]
    assert not (tmp_path / "p.jsonl").exists()
    codes, said = ended([start(number, again, [images], "--resume") for number in range(again)])
    assert codes == [0] * again, said
    assert found(tmp_path) == whole


def test_what_is_finished_is_found_so_by_all(start, ended, images, tmp_path, whole):
    (tmp_path / "p.jsonl").write_bytes(whole[0])
    (tmp_path / "p.model.json").write_bytes(whole[1])
    codes, said = ended([start(number, 2, [images], "--resume") for number in (0, 1)])
    assert codes == [0, 0], said
    assert found(tmp_path) == whole


def test_three_processes_for_two_cases(start, ended, images, tmp_path):
    two = [images / "00.png", images / "01.png"]
    codes, said = ended([start(number, 3, two, batch=1) for number in range(3)])
    assert codes == [0, 0, 0], said
    table = found(tmp_path)[0].decode().splitlines()
    assert len(table) == 2 and all('"status": "ok"' in line for line in table)


def test_other_files_are_refused(start, ended, images, tmp_path):
    codes, said = ended([start(0, 2, [images]), start(1, 2, [images / "00.png"])])
    assert codes == [2, 2] and all("process 1 finds other files than process 0" in each for each in said)
    assert not any(path.suffix == ".jsonl" for path in tmp_path.iterdir())


def test_a_process_that_ends_before_all_have_begun_ends_the_others(start, ended, images, tmp_path):
    with file_alone(tmp_path / "p.jsonl"):  # another prediction of the same table
        codes, said = ended([start(number, 2, [images]) for number in (0, 1)])
    assert codes == [2, 1] and "another run is at work here" in said[0]
    assert said[1].count("another process has ended before all had begun") == 1


def test_without_process_0_the_others_end(start, ended, images, tmp_path):
    first, second = start(0, 2, [images]), start(1, 2, [images])
    journal = tmp_path / "p.jsonl.partial-0of2.jsonl"
    end = time.monotonic() + 60
    while not (journal.is_file() and journal.read_bytes().count(b"\n") > BATCH):
        assert time.monotonic() < end
        time.sleep(0.001)
    os.kill(first[0], signal.SIGKILL)
    codes, said = ended([first, second])
    if codes[0] == 0:
        pytest.skip("it was too quick to be killed")
    assert codes == [-signal.SIGKILL, 1] and said[1].count("process 0 has ended before its share was done") == 1


@pytest.mark.parametrize("cases, of, batch", [(0, 2, 4), (2, 3, 1), (30, 4, 4), (31, 7, 32)])
def test_each_case_is_in_one_share(cases, of, batch):
    shares = [Share(number, of).rows(cases, batch).tolist() for number in range(of)]
    assert sorted(row for rows in shares for row in rows) == list(range(cases))


@pytest.mark.parametrize(
    "said, expected",
    [
        ({}, (0, 1)),
        (TORCHRUN | {"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "3"}, (2, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),  # a batch script, before srun
    ],
)
def test_what_a_launcher_says(monkeypatch, said, expected):
    for name in (*TORCHRUN, "RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert (rank(), world_size()) == expected


def test_slides_are_not_predicted_by_several(monkeypatch, tmp_path, capsys):
    for name, value in (TORCHRUN | {"RANK": "1", "WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    assert main(["predict", "slides", "a.svs", "--model", str(tmp_path), "--features", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "extract first" in said and said.count("\n") == 1
