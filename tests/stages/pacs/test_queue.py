"""A listener's queue: nothing accepted is lost, no study is answered twice, whenever it was killed; nobody is named."""

import contextlib
import errno
import os
import stat

import pytest
from clinvit.core.errors import RunError, UserError
from clinvit.stages.pacs import queue as module
from clinvit.stages.pacs.queue import AGAIN, LATE, NEW, Queue, QueueFull
from clinvit.stages.pacs.rows import Rows

STUDY, OTHER = "1.2.840.999.1", "1.2.840.999.2"


def answer(queue, study):
    queue.answer_folder(study).joinpath("sr.dcm").write_bytes(b"a result")
    queue.answered(study, {"line": "a row\n", "status": "ok"})


def test_an_object_is_kept_once_and_named_by_a_hash_for_the_owner_alone(queue, tmp_path):
    with queue() as found:
        assert found.add(STUDY, "1.2.3", [b"first ", b"object"]) == NEW
        assert found.add(STUDY, "1.2.3", [b"other bytes"]) == AGAIN
        [path] = (tmp_path / "queue").rglob("*.dcm")
    assert path.read_bytes() == b"first object" and "1.2" not in str(path.relative_to(tmp_path / "queue"))
    for each in [tmp_path / "queue", *(tmp_path / "queue").rglob("*")]:
        rights = stat.S_IMODE(each.stat().st_mode)
        assert rights == 0o700 if each.is_dir() else not rights & 0o077 or each.name == ".lock", (each, oct(rights))


def test_a_study_is_complete_after_a_quiet_time_that_begins_anew_with_the_listener(queue, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with queue() as found:
        found.add(STUDY, "1", [b"x"])
        now[0] += 9
        found.add(OTHER, "2", [b"x"])
        now[0] += 2
        assert found.complete(10) == [found.name(STUDY)]
        found.add(STUDY, "3", [b"x"])  # it goes on
        assert found.complete(10) == []
    now[0] += 100
    with queue() as found:
        assert found.complete(10) == []
        now[0] += 11
        assert sorted(found.complete(10)) == sorted([found.name(STUDY), found.name(OTHER)])


def test_what_comes_after_the_answer_is_late_and_what_was_answered_comes_again_for_nothing(queue):
    with queue() as found:
        found.add(STUDY, "1", [b"x"])
        name = found.name(STUDY)
        assert len(found.take(name)) == 1
        assert found.add(STUDY, "2", [b"x"]) == LATE  # while it is scored
    with queue() as found:  # killed: the late one must not make the study an answered one
        assert found.scoring() == [name]
        answer(found, name)
        assert (found.add(STUDY, "1", [b"x"]), found.add(STUDY, "3", [b"x"])) == (AGAIN, LATE)
        found.finish(name)
    with queue() as found:
        assert (found.add(STUDY, "1", [b"x"]), found.add(STUDY, "3", [b"x"])) == (AGAIN, AGAIN)
        assert not found.scoring() and not found.outgoing() and not found.complete(0)


class Killed(BaseException):
    pass


STEPS = ["take", "answer_folder", "answered", "_remove_images", "results", "_note", "_remove"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step_each_study_ends_with_one_row_and_one_result(tmp_path, monkeypatch, step, after):
    """Killed before or after each step, and started again, as often as it takes."""
    taken, killed = [], []
    original = getattr(Queue, step)

    def dying(self, *arguments):
        if not after and not killed:
            killed.append(1)
            raise Killed
        result = original(self, *arguments)
        if not killed:
            killed.append(1)
            raise Killed
        return result

    monkeypatch.setattr(Queue, step, dying)

    def run():
        rows = Rows(tmp_path / "p.csv", ["id", "study"])
        with Queue(tmp_path / "queue") as found:
            for study in (STUDY, OTHER):
                for instance in range(3):
                    found.add(study, f"{study}.{instance}", [b"x"])
            for study in [*found.scoring(), *found.complete(0)]:
                assert len(found.take(study)) == 3
                found.answer_folder(study).joinpath("sr.dcm").write_bytes(study.encode())
                found.answered(study, {"line": f"a,{study}\n", "status": "ok"})
            for study in found.outgoing():
                rows.add(study, found.rows(study)["line"])
                for path in found.results(study):
                    taken.append(path.read_bytes().decode())
                    path.unlink()
                found.finish(study)

    with contextlib.suppress(Killed):
        run()
    run()
    assert killed
    with Queue(tmp_path / "queue") as found:
        names = sorted([found.name(STUDY), found.name(OTHER)])
        assert sorted(set(taken)) == names and not found.outgoing() and not found.scoring()
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "id,study" and sorted(lines[1:]) == [f"a,{name}" for name in names]
    assert not list((tmp_path / "queue").rglob("*.dcm"))


def test_a_full_disk_costs_nothing_that_is_there(queue, monkeypatch, tmp_path):
    with queue() as found:
        found.add(STUDY, "1", [b"x"])

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr("clinvit.core.files.os.fsync", full)
            with pytest.raises(RunError, match="No space left"):
                found.add(STUDY, "2", [b"y"])
            with pytest.raises(RunError, match="No space left"):
                found.add(OTHER, "3", [b"y"])
        assert found.complete(0) == [found.name(STUDY)]  # a folder without a file is no study
        assert found.add(OTHER, "3", [b"y"]) == NEW
        assert len(found.take(found.name(STUDY))) == 1


def test_no_more_waits_than_may_and_the_rest_is_refused_not_dropped(queue):
    with queue(most_bytes=10) as found:
        assert found.add(STUDY, "1", [b"123456"]) == NEW
        with pytest.raises(QueueFull, match="Is the PACS away"):
            found.add(STUDY, "2", [b"123456"])
        found.take(found.name(STUDY))
        answer(found, found.name(STUDY))
        assert found.add(OTHER, "3", [b"123456"]) == NEW


def test_one_listener_at_a_time_and_no_folder_of_others(queue, tmp_path):
    with queue(), pytest.raises(UserError, match="another run is at work"):
        Queue(tmp_path / "queue")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("x")
    with pytest.raises(UserError, match="holds other files"):
        Queue(tmp_path / "mine")


def test_a_ledger_that_was_cut_off_is_read_as_far_as_it_is_whole(queue, tmp_path):
    with queue() as found:
        found.add(STUDY, "1", [b"x"])
        found.take(found.name(STUDY))
        answer(found, found.name(STUDY))
        found.finish(found.name(STUDY))
    ledger = tmp_path / "queue" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes() + b'{"study": "abc')
    with queue() as found:
        assert found.add(STUDY, "1", [b"x"]) == AGAIN
    ledger.write_bytes(b'{"study": 5}\n' + ledger.read_bytes())
    with pytest.raises(UserError, match="line 1 is damaged"):
        Queue(tmp_path / "queue")


def test_a_table_with_half_a_row_goes_on_after_the_last_whole_one(tmp_path):
    columns = ["id", "study"]
    Rows(tmp_path / "p.csv", columns).add("s1", "a,s1\n")
    with (tmp_path / "p.csv").open("a") as file:
        file.write("b,s")
    rows = Rows(tmp_path / "p.csv", columns)
    rows.add("s1", "a,s1\n")
    rows.add("s2", "b,s2\n")
    assert (tmp_path / "p.csv").read_text() == "id,study\na,s1\nb,s2\n"
    (tmp_path / "p.csv").rename(tmp_path / "january.csv")
    rows.add("s3", "c,s3\n")
    assert (tmp_path / "p.csv").read_text() == "id,study\nc,s3\n"
    with pytest.raises(UserError, match="other columns"):
        Rows(tmp_path / "p.csv", ["id", "p_x", "study"])
