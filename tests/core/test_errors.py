"""What stands for a name in a message stands for it however the message writes it."""

import os
from pathlib import Path

import pytest
from clinvit.core.errors import DataError, about, masked, printable
from clinvit.engine.run_folder import environment

NAMES = [
    "\u202aSurname_Given.dcm", "Sur\x85name_Given.dcm", "Given\r_Surname.dcm", "Sur  name Given.dcm",
    "Sur\u2028name_Given.dcm", "Sur\udcffname_Given.dcm", "'Surname_Given'.dcm", "Surname_Given\\.dcm",
    "Sur\nname_Given.dcm", "Sur\n\nname\tGiven.dcm",
]  # fmt: skip
WAYS = {
    "as it is": str, "escaped": printable, "repr": repr, "ascii": ascii, "folded": lambda path: " ".join(path.split()),
    "our error": lambda path: str(DataError(f"{path}: broken")), "cut": lambda path: f"(cannot open {path[:-6]})",
    "resolved": os.path.realpath, "its name": lambda path: Path(path).name,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", ["/data/in", "", "in"])
def test_no_part_of_a_name_is_left(folder, name, way, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = str(Path(folder, name))
    if way == "cut" and not folder:
        pytest.skip("without its folder, a part of a name is no path")
    said = masked(f"failed: {WAYS[way](path)} twice: {WAYS[way](path)}: end", path, "0123abcd")
    assert "0123abcd" in said and said.endswith(": end")
    assert not [part for part in ("Sur", "Given", "name_G") if part in said], said


def test_other_words_stay():
    said = masked("/data/in/a.dcm: cut off; /data/other/b.dcm is whole", "/data/in/a.dcm", "0123")
    assert said == "0123: cut off; /data/other/b.dcm is whole"
    for name in ("/data/in/a.dcm", "/data/in/b", "in/a.dcm"):
        assert masked("/data/in/a.dcm: cut off", "/data/in/a.dcm", name) == f"{name}: cut off"


def test_the_stored_command_holds_no_secret_of_a_url(monkeypatch):
    monkeypatch.setattr("sys.argv", ["clinvit", "pretrain", "--cache=simplecache::http://u:hunter2@h/x?sig=hunter2"])
    assert environment()["command"] == "clinvit pretrain --cache=simplecache::http://h/x"


def test_a_line_end_in_a_name_makes_no_second_line():
    error = DataError("/data/Sur\nname.png: broken", "  clinvit check 'a\nb'")
    assert str(error) == "/data/Sur\\nname.png: broken\n  clinvit check 'a\\nb'"
    with pytest.raises(DataError, match=r"^/data/a\\nb: cut off$"), about("/data/a\nb"):
        raise DataError("/data/a\nb: cut off")
