import warnings

import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.tables import read_manifest, write_manifest
from clinvit.datasets.manifest.video_lists import is_video_lists, read_video_lists


def touch(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")


def lists(root, train, val=None, test=None):
    root.mkdir(exist_ok=True)
    for name, lines in (("train", train), ("val", val), ("test", test)):
        if lines is not None:
            (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return root


def videos(root, classes=3, count=8):
    names = [f"vid/{number} of {label}.mp4" for label in range(classes) for number in range(count)]
    touch(root, *names)
    return [f"{name} {i // count}" for i, name in enumerate(names)]


def test_videos_with_blanks_in_their_names(tmp_path):
    lines = videos(tmp_path)
    lists(tmp_path, lines[::2], lines[1::4], ["", *lines[3::4], ""])
    assert is_video_lists(tmp_path)
    table, labels = read_video_lists(tmp_path)
    assert labels == ("class_0", "class_1", "class_2") and table.attrs["exclusive"] and len(table) == 24
    assert list(table.columns) == ["id", "path", "patient", "split", *labels]
    assert table["split"].value_counts().to_dict() == {"train": 12, "val": 6, "test": 6}
    row = table.set_index("id").loc["vid/4 of 1"]
    assert row["path"] == "vid/4 of 1.mp4" and row[list(labels)].tolist() == [0, 1, 0]
    assert "notes" not in table.attrs
    write_manifest(tmp_path / "manifest.csv", table, labels, table.attrs["meaning"])
    manifest = read_manifest(tmp_path / "manifest.csv")
    assert manifest.labels == labels and all(file.is_file() for file in manifest.files())


def test_folders_of_frames(tmp_path):
    touch(tmp_path, *(f"frames/{i}/img_00001.jpg" for i in range(9)))
    lists(tmp_path, [f"frames/{i} {10 + i} {i % 3}" for i in range(6)], [f"frames/{i} 7 {i % 3}" for i in range(6, 9)])
    table, labels = read_video_lists(tmp_path)
    assert table["frames"].tolist() == [10, 11, 12, 13, 14, 15, 7, 7, 7] and table["path"][8] == "frames/8"
    write_manifest(tmp_path / "manifest.csv", table, labels)
    assert read_manifest(tmp_path / "manifest.csv").labels == labels


def test_names_of_classes_and_a_root_of_the_data(tmp_path):
    lines = videos(tmp_path / "data")
    root = lists(tmp_path / "lists", lines, lines[:0] or None)
    (tmp_path / "names.txt").write_text("Holding something\nTurning, upside down\nPushing\nnever seen\n")
    table, labels = read_video_lists(root, class_names=tmp_path / "names.txt", data_root=tmp_path / "data")
    assert labels == ("Holding something", "Turning, upside down", "Pushing")
    assert table["path"][0] == "../data/vid/0 of 0.mp4" and table["id"][0] == "vid/0 of 0"
    assert table.attrs["meaning"]["Pushing"] == "1 = class Pushing of the lists; exactly one class is 1"
    assert any("1 of 4 classes have no file" in note for note in table.attrs["notes"])
    assert any("val was cut from train" in note for note in table.attrs["notes"])


def test_several_roots_of_the_data(tmp_path):
    """The first half lies below the one, the second below the other, and one video beside the lists."""
    lines = videos(tmp_path / "one")
    for place, kept in (("two", lines[12:-1]), ("lists", lines[-1:])):
        for line in kept:
            name = line.rsplit(" ", 1)[0]
            (tmp_path / place / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "one" / name).rename(tmp_path / place / name)
    root = lists(tmp_path / "lists", lines)
    table, _ = read_video_lists(root, data_root=[tmp_path / "one", tmp_path / "two"])
    assert len(table) == 24 and all((root / path).is_file() for path in table["path"])
    assert table["path"].str.startswith("../two/").sum() == 11 and table["path"].iloc[-1].startswith("vid/")


def test_absolute_paths_become_relative(tmp_path):
    lines = videos(tmp_path / "data")
    root = lists(tmp_path / "lists", [f"{tmp_path / 'data'}/{line}" for line in lines])
    table, _ = read_video_lists(root)
    assert table["path"][0] == "../data/vid/0 of 0.mp4" and all((root / path).is_file() for path in table["path"])


def test_two_classes_are_one_label(tmp_path):
    table, labels = read_video_lists(lists(tmp_path, videos(tmp_path, classes=2)))
    assert labels == ("class_1",) and table["class_1"].tolist() == [0] * 8 + [1] * 8


def test_commas_part_fields_too(tmp_path):
    table, _ = read_video_lists(lists(tmp_path, [",".join(line.rsplit(" ", 1)) for line in videos(tmp_path)]))
    assert table["path"][0] == "vid/0 of 0.mp4"


def test_without_test_the_official_code_tests_on_val(tmp_path):
    lines = videos(tmp_path)
    table, _ = read_video_lists(lists(tmp_path, lines[::2], lines[1::2]))
    assert set(table["split"]) == {"train", "val"}
    assert any("no test.csv" in note for note in table.attrs["notes"])


def test_missing_videos_are_left_out_or_refused(tmp_path):
    lines = videos(tmp_path)
    lists(tmp_path, lines)
    for number in range(5):
        (tmp_path / f"vid/{number} of 0.mp4").unlink()
    table, _ = read_video_lists(tmp_path)
    assert len(table) == 19 and any("5 listed files are not there" in note for note in table.attrs["notes"])
    assert len(read_video_lists(tmp_path, keep_missing=True)[0]) == 24
    with pytest.raises(DataError, match="24 of 24 listed files are not there"):
        read_video_lists(tmp_path, data_root=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (["a.mp4 0", "", "b.mp4"], None, r"train\.csv: line 3: 'b.mp4' is neither"),
        (["a.mp4 0", "b.mp4 -1"], None, "line 2: 'b.mp4 -1' is neither"),
        (["a.mp4 0", "b.mp4 12345678901234567890"], None, "line 2: "),
        (["a.mp4 0", "folder 1"], None, "line 2: 'folder 1' is neither"),
        (["a.mp4 0", "b.mp4 1"], ["a.mp4 0"], r"a\.mp4 is in train and val"),
        (["a.mp4 0", "b.mp4 1", "b.mp4 1"], None, "file 'b.mp4' stands twice"),
        (["a.mp4 0", "b.mp4 0"], None, r"1 classes \(class_0\)"),
        ([""], None, r"train\.csv: the list is empty"),
        (["a.mp4 0", "b.mp4 1", "c.mp4 3"], None, r"2 names, but .* has class 3"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, train, val, message):
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    lists(tmp_path, train, val)
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=message) as caught:
        read_video_lists(tmp_path, class_names=tmp_path / "names.txt" if "names" in message else None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"), [("a\na\n", "class 'a' stands twice"), ("a\n\nb\n", "line 2 is empty"), ("a\nsex\n", "'sex'")]
)
def test_wrong_names_of_classes_are_named(tmp_path, names, message):
    lists(tmp_path, videos(tmp_path, classes=2))
    (tmp_path / "names.txt").write_text(names)
    with pytest.raises(DataError, match=message):
        read_video_lists(tmp_path, class_names=tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("a b.mp4 3", True),
        ("12 40 3", True),
        ("a.mp4,3", True),
        ("path,label", False),
        ("Path,Sex,Age", False),
        ("", False),
    ],
)
def test_a_list_is_told_by_its_first_line(tmp_path, first, expected):
    (tmp_path / "train.csv").write_text(first + "\n")
    assert is_video_lists(tmp_path) is expected
    assert not is_video_lists(tmp_path / "nowhere")


def test_hundreds_of_classes_are_added_at_once(tmp_path):
    lines = videos(tmp_path, classes=300, count=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pandas warns of columns that are added one by one
        table, labels = read_video_lists(lists(tmp_path, lines[::2], lines[1::2]))
    assert len(labels) == 300 and (table[list(labels)].sum(axis=1) == 1).all()
