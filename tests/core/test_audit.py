"""The audit log: whatever is done to a line of it shows, and it names nobody."""

import json
import stat

import pytest
from clinvit.core.audit import AuditLog, verify_log
from clinvit.core.errors import UserError


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "logs" / "audit.jsonl"
    for number in range(3):
        AuditLog(path).add({"event": "case", "case": f"{number}{each}"} for each in range(4))
    return path


def test_a_log_goes_on_and_its_chain_is_whole(log):
    state = verify_log(log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert state.lines == 12 == len(lines) and state.mac == lines[-1]["mac"]
    assert [line["number"] for line in lines] == list(range(1, 13))
    assert [line["previous"] for line in lines[1:]] == [line["mac"] for line in lines[:-1]]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert AuditLog(log).add([{"event": "written"}]).lines == 13 == verify_log(log).lines


def test_an_empty_log(tmp_path):
    AuditLog(tmp_path / "a")
    assert verify_log(tmp_path / "a").lines == 0
    with pytest.raises(UserError, match="no such file"):
        verify_log(tmp_path / "b")


def rewritten(lines, number, **changes):
    lines[number] = (json.dumps(json.loads(lines[number]) | changes) + "\n").encode()
    return lines


CHANGES = {
    "a value": lambda lines: rewritten(lines, 4, case="99"),
    "a code": lambda lines: rewritten(lines, 4, mac="0" * 64),
    "removed": lambda lines: lines[:4] + lines[5:],
    "removed at the start": lambda lines: lines[1:],
    "moved": lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]],
    "repeated": lambda lines: [*lines[:5], *lines[4:]],
    "added": lambda lines: [*lines[:5], b'{"event": "case"}\n', *lines[5:]],
    "blank": lambda lines: [*lines[:5], b"\n", *lines[5:]],
    "blanks": lambda lines: [line.replace(b'", "', b'",  "', 1) for line in lines],
    "cut within": lambda lines: [*lines[:-1], lines[-1][:-9]],
    "long": lambda lines: [b'{"event": "' + b"x" * 5_000_000 + lines[0], *lines[1:]],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_was_done_to_a_line_shows(log, change):
    log.write_bytes(b"".join(CHANGES[change](log.read_bytes().splitlines(keepends=True))))
    with pytest.raises(UserError, match=r"audit.jsonl: line \d+ "):
        verify_log(log)


def test_lines_that_were_cut_off_show_to_who_has_noted_the_last(log):
    before = verify_log(log)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-2]))
    assert verify_log(log) != before


def test_nothing_is_added_to_a_log_that_was_changed_or_is_of_another_key(log, monkeypatch, tmp_path):
    good = log.read_bytes()
    log.write_bytes(good[:-3])
    with pytest.raises(UserError, match="the last line is not whole"):
        AuditLog(log)
    log.write_bytes(good)
    monkeypatch.setenv("CLINVIT_KEY", "fedcba9876543210 of another")
    for use in (AuditLog, verify_log):
        with pytest.raises(UserError, match="written with another key"):
            use(log)
    monkeypatch.undo()
    assert log.read_bytes() == good
    (tmp_path / "link").symlink_to(log)
    with pytest.raises(UserError, match="a link"):
        AuditLog(tmp_path / "link")
