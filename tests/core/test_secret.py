"""The key of all hashes: long, the owner's alone, made once; never a word of a command line."""

import hashlib
import hmac
import stat
import subprocess
import sys

import pytest
from clinvit.core.errors import UserError
from clinvit.core.secret import key_name, keyed_hash, secret_key

GOOD = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("CLINVIT_KEY", raising=False)
    monkeypatch.delenv("CLINVIT_KEY_FILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "clinvit"


def test_it_is_made_on_first_use_for_the_owner_alone(home, capsys):
    key = secret_key()
    assert len(key) == 64 and secret_key() == key == (home / "key").read_text().strip()
    assert stat.S_IMODE((home / "key").stat().st_mode) == 0o600
    said = capsys.readouterr().err
    assert said.count("made the key") == 1 and key not in said


def test_many_that_make_it_at_once_have_the_same(home):
    script = "from clinvit.core.secret import secret_key; print(secret_key())"
    made = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in made}) == 1


@pytest.mark.parametrize("key", ["", "1", "short", "0o17", "0" * 64, "123456789012345", " " * 20])
def test_weak_keys_are_refused(home, monkeypatch, key):
    with pytest.raises(UserError, match="at least 16 bytes"):
        keyed_hash(key, "x")
    monkeypatch.setenv("CLINVIT_KEY", key)
    with pytest.raises(UserError, match="CLINVIT_KEY: no key of at least 16 bytes"):
        secret_key()


def test_a_file_that_others_may_read_is_refused(home, monkeypatch, tmp_path):
    file = tmp_path / "team.key"
    monkeypatch.setenv("CLINVIT_KEY_FILE", str(file))
    with pytest.raises(UserError, match="no such file"):
        secret_key()
    file.write_text(GOOD + "\n")
    with pytest.raises(UserError, match=r"others may read this key\. .*chmod 600"):
        secret_key()
    file.chmod(0o600)
    assert secret_key() == GOOD
    file.write_text("")
    with pytest.raises(UserError, match="at least 16 bytes"):
        secret_key()


def test_hashes_are_hmac_sha256_and_the_name_of_a_key_is_none_of_them():
    assert keyed_hash(GOOD, "p1") == hmac.new(GOOD.encode(), b"p1", hashlib.sha256).hexdigest()[:16]
    assert keyed_hash(GOOD, "p1") != keyed_hash(GOOD[::-1], "p1")
    assert len(key_name(GOOD)) == 16 and key_name(GOOD) not in GOOD and keyed_hash(GOOD, "a\udcff")
