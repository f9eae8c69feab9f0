"""Shards: the same pixels as from the cache, fetched once, checked, bounded; an order that needs no memory."""

import hashlib
import json
import pickle
import threading
import uuid
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pytest
from clinvit.core.errors import DataError, RunError, UserError
from clinvit.datasets.loading.cache import build_cache
from clinvit.datasets.loading.loaders import Cases, train_loader
from clinvit.datasets.loading.readers import ImageReader
from clinvit.datasets.loading.shards import storage as storage_module
from clinvit.datasets.loading.shards.batches import ShardBatches
from clinvit.datasets.loading.shards.index import _signature as index_signature
from clinvit.datasets.loading.shards.packing import pack
from clinvit.datasets.loading.shards.pixels import Shards
from clinvit.datasets.loading.shards.storage import Storage
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.settings import Clip
from clinvit.datasets.transforms.views import EvalView
from fsspec.registry import known_implementations

SMALL = ImageReader(32)
IMAGE = 32 * 32
TEN = 10 * IMAGE  # bytes of a shard of ten images


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(storage_module, "PAUSE_S", 0.001)


@pytest.fixture
def manifest(cohort):
    return read_manifest(cohort())


@pytest.fixture
def cache(manifest, tmp_path):
    return build_cache(manifest.files(), tmp_path / "cache", SMALL)


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}/bucket"


def shards_of(url, tmp_path, image_bound=10_000):
    return Shards(url, tmp_path / "local", image_bound * IMAGE / 1e9)


def here(tmp_path):
    return sorted((tmp_path / "local").glob("*.shard"))


@pytest.mark.parametrize("kind", ["file", "memory", "http"])
def test_shards_give_the_same_pixels_as_the_cache(manifest, cache, tmp_path, kind):
    url = {"memory": f"memory://{uuid.uuid4()}"}.get(kind, f"file://{tmp_path}/bucket")
    index = pack(manifest, cache, url, TEN)
    # 48, 16 and 16 images: each split has its own shards.
    assert [size // IMAGE for _, size in index.shards] == [10, 6, 10, 10, 10, 10, 8, 10, 6]
    server = None
    if kind == "http":
        quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(tmp_path / "bucket")))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
    pixels = shards_of(url, tmp_path).pixels(manifest, SMALL)
    assert pixels.window == 0 and len(pixels) == 80
    for row in range(80):
        np.testing.assert_array_equal(pixels[row], cache[row])
    if server:
        server.shutdown()
        server.server_close()
    # All is here now: nothing is fetched any more, by another process neither.
    again = pickle.loads(pickle.dumps(pixels))
    again.local.storage = None
    np.testing.assert_array_equal(again[5], cache[5])


def test_packing_goes_on_and_replaces_nothing(manifest, cache, tmp_path, url, monkeypatch):
    written, write = [], Storage.write

    def failing(storage, name, content):
        if len(written) == 3:
            raise RunError("the network is gone")
        written.append(name)
        write(storage, name, content)

    monkeypatch.setattr(Storage, "write", failing)
    with pytest.raises(RunError, match="the network is gone"):
        pack(manifest, cache, url, TEN)
    with pytest.raises(UserError, match=r"index.json: no shards there for this recipe"):
        shards_of(url, tmp_path).pixels(manifest, SMALL)
    monkeypatch.setattr(
        Storage, "write", lambda storage, name, content: written.append(name) or write(storage, name, content)
    )
    index = pack(manifest, cache, url, TEN)
    assert len(written) == 10 and len(set(written)) == 10, "nine shards and the index, each once"
    assert pack(manifest, cache, url, TEN) == index
    assert len(written) == 11, "only the index"
    # A shard that was cut off, as a full disk does, is written again.
    shard = tmp_path / "bucket/32px-v3" / index.shards[2][0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-5])
    pack(manifest, cache, url, TEN)
    assert shard.read_bytes() == whole


def test_an_unreadable_file_keeps_its_reason(manifest, tmp_path, url):
    manifest.files()[4].write_text("no image")
    pack(manifest, build_cache(manifest.files(), tmp_path / "cache", SMALL), url, TEN)
    pixels = shards_of(url, tmp_path).pixels(manifest, SMALL)
    assert [row for row, reason in enumerate(pixels.reasons()) if reason] == [4]
    with pytest.raises(DataError, match=manifest.files()[4].name):
        pixels[4]


@pytest.mark.parametrize("damage", ["cut", "bit", "gone"])
def test_a_damaged_shard_is_one_clear_error(manifest, cache, tmp_path, url, damage):
    index = pack(manifest, cache, url, TEN)
    pixels = shards_of(url, tmp_path).pixels(manifest, SMALL)
    name = index.shards[pixels.shard_of[0]][0]
    shard = tmp_path / "bucket/32px-v3" / name
    content = bytearray(shard.read_bytes())
    content[50] ^= 1
    if damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(content[:-1] if damage == "cut" else content)
    words = {"cut": "damaged: [0-9]+ of [0-9]+ bytes", "bit": "damaged: its checksum", "gone": "not there"}[damage]
    with pytest.raises(RunError, match=f"^{url}/32px-v3/{name}: {words}"):
        pixels[0]
    assert {file.suffix for file in (tmp_path / "local").iterdir()} == {".lock"}, "nothing is left of it"


def test_a_fetch_that_fails_is_tried_again_and_then_told(manifest, cache, tmp_path, monkeypatch):
    url = f"memory://{uuid.uuid4()}"
    pack(manifest, cache, url, TEN)
    pixels = shards_of(url, tmp_path).pixels(manifest, SMALL)
    fs, tries = fsspec.filesystem("memory"), []
    get_file = fs.get_file

    def flaky(*arguments, fails=2, **options):
        tries.append(arguments)
        if len(tries) <= fails:
            raise OSError("connection reset by https://user:secret@host/x?X-Signature=abc")
        return get_file(*arguments, **options)

    monkeypatch.setattr(type(fs), "get_file", lambda self, *a, **o: flaky(*a, **o))
    np.testing.assert_array_equal(pixels[0], cache[0])
    assert len(tries) == 3
    tries.clear()
    monkeypatch.setattr(type(fs), "get_file", lambda self, *a, **o: flaky(*a, fails=99, **o))
    other = int(np.flatnonzero(pixels.shard_of != pixels.shard_of[0])[0])
    with pytest.raises(
        RunError, match=rf"{url}/32px-v3/\w+: connection reset by https://host/x \(tried 4 times\)"
    ) as told:
        pixels[other]
    assert "secret" not in str(told.value) and len(tries) == 4


def test_a_shard_that_rots_here_is_fetched_again(manifest, cache, tmp_path, url, capsys):
    pack(manifest, cache, url, TEN)
    pixels = shards_of(url, tmp_path).pixels(manifest, SMALL)
    pixels[0]
    for file in here(tmp_path):
        file.write_bytes(bytes(file.stat().st_size))
    again = pickle.loads(pickle.dumps(pixels))
    np.testing.assert_array_equal(again[0], cache[0])
    assert "a shard has changed; it is fetched again" in capsys.readouterr().err


def test_what_does_not_fit_goes_by_windows(manifest, cache, tmp_path, url):
    pack(manifest, cache, url, TEN)
    train = manifest.rows("train")
    with pytest.raises(UserError, match="at least three shards must fit"):
        shards_of(url, tmp_path, 25).pixels(train, SMALL)
    pixels = shards_of(url, tmp_path, 30).pixels(train, SMALL)
    assert pixels.window == 1
    pixels.window = 2
    rows = np.arange(48)
    whole = ShardBatches(pixels, rows, 8, seed=3)
    seen = []
    for epoch in (0, 1):
        whole.set_epoch(epoch)
        batches = list(whole)
        assert sorted(position for batch in batches for position, _ in batch) == list(range(48))
        shards = [pixels.shard_of[position] for batch in batches for position, _ in batch]
        first = [shards.index(shard) for shard in dict.fromkeys(shards)]
        assert len(first) == 5 and len(set(shards[: first[2]])) == 2, "two shards at a time"
        seen.append(batches)
    assert seen[0] != seen[1]
    # The same on two processes, and where a run goes on within the epoch.
    halves = [ShardBatches(pixels, rows, 8, 3, rank, 2) for rank in range(2)]
    for half in halves:
        half.set_epoch(1)
    assert [left + right for left, right in zip(*halves, strict=True)] == seen[1]
    whole.done = (1, 4)
    assert list(whole) == seen[1][4:]


def test_processes_read_more_than_fits(manifest, cache, tmp_path, url):
    pack(manifest, cache, url, TEN)
    train = manifest.rows("train")
    pixels = shards_of(url, tmp_path, 30).pixels(train, SMALL)
    rows = np.arange(48)
    splits = np.flatnonzero(manifest.table["split"] == "train")
    for workers in (0, 1):
        batches = ShardBatches(pixels, rows, 8, seed=1)
        for batch in train_loader(Cases(pixels, rows, EvalView(32, "squash", None, Clip(), 1)), batches, workers):
            for image, row in zip(batch["image"], batch["row"]):
                np.testing.assert_array_equal(image[0], cache[splits[row]])
    assert 0 < len(here(tmp_path)) <= 3


def test_other_data_do_not_fit(cohort, cache, manifest, tmp_path, url):
    index = pack(manifest, cache, url, TEN)
    other = read_manifest(cohort(folder="other", seed=1))
    other.table["patient"] = "x" + other.table["patient"]
    with pytest.raises(UserError, match="80 of 80 cases of the manifest are in no shard"):
        shards_of(url, tmp_path).pixels(other, SMALL)
    text = (tmp_path / "bucket/32px-v3/index.json").read_text()
    assert "000_0" not in text, "no name of a case goes into the storage"
    (tmp_path / "bucket/32px-v3/index.json").write_text(text.replace(f",{IMAGE},", f",{2 * IMAGE},", 1))
    with pytest.raises(RunError, match=r"index\.json: damaged"):
        shards_of(url, tmp_path).pixels(manifest, SMALL)
    assert len(index.places) == 80


@pytest.mark.parametrize(
    "change",
    [
        {"shards": [["../../../outside/planted", 10]]}, {"shards": [["0" * 31, 10]]}, {"shards": [["A" * 32, 10]]},
        {"shards": [["0" * 32, -1]]}, {"shards": [["0" * 32 + "\n", 1]]}, {"shards": [[1, 1]]}, {"shards": {"a": 1}},
        {"places": {"a": [0, 1, 2, -3]}}, {"places": {"a": [9, 0, 0, 1]}}, {"places": {"a": "0000"}}, {"more": 1},
    ],
)  # fmt: skip
def test_an_index_of_other_names_is_refused_though_its_checksum_is_right(
    manifest, cache, tmp_path, url, monkeypatch, change
):
    pack(manifest, cache, url, TEN)
    path = tmp_path / "bucket/32px-v3/index.json"
    text = json.dumps(json.loads(path.read_text().splitlines()[0]) | change).encode()
    path.write_bytes(text + b"\n" + index_signature(text).encode() + b"\n")
    with pytest.raises(RunError, match=r"index\.json: damaged \("):
        shards_of(url, tmp_path).pixels(manifest, SMALL)
    assert not (tmp_path / "outside").exists()


def test_an_index_of_another_key_or_of_nobody_is_refused(manifest, cache, tmp_path, url, monkeypatch):
    pack(manifest, cache, url, TEN)
    path = tmp_path / "bucket/32px-v3/index.json"
    text = path.read_bytes().splitlines()[0]
    monkeypatch.setenv("CLINVIT_KEY", "another key than before")
    with pytest.raises(UserError, match="not made with your key"):
        shards_of(url, tmp_path).pixels(manifest, SMALL)
    path.write_bytes(text + b"\n" + hashlib.blake2b(text, digest_size=16).hexdigest().encode() + b"\n")
    with pytest.raises(UserError, match="not made with your key"):
        shards_of(url, tmp_path).pixels(manifest, SMALL)


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::http://user:hunter2@host/x", "filecache::simplecache::https://hunter2@host/x", "s3://hunter2@b/x",
        "https://host/x;sig=hunter2", "https://host/x#hunter2", "https://host/x?hunter2", "memory://x/token=hunter2",
        "zip://a.bin::https://host/x.zip?sig=hunter2", "github://org:repo:hunter2@main/x?token=hunter2", "abfs://u:hunter2@c/x",
        "s3://a:hunter2@bucket/x", "https://host/x&X-Amz-Signature=hunter2", "gs://hunter2:@bucket",
    ],
)  # fmt: skip
def test_no_secret_of_a_url_is_taken_or_repeated(url):
    with pytest.raises(UserError, match="no passwords, tokens or signatures in a URL") as told:
        Storage(url)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("url", ["simplecache::file:///tmp/x", "memory://a/b", "file:///a-b_c/d.e", "/data/my cases"])
def test_urls_without_secrets_are_taken(url):
    Storage(url)


@pytest.mark.parametrize(
    "words",
    [
        "403 for http://u:hunter2@host/x", "403 (https://host/x?sig=hunter2)", "https://host/x;sig=hunter2 not found",
        "url=https://host/x#hunter2", "simplecache::s3://hunter2@b/x: no", "X-Amz-Signature=hunter2 has expired",
        "AWSAccessKeyId: token=hunter2",
    ],
)  # fmt: skip
def test_errors_of_libraries_repeat_no_secret(words):
    assert "hunter2" not in storage_module._words(OSError(words))


def test_urls_that_cannot_be_used(monkeypatch):
    with pytest.raises(UserError, match="no passwords, tokens or signatures in a URL") as told:
        Storage("https://host/x?X-Amz-Signature=abc")
    assert "abc" not in str(told.value)
    with pytest.raises(UserError, match="no passwords"):
        Storage("s3://key:secret@bucket/x")
    with pytest.raises(UserError, match="nope://x: Protocol not known: nope"):
        Storage("nope://x")
    monkeypatch.setitem(known_implementations, "gs", {"class": "no_gcsfs.FS", "err": "install it"})
    with pytest.raises(UserError, match=r"gs://b: gs:// needs a package that is not installed: pip install gcsfs\."):
        Storage("gs://b")
