"""Clips are cropped to their region of interest: what moves, or a box of a table, in px of the whole frame."""

from contextlib import closing

import numpy as np
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.loading.cache import Files, build_cache
from clinvit.datasets.loading.readers import ClipReader, VolumeReader, make_reader, with_boxes
from clinvit.datasets.loading.regions import regions_note
from clinvit.datasets.manifest.rois import ROIS, RoiBox, read_rois
from clinvit.datasets.settings import Clip
from clinvit.datasets.video.roi import NO_BOX, NO_MOTION, region_of
from clinvit.tests.datasets.video.made import folder, video

LEFT, TOP, RIGHT, BOTTOM = 60, 40, 220, 180  # of what moves in a frame of 320 x 240 px


def scan(count: int = 16, moves: bool = True, seed: int = 0) -> np.ndarray:
    """(T, H, W, 3) grey clip: speckle that drifts in a box, writing around it that stands still."""
    draw = np.random.default_rng(seed)
    speckle = draw.gamma(2, 40, (400, RIGHT - LEFT)).clip(0, 255)
    frames = np.zeros((count, 240, 320), np.uint8)
    frames[:, 4:16, 4:150] = 230
    frames[:, 200:230:6, 300:310] = 200
    for number in range(count):
        start = 5 * number * moves
        frames[number, TOP:BOTTOM, LEFT:RIGHT] = speckle[start : start + BOTTOM - TOP]
    return frames[..., None].repeat(3, axis=3)


@pytest.fixture
def clips(tmp_path):
    """A clip whose sector moves, and one in which nothing does."""
    folder(tmp_path / "moving", scan(), "{:02d}.png")
    folder(tmp_path / "still", scan(moves=False), "{:02d}.png")
    return tmp_path / "moving", tmp_path / "still"


def cropped_by_hand(path, region, name: str = "by_hand"):
    folder(path.parent / name, scan()[:, region.top : region.bottom, region.left : region.right], "{:02d}.png")
    return path.parent / name


def boxed(reader, boxes: dict):
    """A reader that knows boxes by path."""
    return type(reader)(**{**vars(reader), "boxes": {str(path): box for path, box in boxes.items()}})


def test_the_part_that_moves_is_cropped_out_and_only_then_shrunk(clips):
    reader = ClipReader(70, roi="moving", roi_margin=0.0)
    read = reader.load(clips[0])
    found = read.region
    expected = np.array([LEFT, TOP, RIGHT, BOTTOM])
    assert np.abs(np.array(found[:4]) - expected).max() <= 12 and not found.whole
    assert (found.width_px, found.height_px) == (320, 240)
    assert min(read.pixels.shape[1:]) == 70, "the shorter side of the crop, not of the frame"
    hand = cropped_by_hand(clips[0], found)
    np.testing.assert_array_equal(read.pixels, ClipReader(70).read(hand))
    with closing(reader.open(clips[0])) as clip:
        np.testing.assert_array_equal(clip[[3, 9, 3]], read.pixels[[3, 9, 3]])
        assert clip.size == read.pixels.shape[1:] and clip.region == found
    wide = ClipReader(70, roi="moving", roi_margin=0.1).load(clips[0]).region
    across, down = found.right - found.left, found.bottom - found.top
    assert wide.left == np.floor(found.left - across * 0.1) and wide.bottom == np.ceil(found.bottom + down * 0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_volume_is_that_of_the_clip_that_was_cropped_by_hand(clips, channels):
    box = RoiBox(LEFT, TOP, RIGHT, BOTTOM)
    read = boxed(VolumeReader(8, 32, channels, roi="boxes"), {clips[0]: box}).load(clips[0])
    assert read.region[:4] == (LEFT, TOP, RIGHT, BOTTOM)
    hand = VolumeReader(8, 32, channels).read(cropped_by_hand(clips[0], read.region))
    np.testing.assert_array_equal(read.pixels, hand)


def test_a_video_is_cropped_as_a_folder_of_frames_is(tmp_path):
    video(tmp_path / "clip.avi", scan(), codec="ffv1", pixels="bgr0")
    folder(tmp_path / "frames", scan(), "{:02d}.png")
    one, two = (ClipReader(64, roi="moving").load(tmp_path / name) for name in ("clip.avi", "frames"))
    assert one.region == two.region
    np.testing.assert_array_equal(one.pixels, two.pixels)


def test_a_clip_without_motion_is_read_whole_and_says_so(clips):
    read = ClipReader(120, roi="moving").load(clips[1])
    assert read.region == (0, 0, 320, 240, 320, 240, NO_MOTION)
    np.testing.assert_array_equal(read.pixels, ClipReader(120).read(clips[1]))


def test_the_surroundings_are_blackened_within_the_crop(clips):
    read = ClipReader(240, black_out=True, roi="moving", roi_margin=0.3).load(clips[0])
    whole = ClipReader(240, black_out=True).read(clips[0])
    part = whole[:, read.region.top : read.region.bottom, read.region.left : read.region.right]
    assert read.pixels.shape == part.shape and (read.pixels != part).mean() < 0.1
    assert not read.pixels[:, :5].any()


def test_boxes_are_scaled_from_their_frame_and_a_clip_without_one_is_read_whole(clips):
    half = RoiBox(LEFT / 2, TOP / 2, RIGHT / 2, BOTTOM / 2, (160.0, 120.0))
    reader = boxed(ClipReader(300, roi="boxes"), {clips[0]: half, clips[1]: None})
    assert reader.region(clips[0])[:4] == (LEFT, TOP, RIGHT, BOTTOM)
    assert reader.load(clips[1]).region.whole == NO_BOX
    outside = boxed(reader, {clips[0]: RoiBox(0, 0, 400, 100)})
    with pytest.raises(DataError, match=r"its box in roi\.csv ends at 400, 100 px, outside of its frame of 320"):
        outside.load(clips[0])
    with pytest.raises(DataError, match="cropped to the boxes of a table"):
        ClipReader(300, roi="boxes").load(clips[0])


def test_a_box_of_less_than_a_few_px_is_none():
    assert "less than 4 px" in region_of((100, 100), (0.1, 0.1, 0.12, 0.5), 0.0, "").whole
    assert region_of((100, 100), (0.9, 0.0, 1.0, 1.0), 0.5, "")[:4] == (85, 0, 100, 100)


def test_a_cache_keeps_the_region_and_meets_another_box_anew(clips, tmp_path):
    def cache(reader):
        return build_cache(clips, tmp_path / "cache", reader, progress=False)

    whole, moving = cache(ClipReader(64)), cache(ClipReader(64, roi="moving", roi_margin=0.1))
    assert whole.regions() == [None, None] and whole[0].shape != moving[0].shape
    again = cache(ClipReader(64, roi="moving", roi_margin=0.1))
    assert again.regions() == moving.regions() and again.regions()[1].whole == NO_MOTION
    fresh = Files(clips, ClipReader(64, roi="moving", roi_margin=0.1))
    assert fresh.regions() == moving.regions()
    words = "1 of 2 clips are cropped to their region of interest, "
    assert regions_note(again.regions()).startswith(words)
    assert regions_note(again.regions()).endswith("1 is read whole, for none was found (regions.csv)")
    assert regions_note(whole.regions()) == ""
    small, large = RoiBox(0, 0, 80, 80), RoiBox(0, 0, 160, 80)
    shapes = [cache(boxed(ClipReader(64, roi="boxes"), {clips[0]: box}))[0].shape for box in (small, large, small)]
    assert shapes == [(16, 64, 64), (16, 64, 128), (16, 64, 64)]
    assert len({ClipReader(64, roi=roi, roi_margin=m).name for roi in ("moving", "boxes") for m in (0, 0.1)}) == 4


def test_what_cannot_be_cropped_is_refused():
    with pytest.raises(UserError, match=r"data\.clip\.roi 'sector': one of none, moving, boxes"):
        Clip(roi="sector")
    with pytest.raises(UserError, match=r"data\.clip\.roi_margin 2.* from 0 to 1"):
        Clip(roi="moving", roi_margin=2.0)
    with pytest.raises(UserError, match=r"data\.clip\.roi moving: .* not images"):
        make_reader(Clip(roi="moving"), frames=1, size_px=32, cache_px=40, channels=1)
    assert make_reader(Clip(), frames=8, size_px=32, cache_px=40, channels=1).name == ClipReader(40).name


def table(path, text: str):
    path.write_text(text)
    return path


def test_boxes_of_several_frames_become_the_box_around_them(tmp_path):
    rows = "a,10,20,30,40\nb,1,2,3,4\na,5,30,10,50\nc,,,,\n"
    found = read_rois(table(tmp_path / "roi.csv", "id,x_px,y_px,width_px,height_px\n" + rows))
    assert found == {"a": RoiBox(5, 20, 40, 80), "b": RoiBox(1, 2, 4, 6)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,x_px,y_px,width,height_px\na,1,1,5,5", "no column 'width_px'"),
        ("id,x_px,y_px,width_px,height_px\na,1,1,5,x", "row 2: height_px is 'x', not a number of px"),
        ("id,x_px,y_px,width_px,height_px\na,1,1,5,inf", "not a number of px"),
        ("id,x_px,y_px,width_px,height_px\na,1,1,5,0", "row 2: a box without area"),
        ("id,x_px,y_px,width_px,height_px\na,-9,1,5,5", "row 2: the box begins at -9, 1 px"),
        ("id,x_px,y_px,width_px,height_px,frame_width_px\na,1,1,5,5,9", "stand together"),
        ("id,x_px,y_px,width_px,height_px,frame_width_px,frame_height_px\na,1,1,5,5,0,9", "a frame of 0 x 9 px"),
    ],
)
def test_a_box_that_is_none_is_refused(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read_rois(table(tmp_path / "roi.csv", text + "\n"))


def test_cases_without_a_table_of_boxes_are_refused(tmp_path):
    reader, cases = ClipReader(64, roi="boxes"), {"id": ["a", "b"], "path": ["1.mp4", "2.mp4"]}
    with pytest.raises(UserError, match=r"give a manifest with roi\.csv beside it"):
        with_boxes(reader, cases)
    path = table(tmp_path / "roi.csv", "id,x_px,y_px,width_px,height_px\na,1,2,3,4\n")
    found = with_boxes(reader, cases | {ROIS: [str(path)] * 2})
    assert found.boxes == {"1.mp4": RoiBox(1, 2, 4, 6), "2.mp4": None}
    with pytest.raises(DataError, match="no box of any of the 1 cases"):
        with_boxes(reader, {"id": ["c"], "path": ["3.mp4"], ROIS: [str(path)]})
    with pytest.raises(DataError, match="another case, too, with another box"):
        with_boxes(reader, {"id": ["a", "b"], "path": ["1.mp4", "1.mp4"], ROIS: [str(path)] * 2})
    assert with_boxes(ClipReader(64), cases) == ClipReader(64)
