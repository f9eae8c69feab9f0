"""One list of slides for many processes: nothing twice, nothing lost, every slide accounted for."""

import multiprocessing
import os
import signal
import time

import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.slides.shared_work import SharedWork, slide_file, work_through

CONTEXT = multiprocessing.get_context("fork")


@pytest.fixture
def files(tmp_path):
    """Thirty files that stand for slides."""
    folder = tmp_path / "slides"
    folder.mkdir()
    paths = {f"s{i:02d}": folder / f"s{i:02d}.tif" for i in range(30)}
    for name, path in paths.items():
        path.write_text(name)
    return paths


def make(out, slide, seconds=0.0):
    """A result, and a line in a journal that says who made it."""
    time.sleep(seconds)
    with (out / "journal").open("a") as journal:
        journal.write(f"{slide}\n")
    slide_file(out, slide).write_text(slide)
    return {"tiles": 3}


def journal(out):
    return (out / "journal").read_text().split()


def worker(out, files, seconds):
    work_through(SharedWork(out, files), lambda slide: make(out, slide, seconds), "test")


def test_three_processes_share_without_doing_a_slide_twice(tmp_path, files):
    out = tmp_path / "out"
    out.mkdir()
    processes = [CONTEXT.Process(target=worker, args=(out, files, 0.005)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(journal(out)) == sorted(files)
    # A process that ends first has written a table with open slides; the last one's table is whole.
    table = SharedWork(out, files).write_table()
    assert (table["status"] == "ok").all() and len(table) == 30


def test_killed_in_the_middle_goes_on_where_it_was(tmp_path, files):
    out = tmp_path / "out"
    out.mkdir()
    process = CONTEXT.Process(target=worker, args=(out, files, 0.05))
    process.start()
    while not (out / "journal").is_file() or len(journal(out)) < 5:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before = journal(out)
    table = work_through(SharedWork(out, files), lambda slide: make(out, slide), "test")
    assert (table["status"] == "ok").all()
    # Only the slide that was in hand may stand twice in the journal.
    assert sorted(set(journal(out))) == sorted(files) and len(journal(out)) <= 31
    assert journal(out)[: len(before)] == before


def test_a_failed_slide_has_its_reason_and_is_tried_again(tmp_path, files):
    out, broken = tmp_path / "out", {"s03", "s07"}

    def do(slide):
        if slide in broken:
            raise DataError(f"{slide}: cut off")
        return make(out, slide)

    table = work_through(SharedWork(out, files), do, "test").set_index("id")
    assert (table["status"] == "ok").sum() == 28
    assert table.loc["s03", "reason"] == "s03: cut off" and table.loc["s07", "status"] == "failed"
    on_disk = pd.read_csv(out / "status.csv", keep_default_na=False)
    assert on_disk["status"].value_counts().to_dict() == {"ok": 28, "failed": 2}
    broken.clear()
    again = work_through(SharedWork(out, files), do, "test")
    assert (again["status"] == "ok").all() and len(journal(out)) == 30


def test_what_changed_or_lost_its_result_is_done_again(tmp_path, files):
    out = tmp_path / "out"
    work_through(SharedWork(out, files), lambda slide: make(out, slide), "test")
    files["s01"].write_text("another slide")
    slide_file(out, "s02").unlink()
    work_through(SharedWork(out, files), lambda slide: make(out, slide), "test")
    assert sorted(journal(out)[30:]) == ["s01", "s02"]


def test_slides_in_other_hands_are_left_and_shown_as_open(tmp_path, files):
    out = tmp_path / "out"
    holder = iter(SharedWork(out, files))
    assert next(holder) == "s00"
    table = work_through(SharedWork(out, files), lambda slide: make(out, slide), "test").set_index("id")
    assert table.loc["s00", "status"] == "open" and (table["status"] == "ok").sum() == 29


@pytest.mark.parametrize("slide", ["../s", "/etc/s", "a/../../s", "a\\b", ""])
def test_ids_stay_in_the_folder(tmp_path, slide):
    with pytest.raises(DataError, match="another id"):
        SharedWork(tmp_path, {slide: tmp_path / "x.tif"})
