"""Clips in multi-frame DICOM: kinds of colour, depths, transfer syntaxes, frame rates, bad files, silence."""

import re
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.video.clips import clip_info, open_clip, read_clip
from clinvit.tests.datasets.video.made import numbered, numbers, video
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_color_lut
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    HEVCM10P51,
    HEVCMP51,
    MPEG2MPHL,
    MPEG2MPML,
    MPEG2MPMLF,
    MPEG4HP41,
    MPEG4HP41BD,
    MPEG4HP41F,
    MPEG4HP42STEREO,
    MPEG4HP422D,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

COUNT, HEIGHT, WIDTH = 5, 48, 80
RAMP = np.add.outer(np.linspace(0, 100, HEIGHT), np.linspace(0, 105, WIDTH))
GREY = (RAMP[None] + 10 * np.arange(COUNT)[:, None, None]).astype(np.uint8)
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=3)


def dicom(pixels: np.ndarray, bits: int | None = None, syntax=ExplicitVRLittleEndian, **elements) -> Dataset:
    """Frames (T, H, W) or (T, H, W, 3) as a data set; `elements` are added or replaced, None takes one away."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "MRN-4711"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape[:3]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 3 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 3 else "RGB"
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
    dataset.add_new("PixelData", "OB" if pixels.dtype.itemsize == 1 else "OW", raw + b"\0" * (len(raw) % 2))
    for name, value in elements.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    return dataset


def saved(dataset: Dataset, folder: Path) -> Path:
    path = folder / "clip.dcm"
    syntax = dataset.file_meta.TransferSyntaxUID
    little, implicit = syntax.is_little_endian, syntax.is_implicit_VR
    dataset.save_as(path, enforce_file_format=True, implicit_vr=implicit, little_endian=little)
    return path


def mean(colour: np.ndarray) -> np.ndarray:
    return np.rint(colour.astype(float).mean(axis=-1))


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_uncompressed_frames(tmp_path, syntax):
    path = saved(dicom(GREY, syntax=syntax), tmp_path)
    assert np.array_equal(read_clip(path), GREY)
    assert np.array_equal(read_clip(path, ids=[4, 1, 1]), GREY[[4, 1, 1]])
    assert np.array_equal(read_clip(path, colour=True)[..., 2], GREY)
    path = saved(dicom(COLOUR, syntax=syntax), tmp_path)
    assert np.array_equal(read_clip(path, colour=True), COLOUR)
    assert np.array_equal(read_clip(path), mean(COLOUR))
    assert read_clip(path, shorter_px=12).shape == (COUNT, 12, 20)
    info = clip_info(path)
    assert (info.frames, info.height, info.width, info.container, info.colour) == (5, HEIGHT, WIDTH, "DICOM", True)


def test_one_frame_is_a_clip_and_a_missing_count_is_one(tmp_path):
    path = saved(dicom(GREY[:1], NumberOfFrames=None), tmp_path)
    assert np.array_equal(read_clip(path), GREY[:1])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_frames(tmp_path, syntax, pixels):
    dataset = dicom(pixels)
    dataset.compress(syntax, generate_instance_uid=False)
    path = saved(dataset, tmp_path)
    assert np.array_equal(read_clip(path, colour=pixels.ndim == 4, ids=[3, 0]), pixels[[3, 0]])


@pytest.mark.parametrize("table", [True, False], ids=["offsets", "no offsets"])
@pytest.mark.parametrize("fragments", [1, 2])
@pytest.mark.parametrize("kind", ["MONOCHROME2", "YBR_FULL_422", "YBR_FULL"])
def test_jpeg_frames(tmp_path, table, fragments, kind):
    pixels, frames = GREY if kind == "MONOCHROME2" else COLOUR, []
    for frame in pixels:
        file = BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=95, subsampling="4:2:2" if "422" in kind else "4:4:4")
        frames.append(file.getvalue())
    dataset = dicom(pixels, syntax=JPEGBaseline8Bit, PhotometricInterpretation=kind)
    dataset.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table)
    dataset["PixelData"].is_undefined_length = True
    path = saved(dataset, tmp_path)
    read = read_clip(path, colour=pixels.ndim == 4).astype(int)
    assert np.abs(read - pixels).mean() < 2
    assert np.abs(read - pixels).max() <= 12
    assert np.array_equal(read_clip(path, colour=pixels.ndim == 4, ids=[4, 2]), read[[4, 2]])


@pytest.mark.parametrize("planar", [0, 1])
def test_ybr_full_becomes_rgb(tmp_path, planar):
    stored = convert_color_space(COLOUR, "RGB", "YBR_FULL")
    pixels = stored if planar == 0 else stored.transpose(0, 3, 1, 2)
    dataset = dicom(stored, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=planar)
    dataset.PixelData = pixels.tobytes()
    assert np.abs(read_clip(saved(dataset, tmp_path), colour=True).astype(int) - COLOUR).max() <= 2


def test_uncompressed_ybr_full_422_becomes_rgb(tmp_path):
    stored = convert_color_space(COLOUR, "RGB", "YBR_FULL")
    left, right = stored[:, :, ::2], stored[:, :, 1::2]
    pairs = np.stack([left[..., 0], right[..., 0], left[..., 1], left[..., 2]], axis=-1)
    dataset = dicom(COLOUR, PhotometricInterpretation="YBR_FULL_422")
    dataset.PixelData = pairs.tobytes()
    read = read_clip(saved(dataset, tmp_path), colour=True).astype(int)
    assert np.abs(read[:, :, ::2] - COLOUR[:, :, ::2]).max() <= 2
    assert np.abs(read - COLOUR).max() <= 12


def test_palette_becomes_rgb(tmp_path):
    dataset = dicom(GREY, PhotometricInterpretation="PALETTE COLOR")
    for colour, table in zip(("Red", "Green", "Blue"), (np.arange(256), 255 - np.arange(256), np.full(256, 77))):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", (table * 257).astype("<u2").tobytes())
    read = read_clip(saved(dataset, tmp_path), colour=True)
    assert np.array_equal(read, apply_color_lut(GREY, dataset) // 257)
    assert np.array_equal(read[..., 1], 255 - GREY)


@pytest.mark.parametrize(("bits", "dtype"), [(8, "u1"), (10, "u2"), (12, "u2"), (16, "u2"), (12, "i2"), (8, "i1")])
@pytest.mark.parametrize("negative", [False, True])
def test_all_stored_bits_span_the_grey_levels_of_every_frame(tmp_path, bits, dtype, negative):
    pixels = np.rint(GREY / 255.0 * (2**bits - 1)) - (2 ** (bits - 1) if dtype[0] == "i" else 0)
    dataset = dicom(pixels.astype(dtype), bits, PhotometricInterpretation=f"MONOCHROME{1 if negative else 2}")
    read = read_clip(saved(dataset, tmp_path)).astype(int)
    assert np.abs(read - (255 - GREY.astype(int) if negative else GREY)).max() <= 1


def test_a_window_counts(tmp_path):
    path = saved(dicom(GREY.astype(np.uint16) * 4, 10, WindowCenter="400.5", WindowWidth="401"), tmp_path)
    expected = np.rint(np.clip((GREY * 4.0 - 200) / 400, 0, 1) * 255)
    assert np.abs(read_clip(path) - expected).max() <= 1


@pytest.mark.parametrize(
    ("elements", "fps", "last"),
    [
        ({}, None, 4),
        ({"FrameTime": "40"}, 25, 0.16),
        ({"FrameTime": "0", "CineRate": "20"}, 20, 0.2),
        ({"RecommendedDisplayFrameRate": "10", "CineRate": "0"}, 10, 0.4),
        ({"FrameTimeVector": ["0", "10", "10", "10", "70"], "FrameTime": "40"}, 40, 0.1),
        ({"FrameTimeVector": ["0", "10"], "FrameTime": "40"}, 25, 0.16),
        ({"FrameTimeVector": ["0", "0", "0", "0", "0"], "CineRate": "50"}, 50, 0.08),
        ({"FrameTime": "-5", "CineRate": "1000000"}, None, 4),
    ],
)
def test_times(tmp_path, elements, fps, last):
    with open_clip(saved(dicom(GREY, **elements), tmp_path)) as clip:
        assert clip.fps == pytest.approx(fps)
        assert clip.times[0] == 0
        assert clip.times[-1] == pytest.approx(last)


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def stream(path: Path, codec: str, kind: str | None = None, frames=None, **options) -> bytes:
    """A video as it lies in DICOM: in a container, or bare."""
    return video(path / "made", numbered() if frames is None else frames, codec, kind=kind, **options).read_bytes()


def video_dicom(
    data: bytes, syntax: str, fragments: int = 1, table: bool = True, count: int = 40, **elements
) -> Dataset:
    """A data set of one video of 64 x 48 px."""
    blank = np.zeros((count, 48, 64, 3), np.uint8)
    dataset = dicom(blank, syntax=UID(syntax), **({"PhotometricInterpretation": "YBR_PARTIAL_420"} | elements))
    data += b"\0" * (len(data) % 2)
    length = -(-len(data) // fragments) // 2 * 2 + 2
    parts = [data[place : place + length] for place in range(0, len(data), length)]
    items = [struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in parts]
    offsets = struct.pack("<HHII", 0xFFFE, 0xE000, 4, 0) if table else struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    dataset.PixelData = offsets + b"".join(items)
    dataset["PixelData"].is_undefined_length = True
    return dataset


VIDEOS = [
    ("libx264", "mp4", MPEG4HP41, {"g": 8, "bf": 3}),
    ("libx264", "h264", MPEG4HP41, {"g": 8, "bf": 3}),
    ("libx264", "h264", MPEG4HP41F, {"g": 8}),
    ("libx264", "mpegts", MPEG4HP41BD, {"g": 8, "bf": 3}),
    ("libx264", "mpegts", MPEG4HP422D, {"g": 8}),
    ("libx265", "hevc", HEVCMP51, {"x265-params": "log-level=none"}),
    ("libx265", "mp4", HEVCM10P51, {"x265-params": "log-level=none", "pixels": "yuv420p10le"}),
    ("mpeg2video", "mpeg2video", MPEG2MPML, {"g": 8, "bf": 2}),
    ("mpeg2video", "mpeg", MPEG2MPHL, {"g": 8}),
    ("mpeg2video", "mpegts", MPEG2MPMLF, {"g": 8}),
]


@pytest.mark.parametrize(("codec", "kind", "syntax", "options"), VIDEOS)
@pytest.mark.parametrize(("fragments", "table"), [(1, False), (1, True), (7, False)])
def test_a_video_in_dicom_is_read_as_a_video(tmp_path, codec, kind, syntax, options, fragments, table):
    data = stream(tmp_path, codec, kind, **options)
    path = saved(video_dicom(data, syntax, fragments, table, FrameTime="20"), tmp_path)
    with open_clip(path) as clip:
        assert (len(clip), clip.size) == (40, (48, 64))
        assert clip.fps == pytest.approx(50)
        assert numbers(clip[:]) == list(range(40))
        assert numbers(clip[[39, 2, 17]]) == [39, 2, 17]
    info = clip_info(path)
    assert (info.container, info.codec, info.colour) == ("DICOM", UID(syntax).name, True)


@pytest.mark.parametrize(
    ("elements", "fps"),
    [({}, 25), ({"CineRate": "60"}, 60), ({"RecommendedDisplayFrameRate": "15"}, 15), ({"FrameTime": "0"}, 25)],
)
def test_the_header_gives_the_rate_of_a_video_before_its_own(tmp_path, elements, fps):
    path = saved(video_dicom(stream(tmp_path, "libx264", "mp4"), MPEG4HP41, **elements), tmp_path)
    assert clip_info(path).fps == pytest.approx(fps)


@pytest.mark.parametrize("count", [1, 39, 41])
def test_the_frames_of_a_video_decide_and_not_the_count_of_its_header(tmp_path, count):
    path = saved(video_dicom(stream(tmp_path, "libx264", "mp4"), MPEG4HP41, count=count), tmp_path)
    assert numbers(read_clip(path)) == list(range(40))


RED = np.full((4, 48, 64, 3), (180, 60, 40), np.uint8)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["ITU709", "ITU601"])
def test_the_colours_of_a_video_are_right_by_what_it_says(tmp_path, matrix, full):
    data = stream(tmp_path, "libx264", "h264", RED, matrix=matrix, full=full, crf=1)
    path = saved(video_dicom(data, MPEG4HP41), tmp_path)
    assert np.abs(read_clip(path, colour=True).astype(int) - RED).max() <= 4


def test_the_header_gives_the_range_where_a_video_does_not(tmp_path):
    grey = np.full((4, 48, 64, 3), 255, np.uint8)
    data = stream(tmp_path, "libx264", "h264", grey // 2, crf=1)
    limited = read_clip(saved(video_dicom(data, MPEG4HP41), tmp_path))
    full = read_clip(saved(video_dicom(data, MPEG4HP41, PhotometricInterpretation="YBR_FULL_422"), tmp_path))
    assert np.abs(limited.astype(int) - 127).max() <= 1
    assert np.abs(full.astype(int) - (16 + 127 * 219 / 255)).max() <= 2


@pytest.mark.parametrize("syntax", [MPEG4HP42STEREO, "1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.7.1"])
def test_a_transfer_syntax_that_is_not_read_is_named(tmp_path, syntax):
    path = saved(video_dicom(b"x" * 100, syntax), tmp_path)
    with pytest.raises(DataError, match=re.escape(f"the transfer syntax {UID(syntax).name} is not read")):
        read_clip(path)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("fragments", [1, 7])
def test_a_video_cut_off_in_dicom_is_refused(tmp_path, share, fragments):
    path = cut(saved(video_dicom(stream(tmp_path, "libx264", "h264"), MPEG4HP41, fragments), tmp_path), share)
    with pytest.raises(DataError, match=r"cut off|truncated"):
        read_clip(path)


@pytest.mark.parametrize("kind", ["MONOCHROME2", "RGB"])
def test_without_planar_configuration_or_representation_the_usual_ones_hold(tmp_path, kind):
    pixels = GREY if kind == "MONOCHROME2" else COLOUR
    dataset = dicom(pixels, PixelRepresentation=None)
    if kind == "RGB":
        del dataset.PlanarConfiguration
    assert np.array_equal(read_clip(saved(dataset, tmp_path), colour=kind == "RGB"), pixels)


def test_pixels_of_more_bits_must_say_whether_they_are_signed(tmp_path):
    dataset = dicom(GREY.astype(np.uint16) * 16, PixelRepresentation=None, BitsStored=12, HighBit=11)
    with pytest.raises(DataError, match="its header lacks PixelRepresentation"):
        read_clip(saved(dataset, tmp_path))


@pytest.mark.parametrize("planar", [None, 1])
@pytest.mark.parametrize("kind", ["YBR_FULL_422", "YBR_FULL", "RGB"])
def test_the_planar_configuration_of_jpeg_frames_is_of_no_account(tmp_path, kind, planar):
    frames = []
    for frame in COLOUR:
        file = BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=95, subsampling="4:4:4", keep_rgb=kind == "RGB")
        frames.append(file.getvalue())
    dataset = dicom(COLOUR, syntax=JPEGBaseline8Bit, PhotometricInterpretation=kind)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    expected = read_clip(saved(dataset, tmp_path), colour=True)
    if planar is None:
        del dataset.PlanarConfiguration
    else:
        dataset.PlanarConfiguration = planar
    assert np.array_equal(read_clip(saved(dataset, tmp_path), colour=True), expected)
    assert np.abs(expected.astype(int) - COLOUR).mean() < 3


def rle(lose: int) -> Dataset:
    """Compressed frames, some of which are missing."""
    dataset = dicom(GREY)
    dataset.compress(RLELossless, generate_instance_uid=False)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=COUNT))
    dataset.PixelData = encapsulate(frames[: COUNT - lose])
    return dataset


BAD = {
    "cut": (lambda d: cut(saved(dicom(GREY), d), 0.7), "truncated|cut off"),
    "cut compressed": (lambda d: cut(saved(rle(0), d), 0.7), "truncated|cut off"),
    "fewer frames": (lambda d: saved(dicom(GREY, NumberOfFrames=9), d), "cut off: of 9 frames only 5"),
    "fewer compressed": (lambda d: saved(rle(2), d), "cut off: of 5 frames only 3"),
    "no pixels": (lambda d: saved(dicom(GREY, PixelData=None), d), "cut off: of 5 frames only 0"),
    "no image": (lambda d: saved(dicom(GREY, Rows=None, PixelData=None), d), "without images"),
    "too large": (lambda d: saved(dicom(GREY, Rows=20_000, Columns=20_000), d), "20000x20000 px, too large"),
    "too long": (lambda d: saved(dicom(GREY, NumberOfFrames=30_000), d), "at most 20000 frames"),
    "odd colours": (lambda d: saved(dicom(COLOUR, PhotometricInterpretation="HSV"), d), "truncated|not read"),
    "negative count": (lambda d: saved(dicom(GREY, NumberOfFrames=-3), d), "no possible frames"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_gives_one_line_that_names_no_patient(tmp_path, case, capfd, recwarn):
    make, words = BAD[case]
    path = make(tmp_path)
    recwarn.clear()
    with pytest.raises(DataError, match=words) as error:
        read_clip(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert not any(name in message for name in ("Doe", "Jane", "4711"))
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_no_name_enters_the_process(tmp_path):
    path = saved(dicom(GREY), tmp_path)
    with open_clip(path) as clip:
        assert "PatientName" in pydicom.dcmread(path)
        assert "PatientName" not in clip._frames._dataset


def test_real_radiographs_are_clips_of_one_frame(shared_data):
    files = sorted((shared_data / "cxr_formats").glob("*.dcm"))
    assert files
    for path in files:
        assert read_clip(path, shorter_px=64).shape == (1, 64, 64)
