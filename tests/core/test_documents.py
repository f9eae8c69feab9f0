"""Documents of strangers: what is refused, in one line, before it fills the memory, the stack or the time."""

import os
import time

import pytest
from clinvit.core.documents import DEPTH, JSON_BYTES, YAML_BYTES, lines_of, parse_json, parse_yaml, read_json, read_yaml
from clinvit.core.errors import DataError, UserError

ALIASES = "l0: &l0 {a: 1}\n" + "".join(f"l{i}: &l{i} {{a: *l{i - 1}, b: *l{i - 1}}}\n" for i in range(1, 60))
HOSTILE_YAML = {
    "aliases": ALIASES, "deep in flow": "a: " + "[" * 100_000, "deep and closed": "a: " + "[" * 500 + "]" * 500,
    "deep in blocks": "".join(f"{' ' * i}a:\n" for i in range(500)), "a tag": "a: !!python/name:os.system",
    "a key twice": "a: 1\nb: 2\na: 3\n", "no mapping": "- a\n", "empty": "", "two documents": "a: 1\n---\na: 2\n",
    "no UTF-8": b"a: \xff\xfe\xff", "too large": b"a: " + b"x" * YAML_BYTES, "huge number": "a: " + "9" * 5000,
    "a half character": 'a: "\\ud800"', "no date": "a: 2020-99-99", "an unknown alias": "a: *b",
    "a key that is a list": "? [a]\n: 1\n", "steers": "a: \x1b[2J",
}  # fmt: skip
HOSTILE_JSON = {
    "deep": '{"a":' + "[" * 100_000, "deep and closed": '{"a":' + "[" * 500 + "]" * 500 + "}",
    "deep objects": '{"a":' * 200 + "1" + "}" * 200, "a key twice": '{"a": 1, "b": 2, "a": 3}', "a list": "[]",
    "empty": "", "cut off": '{"a": [1, 2', "no UTF-8": b'{"a": "\xff"}', "too large": b" " * JSON_BYTES + b"{}",
    "huge number": '{"a": ' + "9" * 5000 + "}", "a half character": '{"\\ud800": 1}',
}  # fmt: skip


def place(tmp_path, content):
    path = tmp_path / "document"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_hostile_yaml_is_refused_at_once(tmp_path, name):
    path, start = place(tmp_path, HOSTILE_YAML[name]), time.monotonic()
    with pytest.raises(DataError, match=r"document: not readable YAML \(.+\)\. Mend it\.") as caught:
        read_yaml(path, DataError, "Mend it.")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json_is_refused_at_once(tmp_path, name):
    with pytest.raises(UserError, match=r"document: not readable JSON \(.+\)\. Copy or make it again\.") as caught:
        read_json(place(tmp_path, HOSTILE_JSON[name]))
    assert "\n" not in str(caught.value)


def test_what_is_within_the_limits_is_read(tmp_path):
    nested = "[" * (DEPTH - 2) + "]" * (DEPTH - 2)
    assert list(read_json(place(tmp_path, f'{{"a": {nested}, "b": NaN}}'))) == ["a", "b"]
    assert list(read_yaml(place(tmp_path, f"a: {nested}\nb: é"))) == ["a", "b"]
    assert parse_json("[1, null]") == [1, None] and parse_yaml("1e-3") == "1e-3" and parse_yaml("[1]") == [1]


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_only_regular_files_are_read_and_a_pipe_is_not_waited_for(tmp_path, read):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "file" / "nothing")
    with pytest.raises(UserError, match=r"not a regular file|cannot be opened"):
        read(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match="a link that leads nowhere"):
        read(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        read(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot be opened"):
        read(tmp_path / ("x" * 5000))


def test_a_line_without_an_end_comes_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("clinvit.core.documents.LINE_BYTES", 4)
    with place(tmp_path, "ab\nabcdefg\n").open("rb") as file:
        assert list(lines_of(file)) == [b"ab\n", b"abcd", b"efg\n"]


@pytest.mark.parametrize("number", ["1:59:59", "010", "-07", "1:30.5", "0_7"])
def test_numbers_that_readers_of_yaml_take_for_others_are_refused(tmp_path, number):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"optim:\n  epochs: {number}\n")
    with pytest.raises(UserError, match="another number to every reader"):
        read_yaml(path, remedy="Write it anew.")
    path.write_text(f"a: '{number}'\nb: 10\nc: 0.5\nd: 0\ne: 0x1F\nf: -0.25\n")
    assert read_yaml(path, remedy="")["a"] == number
