"""Folders of frames: in the order of their numbers, whatever their suffix, and gaps between the numbers are said."""

import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.video.clips import read_clip
from clinvit.datasets.video.frame_folder import missing_numbers
from clinvit.datasets.video.rates import frames_warning
from clinvit.tests.datasets.video.made import folder, numbered, numbers
from PIL import Image


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["1.png", "2.png", "3.png"], []),
        (["9.png", "10.png", "11.png", "13.png"], [12]),
        (["img_00001.jpg", "img_00002.jpg", "img_00004.jpg", "img_00007.jpg"], [3, 5, 6]),
        (["0.png", "5.png", "10.png", "15.png"], []),
        (["0.png", "5.png", "10.png", "20.png"], [15]),
        (["p3_1.png", "p3_2.png", "p3_4.png"], [3]),
        (["1_0.5.png", "2_0.5.png", "4_0.5.png"], [3]),
        (["a.png", "b.png", "d.png"], []),
        (["12.png", "57.png", "1031.png", "1040.png"], []),
        (["x1_1.png", "x2_2.png", "x4_4.png"], []),
        (["1.png", "3.png"], []),
        (["1.png", "2.png", "1700000000000.png"], []),
        (
            ["20240101120000123456789.png", "20240101120000123456790.png", "20240101120000123456792.png"],
            [20240101120000123456791],
        ),
    ],
)
def test_numbers_that_are_left_out_are_found(tmp_path, names, missing):
    for name in names:
        Image.new("L", (8, 8)).save(tmp_path / name)
    assert missing_numbers(tmp_path) == missing


def test_folders_with_gaps_are_warned_of_and_files_are_not(tmp_path):
    whole, gap = folder(tmp_path / "a", numbered(5)), folder(tmp_path / "b", numbered(6))
    (gap / "img_00003.jpg").unlink()
    assert frames_warning([whole, tmp_path / "x.mp4"]) == ""
    warning = frames_warning([whole, gap])
    assert warning.startswith(f"1 folder of frames lacks numbers: {gap} has no frame 3.")
    (gap / "img_00004.jpg").unlink()
    assert "has no frame 3 and 1 more." in frames_warning([gap])


def test_frames_without_a_suffix_are_known_by_their_first_bytes(tmp_path):
    path = folder(tmp_path / "frames", numbered(11), "{}.png")
    for file in list(path.iterdir()):
        file.rename(file.with_suffix(""))
    (path / "README").write_text("not a frame")
    assert numbers(read_clip(path)) == list(range(11))
    for file in path.iterdir():
        file.write_text("nor this")
    with pytest.raises(DataError, match="no JPEG or PNG frames"):
        read_clip(path)
