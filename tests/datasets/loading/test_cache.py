"""The image cache: read once, survives a kill, forgets nothing; batches whose randomness needs no memory."""

import json
import os
import pickle

import numpy as np
import pytest
from clinvit.core.counter import Counter
from clinvit.core.errors import DataError, RunError, UserError
from clinvit.datasets.images.radiographs import read_grey
from clinvit.datasets.loading.cache import build_cache
from clinvit.datasets.loading.isolation import isolated
from clinvit.datasets.loading.loaders import Cases, TrainBatches, eval_loader, readable_rows, train_loader
from clinvit.datasets.loading.readers import ClipReader, ImageReader
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.quality.check import check_manifest
from clinvit.datasets.quality.check import cohort as cohort_table
from clinvit.datasets.settings import Clip
from clinvit.datasets.transforms.augment import Augment
from clinvit.datasets.transforms.views import EvalView, TrainView
from PIL import Image, ImageOps

SMALL = ImageReader(32)


@pytest.fixture
def files(cohort):
    return read_manifest(cohort()).files()


def asked_for(monkeypatch) -> list:
    """The files that are read from now on."""
    asked = []

    def watched(read, files, workers):
        files = list(files)
        asked.extend(files)
        return isolated(read, files, workers)

    monkeypatch.setattr("clinvit.datasets.loading.cache.isolated", watched)
    return asked


def test_images_come_back_in_the_order_asked_for(files, tmp_path):
    cache = build_cache(files, tmp_path, SMALL)
    turned = build_cache(files[::-1], tmp_path, SMALL)
    assert len(cache) == len(files) and cache[0].shape == (32, 32) and cache[0].dtype == np.uint8
    np.testing.assert_array_equal(cache[3], SMALL.read(files[3]))
    np.testing.assert_array_equal(turned[len(files) - 4], cache[3])
    assert (tmp_path / "32px-v3/pixels.u8").stat().st_size == len(files) * 32 * 32


def test_nothing_is_read_twice_and_changed_files_are(files, tmp_path, monkeypatch):
    build_cache(files, tmp_path, SMALL)
    asked = asked_for(monkeypatch)
    build_cache(files, tmp_path, SMALL)
    assert asked == []
    os.utime(files[2], ns=(1, 1))
    build_cache(files, tmp_path, SMALL)
    assert asked == [files[2]]


def test_a_frame_replaced_in_place_is_noticed(clip_cohort, tmp_path, monkeypatch):
    clips, reader = read_manifest(clip_cohort(patients=5)).files(), ClipReader(32)
    (clips[1] / "link.txt").symlink_to("nowhere")
    before = build_cache(clips, tmp_path, reader)
    asked = asked_for(monkeypatch)
    build_cache(clips, tmp_path, reader)
    assert asked == []
    for clip in clips[:2]:
        folder, frame = clip.stat(), clip / "004.png"
        with Image.open(frame) as image:
            ImageOps.invert(image).save(frame)
        os.utime(frame, ns=(1, 1))
        assert (clip.stat().st_mtime_ns, clip.stat().st_size) == (folder.st_mtime_ns, folder.st_size)
    after = build_cache(clips, tmp_path, reader)
    assert asked == clips[:2]
    np.testing.assert_array_equal(after[0][4], 255 - before[0][4])
    np.testing.assert_array_equal(after[0][:4], before[0][:4])


@pytest.mark.parametrize("damage", ["pixels without a line", "half a line", "a line without pixels"])
def test_a_kill_leaves_a_tail_that_is_cut_off(files, tmp_path, damage):
    whole = build_cache(files, tmp_path / "whole", SMALL)
    build_cache(files[:20], tmp_path / "cut", SMALL)
    folder = tmp_path / "cut/32px-v3"
    if damage == "pixels without a line":
        with (folder / "pixels.u8").open("ab") as data:
            data.write(b"\1" * 100)
    elif damage == "half a line":
        with (folder / "index.jsonl").open("a") as index:
            index.write('["x", 123')
    else:
        os.truncate(folder / "pixels.u8", 19 * 32 * 32 + 5)
    again = build_cache(files, tmp_path / "cut", SMALL)
    for row in range(len(files)):
        np.testing.assert_array_equal(again[row], whole[row])
    for line in (folder / "index.jsonl").read_text().splitlines():
        assert len(json.loads(line)) == 4


def flipped(path, place):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_a_changed_byte_is_read_from_its_file_again_and_mended(files, tmp_path, capsys):
    whole = build_cache(files, tmp_path, SMALL)
    expected = np.stack([whole[row] for row in range(len(files))])
    flipped(tmp_path / "32px-v3/pixels.u8", 7 * 32 * 32 + 100)
    cache = pickle.loads(pickle.dumps(build_cache(files, tmp_path, SMALL)))
    np.testing.assert_array_equal(cache[7], expected[7])
    assert f"{files[7]} was read again" in capsys.readouterr().err
    np.testing.assert_array_equal(np.stack([cache[row] for row in range(len(files))]), expected)
    again = build_cache(files, tmp_path, SMALL)
    np.testing.assert_array_equal(again[7], expected[7])
    assert capsys.readouterr().err == ""
    flipped(tmp_path / "32px-v3/pixels.u8", 7 * 32 * 32 + 100)
    files[7].unlink()
    with pytest.raises(RunError, match=f"changed on the disk, and {files[7]} is not there as it was"):
        pickle.loads(pickle.dumps(again))[7]


def test_a_changed_index_never_gives_another_image(files, tmp_path):
    whole = build_cache(files, tmp_path, SMALL)
    index = tmp_path / "32px-v3/index.jsonl"
    good = index.read_text()
    index.write_text(good.replace(", 5120, [32, 32]", ", 6144, [32, 32]", 1))
    cache = build_cache(files, tmp_path, SMALL)
    with pytest.raises(RunError, match=r"Remove .*32px-v3 and repeat"):
        cache[5]
    index.write_text(good.replace(", 5120, [32", ", 51x0, [32", 1))
    cache = build_cache(files, tmp_path, SMALL)
    assert all(np.array_equal(cache[row], whole[row]) for row in range(len(files)))
    assert (tmp_path / "32px-v3/pixels.u8").stat().st_size == (len(files) + 1) * 32 * 32, "only one was read again"


def test_a_cache_without_checksums_gets_them(files, tmp_path, capsys):
    build_cache(files, tmp_path, SMALL)
    index = tmp_path / "32px-v3/index.jsonl"
    good = index.read_text()
    index.write_text("".join(json.dumps(json.loads(line)[:3]) + "\n" for line in good.splitlines()))
    cache = build_cache(files, tmp_path, SMALL)
    assert "80 entries of an older version get their checksums now" in capsys.readouterr().err
    assert index.read_text() == good and cache[9].shape == (32, 32)


DEADLY = """
import os, signal
from clinvit.datasets.loading.readers import ImageReader

class Deadly(ImageReader):
    def load(self, path):
        if path.name == "003_0.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(path)
"""


@pytest.mark.slow
def test_a_killed_process_costs_one_file(files, tmp_path, monkeypatch):
    (tmp_path / "deadly_reader.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    from deadly_reader import Deadly

    reasons = build_cache(files, tmp_path, Deadly(32), workers=2).reasons()
    assert [file.name for file, reason in zip(files, reasons) if reason] == ["003_0.png"]
    assert "took the process down" in reasons[6]
    assert len((tmp_path / "32px-v3/index.jsonl").read_text().splitlines()) == len(files) - 1


def test_without_a_terminal_there_is_a_line_now_and_then(capsys):
    with Counter(4, "reading files", "file", every=0) as counter:
        for _ in range(4):
            counter.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("reading files: 1 of 4, ") and lines[0].endswith(" min left")
    assert lines[-1].startswith("reading files: 4 of 4, ")
    with Counter(4, "reading files", "file") as counter:
        counter.update(4)
    assert capsys.readouterr().err == "", "what is over soon says nothing"


def test_processes_give_the_same_as_one(files, tmp_path):
    one, two = build_cache(files, tmp_path / "one", SMALL), build_cache(files, tmp_path / "two", SMALL, workers=2)
    assert all(np.array_equal(one[row], two[row]) for row in range(len(files)))


def test_a_bad_file_has_a_reason_and_is_tried_again(files, tmp_path):
    good = files[1].read_bytes()
    files[1].write_text("no image")
    cache = build_cache(files, tmp_path, SMALL)
    assert [bool(reason) for reason in cache.reasons()] == [row == 1 for row in range(len(files))]
    with pytest.raises(DataError, match=files[1].name):
        cache[1]
    rows, bad = readable_rows(cache, range(len(files)), 0.1, "data")
    assert 1 not in rows and len(bad) == 1
    with pytest.raises(DataError, match="1 of 80 training files"):
        readable_rows(cache, range(len(files)), 0.01, "data")
    files[1].write_bytes(good)
    assert build_cache(files, tmp_path, SMALL).reasons()[1] == ""


def test_workers_get_the_place_of_the_pixels_not_the_pixels(files, tmp_path):
    cache = build_cache(files, tmp_path, SMALL)
    expected = cache[5].copy()
    sent = pickle.dumps(cache)
    names = len(files) * max(len(str(file)) for file in files)
    assert len(sent) < 8_000 + names < (tmp_path / "32px-v3/pixels.u8").stat().st_size
    np.testing.assert_array_equal(pickle.loads(sent)[5], expected)


def test_batches_are_decided_by_seed_epoch_and_rank(files, tmp_path):
    cache = build_cache(files, tmp_path, ImageReader(40))
    whole = TrainBatches(80, 16, seed=3)
    whole.set_epoch(4)
    shares = [TrainBatches(80, 16, seed=3, rank=rank, world=2) for rank in range(2)]
    for share in shares:
        share.set_epoch(4)
    for batch, left, right in zip(whole, *shares, strict=True):
        assert batch == left + right
    assert len({position for batch in whole for position, _ in batch}) == 80
    train = Cases(cache, np.arange(80), TrainView(Augment(size=32), Clip(), 1))
    first, second = ([b["image"] for b in train_loader(train, whole, workers)] for workers in (0, 2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True)), "workers change nothing"
    with pytest.raises(UserError, match="does not divide over 3 processes"):
        TrainBatches(80, 16, 0, world=3)


@pytest.mark.parametrize(
    ("cases", "world", "sizes", "left"),
    [(17, 1, [8, 8], 1), (18, 1, [8, 8, 2], 0), (17, 2, [4, 4], 1), (19, 2, [4, 4, 2], 0), (1, 1, [1], 0)],
)
def test_a_last_batch_of_too_few_is_left_out_another_one_each_time(cases, world, sizes, left):
    batches = TrainBatches(cases, 8, seed=0, world=world, drop_last=False, least=2)
    first = list(batches)
    assert [len(each) for each in first] == sizes and len(batches) == len(sizes) and batches.left_out() == left
    seen = {row for epoch in range(8) for each in (batches.set_epoch(epoch), *batches)[1:] for row, _ in each}
    assert world > 1 or seen == set(range(cases))


def test_the_last_batch_is_kept_where_the_recipe_asks():
    assert [len(batch) for batch in TrainBatches(21, 8, seed=0)] == [8, 8]
    kept = TrainBatches(21, 8, seed=0, drop_last=False)
    assert [len(batch) for batch in kept] == [8, 8, 5] and len(kept) == 3
    assert {position for batch in kept for position, _ in batch} == set(range(21))
    assert [len(batch) for batch in TrainBatches(3, 8, seed=0, drop_last=False)] == [3]
    halves = [list(TrainBatches(21, 8, seed=0, rank=rank, world=2, drop_last=False)) for rank in range(2)]
    assert [len(batch) for batch in halves[0]] == [len(batch) for batch in halves[1]] == [4, 4, 3]
    assert {position for half in halves for batch in half for position, _ in batch} == set(range(21))


def test_evaluation_sees_every_case_once_in_order(files, tmp_path):
    dataset = Cases(
        build_cache(files, tmp_path, ImageReader(40)), np.arange(5, 38), EvalView(32, "squash", None, Clip(), 1)
    )
    rows = [int(row) for batch in eval_loader(dataset, 8, 0) for row in batch["row"]]
    assert rows == list(range(5, 38))


def test_check_counts_and_warns(cohort):
    manifest = read_manifest(cohort())
    found = check_manifest(manifest, read_grey, files=0)
    assert found.errors == [] and found.warnings == []
    assert "80 of 80 files read well" in " ".join(found.facts)
    table = cohort_table(manifest)
    assert table.loc["cases", "train"] == 48 and table.loc["Bar", "train"].endswith(
        f"/{np.isfinite(manifest.rows('train').targets()[:, 1]).sum()}"
    )
    without = read_manifest(manifest.path, labels=[]).rows("train")
    found = check_manifest(without, read_grey, files=3)
    assert len(found.warnings) == 3 and "no label column" in " ".join(found.warnings)


def test_check_reads_clips_that_are_folders(clip_cohort):
    manifest = read_manifest(clip_cohort(patients=10))
    found = check_manifest(manifest, ClipReader(32).load, files=0)
    assert found.errors == []
    assert "20 of 20 files read well: 32..32 px high, 32..32 px wide, 9..13 frames" in " ".join(found.facts)
    gone = manifest.files()[3]
    gone.rename(gone.with_name("elsewhere"))
    found = check_manifest(manifest, ClipReader(32).load, files=0)
    assert found.errors == [f"1 of 20 files are missing, first: {gone}"]
