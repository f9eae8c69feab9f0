"""Files that take a reading process down, hang it, or raise what they should not: each has its reason."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clinvit.core.errors import DataError, RunError, UserError
from clinvit.datasets.loading.cache import Files, build_cache
from clinvit.datasets.loading.isolation import isolated, read_alone
from clinvit.datasets.loading.limits import Limit
from clinvit.datasets.loading.loaders import Cases, eval_loader
from clinvit.datasets.loading.readers import ImageReader
from clinvit.datasets.settings import Clip
from clinvit.datasets.transforms.views import EvalView
from clinvit.tests.datasets.loading.test_replies import head
from clinvit.tests.reliability.deadly import DeadlyReader, Enlarging, Hostile, KilledWhenStarted, Lying, tries
from PIL import Image

DEEDS = {
    "SIGKILL": "took the process down (SIGKILL, as when memory runs out)",
    "SIGSEGV": "took the process down (SIGSEGV)",
    "SIGABRT": "took the process down (SIGABRT)",
    "exit": "took the process down (exit code 1)",
    "hang": "took longer than 3 s (CLINVIT_READ_SECONDS)",
    "fault": "failed unexpectedly (IndexError: list index out of range)",
    "memory": "needs more memory than there is",
}


@pytest.fixture
def files(tmp_path):
    """20 images, the first and last one good, and a deed between two of them each."""
    paths = [tmp_path / f"{number:02d}.png" for number in range(20)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((20, 24), 5 * number, np.uint8)).save(path)
    for number, deed in enumerate(DEEDS):
        paths[2 * number + 1].write_text(deed)
    return paths


def check(files, results):
    """Nothing is read twice, but for what ended as when memory runs out."""
    deeds = dict(zip(range(1, 20, 2), DEEDS))
    for number, (path, result) in enumerate(zip(files, results, strict=True)):
        if number in deeds:
            assert str(result).startswith(f"{path}: reading it ") and DEEDS[deeds[number]] in str(result)
        else:
            assert (np.asarray(result) == 5 * number).all()
        assert tries(path) == (2 if deeds.get(number) == "SIGKILL" else 1), path


@pytest.mark.parametrize("workers", [1, 3])
def test_one_file_costs_that_file_only(files, workers):
    check(files, isolated(DeadlyReader(32).read, files, workers, time=Limit("CLINVIT_READ_SECONDS", 3, "seconds")))


def test_a_cache_has_reasons_for_what_took_a_process_down(files, tmp_path, monkeypatch):
    monkeypatch.setenv("CLINVIT_READ_SECONDS", "3")
    cache = build_cache(files, tmp_path / "cache", DeadlyReader(32), workers=2)
    check(files, [reason or cache[row] for row, reason in enumerate(cache.reasons())])


@pytest.mark.parametrize("workers", [0, 2])
def test_training_without_a_cache_goes_on_without_such_files(files, monkeypatch, workers):
    monkeypatch.setenv("CLINVIT_READ_SECONDS", "3")
    view, source = EvalView(16, "squash", None, Clip(), 1), Files(files, DeadlyReader(32))
    cases = Cases(source, np.arange(len(files)), view, max_bad=0.4)
    batches = list(eval_loader(cases, 5, workers))
    assert torch.cat([batch["row"] for batch in batches]).tolist() == [*range(0, 14, 2), *range(14, 20)]
    assert [int(pixel) for batch in batches for pixel in batch["image"][:, 0, 0, 0]] == [
        5 * number for number in (*range(0, 14, 2), *range(14, 20))
    ]
    with pytest.raises(DataError, match=rf"{files[3]}: reading it took the process down .SIGSEGV"):
        list(eval_loader(Cases(source, np.arange(3, 6), view), 3, 0))


def test_one_file_alone(files):
    assert read_alone(DeadlyReader(32).read, files[0]).shape == (20, 24)
    with pytest.raises(DataError, match="SIGSEGV"):
        read_alone(DeadlyReader(32).read, files[3])


def test_what_is_no_fault_of_a_file_ends_the_work(files):
    with pytest.raises(UserError, match="CLINVIT_READ_SECONDS=soon: not a number above 0"):
        os.environ["CLINVIT_READ_SECONDS"] = "soon"
        try:
            list(isolated(ImageReader(32).read, files))
        finally:
            del os.environ["CLINVIT_READ_SECONDS"]
    with pytest.raises(RunError, match="ended before it read any"):
        list(isolated(_Lost(), files))


def test_a_process_that_is_killed_while_it_starts_is_started_once_more(files, tmp_path):
    good = files[:3]
    assert len(list(isolated(KilledWhenStarted(tmp_path / "one", 1), good))) == 3
    assert (tmp_path / "one").read_text() == "xx"
    with pytest.raises(RunError, match=r"ended before it read any .exit code -9"):
        list(isolated(KilledWhenStarted(tmp_path / "two", 2), good))


@pytest.mark.parametrize("code", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("place", [-2, 99, -(2**40)])
def test_a_process_that_lies_about_its_place_costs_the_item_that_was_first(place, code):
    """It would be started for ever."""
    found = list(isolated(Lying(place, code), [0, 1, 2, 3]))
    assert found[0] == 0 and found[2:] == [2, 3] and "took the process down" in str(found[1])


def test_an_answer_for_another_item_is_none():
    found = list(isolated(Hostile(head(7, number=2)), [1, 2, 3]))
    assert found[0] == 1 and "answered with what is no result" in str(found[1]) and found[2] == 3


class _Lost:
    """What no process can import."""

    def __reduce__(self):
        return exec, ("raise SystemExit(3)",)

    def __call__(self, path):
        raise AssertionError


def test_nothing_is_left_when_the_reader_of_results_stops(files):
    results = isolated(ImageReader(32).read, files, 2)
    next(results)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    results.close()
    assert not [
        pid for pid in children.read_text().split() if "ImageReader" in Path(f"/proc/{pid}/cmdline").read_text()
    ]


def test_large_results_and_many_of_them():
    sizes = [10, 3_000_000, 5, 0, 20_000_000] * 8
    assert [len(result) for result in isolated(bytes, sizes, 3)] == sizes


def test_large_arrays_arrive_whole_and_may_be_changed():
    sizes = [10, 3_000_000, 5, 0, 8_192, 8_191] * 4
    for size, result in zip(sizes, isolated(np.arange, sizes, 2), strict=True):
        assert np.array_equal(result, np.arange(size))
        result += 1


def test_a_process_that_dies_while_it_sends_has_its_reason(files):
    """The next file takes it down when a part of the large one before has gone through the pipe."""
    found = list(isolated(Enlarging(DeadlyReader(32)), [files[0], files[3], files[4]]))
    assert found[0].shape == (4000, 4800) and found[2].shape == (4000, 4800) and "SIGSEGV" in str(found[1])


def test_a_script_without_a_guard(files, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom clinvit.datasets.loading.isolation import isolated\n"
        "from clinvit.datasets.loading.readers import ImageReader\nprint('begun')\n"
        "print(sum(r.sum() for r in isolated(ImageReader(32).read, [Path(sys.argv[1])] * 3, 2)))\n"
    )
    done = subprocess.run([sys.executable, script, files[2]], capture_output=True, text=True)
    assert done.stdout.split() == ["begun", str(3 * 10 * 20 * 24)] and not done.stderr
