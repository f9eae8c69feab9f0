"""What a player shows of a video is what is read: its edit list and its display matrix count, no count of a header."""

import struct

import av
import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.video.clips import clip_info, open_clip, read_clip
from clinvit.tests.datasets.video.made import edited, gif, numbered, numbers, shortened, video

EDITS = {
    "the start is cut": [(33, 7)],
    "the end is cut": [(20, 0)],
    "both are cut": [(20, 5)],
    "one key frame": [(1, 12)],
    "one other frame": [(1, 17)],
    "the middle is cut": [(8, 0), (10, 25)],
    "three parts": [(3, 2), (4, 15), (5, 31)],
    "an empty start": [(10, -1), (40, 0)],
    "an empty start and cut": [(10, -1), (13, 9)],
    "all": [(40, 0)],
}


@pytest.mark.parametrize("bf", [0, 3])
@pytest.mark.parametrize("edits", EDITS.values(), ids=EDITS)
def test_an_edit_list_decides_which_frames_there_are(tmp_path, edits, bf):
    path = edited(video(tmp_path / "x.mp4", numbered(), g=12, bf=bf), edits)
    shown = [number for count, first in edits if first >= 0 for number in range(first, first + count)]
    with open_clip(path) as clip:
        assert numbers(clip[:]) == shown
        assert (np.diff(clip.times) > 0).all()
        for ids in ([len(shown) - 1], [0], [len(shown) // 2]):
            assert numbers(clip[ids]) == [shown[ids[0]]]


def test_a_file_cut_off_is_still_refused_behind_an_edit_list(tmp_path):
    path = edited(video(tmp_path / "x.mp4", numbered(40, 96, 96) + NOISE), [(40, 0)])
    data = bytearray(path.read_bytes())
    place = data.index(b"stsz") + 4 + 12 + 4 * 39  # the last frame is said to be longer than the file
    data[place : place + 4] = struct.pack(">I", 10**6)
    path.write_bytes(data)
    with pytest.raises(DataError, match="cut off"):
        read_clip(path)


NOISE = np.random.default_rng(0).integers(0, 20, (40, 96, 96, 1), np.uint8)


def avi(folder, frames=40):
    return video(folder / "x.avi", numbered(frames, 96, 96) + NOISE[:frames], "mpeg4", g=8)


@pytest.mark.parametrize("claimed", [0, 12, 10**6])
def test_a_count_in_the_header_of_an_avi_decides_nothing(tmp_path, claimed):
    path = avi(tmp_path)
    data = bytearray(path.read_bytes())
    for place in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):  # dwTotalFrames, dwLength
        data[place : place + 4] = struct.pack("<I", claimed)
    path.write_bytes(data)
    assert len(read_clip(path)) == 40


@pytest.mark.parametrize("more", [8, 4096, 0xFFFFFFFF])
def test_a_length_in_the_header_of_an_avi_decides_nothing(tmp_path, more):
    path = avi(tmp_path)
    data = bytearray(path.read_bytes())
    data[4:8] = struct.pack("<I", min(0xFFFFFFFF, len(data) + more))
    path.write_bytes(data)
    assert len(read_clip(path)) == 40


def test_a_gif_is_whole_without_its_last_byte_and_with_others_behind_it(tmp_path):
    path = gif(tmp_path / "x.gif", numbered(12))
    whole = path.read_bytes()
    for data in (whole[:-1], whole + b"\0\0", whole + b"made by a camera"):
        path.write_bytes(data)
        assert numbers(read_clip(path)) == list(range(12))
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="cut off"):
        read_clip(path)


LIVE = {
    "mp4 in fragments": ("x.mp4", {"mux": {"movflags": "frag_keyframe+empty_moov"}}),
    "matroska recorded live": ("x.mkv", {"mux": {"live": "1"}}),
}


@pytest.mark.parametrize("case", LIVE)
def test_a_file_without_counts_is_whole(tmp_path, case):
    name, options = LIVE[case]
    path = video(tmp_path / name, numbered(), g=8, bf=3, **options)
    assert numbers(read_clip(path)) == list(range(40))
    assert clip_info(path).fps == pytest.approx(25, rel=0.01)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("x.mp4", "libx264", {"mux": {"movflags": "frag_keyframe+empty_moov"}}),
        ("x.flv", "libx264", {}),
        ("x.ogv", "libvpx", {}),
        ("x.ts", "libx264", {}),
        ("x.wmv", "wmv2", {}),
        ("x.mkv", "libx264", {}),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_what_is_cut_within_a_frame_is_refused(tmp_path, name, codec, options, share):
    path = video(tmp_path / name, numbered(40, 96, 96) + NOISE, codec, g=8, **options)
    with pytest.raises(DataError, match=r"cut off|broken|damaged"):
        read_clip(shortened(path, share))


def shown(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Where each pixel of (H, W, ...) goes by x' = a x + c y, y' = b x + d y, one after the other."""
    a, b, c, d = matrix
    height, width = image.shape[:2]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    new_x, new_y = a * x + c * y, b * x + d * y
    new_x, new_y = new_x - new_x.min(), new_y - new_y.min()
    result = np.empty((new_y.max() + 1, new_x.max() + 1, *image.shape[2:]), image.dtype)
    result[new_y, new_x] = image
    return result


EIGHT = [
    *((1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)),
    *((0, 1, 1, 0), (0, 1, -1, 0), (0, -1, 1, 0), (0, -1, -1, 0)),
]


@pytest.mark.parametrize("matrix", EIGHT)
def test_all_eight_orientations_are_shown_as_players_do(tmp_path, matrix):
    draw = np.random.default_rng(1)
    corner = np.zeros((3, 48, 64, 3), np.uint8)
    corner[:, :12, :16], corner[:, 40:, :8], corner[:, :8, 56:] = (200, 40, 90), 255, 128
    corner += draw.integers(0, 5, corner.shape, np.uint8)
    path = video(tmp_path / "x.mp4", corner, crf=1)
    stored = read_clip(path, colour=True)
    small = read_clip(path, colour=True, shorter_px=24).astype(int)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    read = read_clip(path, colour=True)
    assert np.array_equal(read, np.stack([shown(frame, matrix) for frame in stored]))
    expected = np.stack([shown(frame, matrix) for frame in small])
    assert np.abs(read_clip(path, colour=True, shorter_px=24) - expected).max() <= 2
    info = clip_info(path)
    assert (info.height, info.width) == read.shape[1:3]


@pytest.mark.parametrize("flips", [{}, {"hflip": True}, {"vflip": True}])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_filters_of_ffmpeg_show_the_same(tmp_path, degrees, flips, suffix):
    """As its program does it: transpose or flip by the signs of the matrix."""
    path = tmp_path / f"x.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV writes no display matrix")
        stream.set_display_rotation(degrees, **flips)
        for frame in numbered(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        matrix = next((np.frombuffer(bytes(one), np.int32) for one in frame.side_data if one.type.value == 6), None)
        stored = frame.to_ndarray(format="rgb24")
    expected = stored
    if matrix is not None:
        turn = -frame.rotation % 360
        if turn == 90:
            expected = np.rot90(stored, -1) if matrix[3] < 0 else stored.swapaxes(0, 1)
        elif turn == 270:
            expected = np.rot90(stored) if matrix[3] > 0 else stored[::-1, ::-1].swapaxes(0, 1)
        else:
            expected = stored[:: -1 if matrix[4] < 0 else 1, :: -1 if matrix[0] < 0 else 1]
    assert np.array_equal(read_clip(path, colour=True)[0], expected)
