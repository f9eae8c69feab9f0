"""Where the demos write."""

from clinvit.cli import main
from clinvit.cli.demo import with_demo
from clinvit.tasks import load


def test_demos_one_after_another_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = []
    for name in with_demo():
        monkeypatch.setattr(type(load(name)), "demo", lambda self, out, seed: written.append(out))
    for name in with_demo():
        assert main(["demo", name]) == 0
    assert main(["demo"]) == 0
    assert len(set(written)) == len(with_demo()) and written[-1] == written[with_demo().index("thorax")]
    assert main(["demo", "slides", "--out", "own"]) == 0
    assert str(written[-1]) == "own"
    before = len(written)
    assert main(["demo", "all", "--out", "own"]) == 0
    assert [str(out) for out in written[before:]] == [f"own/{name}" for name in with_demo()]
