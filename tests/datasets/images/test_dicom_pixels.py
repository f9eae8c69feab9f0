"""DICOM as archives really hold it: each peculiarity gives the right grey levels, or a refusal that names its cause."""

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.images.grey_range import robust_range
from clinvit.datasets.images.radiographs import radiograph_size, read_radiograph
from clinvit.datasets.loading.readers import ClipReader
from clinvit.tests.datasets.images.test_dicom import RAMP, dicom, recoded, same, saved, table_item
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, JPEGExtended12Bit

DEEP = np.rint(RAMP / 255 * 4095).astype(np.uint16)


def with_texts(dataset, folder: Path, **texts: str) -> Path:
    """The file with texts in place of numbers, which pydicom refuses to write: it is written by hand."""
    for name in texts:
        setattr(dataset, name, "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, text in texts.items():
            element = dataset[name]
            element.VR = "LO"  # of the same form, and free of rules
            element.value = text.split("\\")
        path = saved(dataset, folder)
    data = path.read_bytes()
    for name in texts:
        tag = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(name))
        place = tag.group.to_bytes(2, "little") + tag.elem.to_bytes(2, "little")
        data = data.replace(place + b"LO", place + b"DS")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("centre", "width"),
    [
        ("2048,0", "4096,0"),
        ("2048,0\\500,0", "4096,0\\100,0"),
        ("2.048,0", "4.096,0"),
        ("---\\2048", "---\\4096"),
        ("+2048,", "4096."),
        ("2048", "4096,00"),
    ],
)
def test_windows_as_people_write_them(tmp_path, centre, width):
    expected = read_radiograph(saved(dicom(DEEP, 12, WindowCenter=2048, WindowWidth=4096), tmp_path, "right.dcm"))
    path = with_texts(dicom(DEEP, 12), tmp_path, WindowCenter=centre, WindowWidth=width)
    assert np.array_equal(read_radiograph(path), expected)


@pytest.mark.parametrize("words", ["---", "none", "1,2,3", "ab\\cd", "."])
def test_a_window_of_other_words_is_none(tmp_path, words):
    path = with_texts(dicom(DEEP, 12), tmp_path, WindowCenter=words, WindowWidth=words)
    assert same(read_radiograph(path), DEEP / np.float32(4095))


def test_a_rescale_may_have_a_decimal_comma_and_must_be_a_number(tmp_path):
    window = {"WindowCenter": 1024, "WindowWidth": 2048}
    right = saved(dicom(DEEP, 12, RescaleSlope=0.5, RescaleIntercept=-3, **window), tmp_path, "right.dcm")
    path = with_texts(dicom(DEEP, 12, **window), tmp_path, RescaleSlope="0,5", RescaleIntercept="-3,0")
    assert np.array_equal(read_radiograph(path), read_radiograph(right))
    path = with_texts(dicom(DEEP, 12, **window), tmp_path, RescaleSlope="---", RescaleIntercept="0")
    with pytest.raises(DataError, match="its RescaleSlope is no number"):
        read_radiograph(path)


WINDOW = {"WindowCenter": 2000, "WindowWidth": 4000}
TABLE = {"VOILUTSequence": [table_item(0, 12, np.arange(4096))]}
SIGMOID = WINDOW | {"VOILUTFunction": "SIGMOID"}


@pytest.mark.parametrize("elements", [{}, WINDOW, TABLE, SIGMOID, {"RescaleSlope": -1, "RescaleIntercept": 9}])
@pytest.mark.parametrize("colour", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("dtype", "bits", "value"),
    [("u2", 12, 0), ("u2", 12, 4095), ("u2", 16, 65535), ("i2", 16, -2000), ("u1", 8, 255), ("i2", 12, -2048)],
)
def test_padding_is_black_whatever_is_done_to_the_rest(tmp_path, elements, colour, dtype, bits, value):
    pixels = (np.rint(RAMP / 255 * 200) + 20).astype(dtype)
    pixels[:, :5] = value
    dataset = dicom(pixels, bits, PhotometricInterpretation=colour, **elements)
    plain = read_radiograph(saved(dataset, tmp_path, "plain.dcm"))
    element = pydicom.DataElement("PixelPaddingValue", "SS" if dtype[0] == "i" else "US", value)
    dataset.add(element)
    read = read_radiograph(saved(dataset, tmp_path))
    assert np.all(read[:, :5] == 0)
    if elements not in ({}, {"RescaleSlope": -1, "RescaleIntercept": 9}):
        assert np.array_equal(read[:, 5:], plain[:, 5:])


@pytest.mark.parametrize(("dtype", "stored", "vr", "said"), [("i2", -2000, "US", 63536), ("u2", 65535, "SS", -1)])
def test_padding_in_the_other_representation(tmp_path, dtype, stored, vr, said):
    pixels = RAMP.astype(dtype) + 500
    pixels[:, :3] = stored
    dataset = dicom(pixels, 16)
    dataset.add(pydicom.DataElement("PixelPaddingValue", vr, said))
    read = read_radiograph(saved(dataset, tmp_path))
    assert np.all(read[:, :3] == 0) and read[:, 3:].max() == 1 and read[:, 3:].min() == 0


@pytest.mark.parametrize("colour", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_of_frames_is_black_too(tmp_path, colour):
    frames = np.stack([RAMP, RAMP])
    frames[:, :, :4] = 255
    dataset = dicom(frames[0], 8, PhotometricInterpretation=colour, NumberOfFrames=2, PixelPaddingValue=255)
    dataset.PixelData = frames.tobytes()
    clip = ClipReader(32).read(saved(dataset, tmp_path))
    assert np.all(clip[:, :, :3] == 0)


@pytest.mark.parametrize("used", [8, 10, 12, 15])
@pytest.mark.parametrize("most", [1.0, 0.75])
def test_a_voi_table_narrower_than_declared_spans_everything(tmp_path, used, most):
    entries = np.rint(np.linspace(0, most * (2**used - 1), 4096))
    dataset = dicom(DEEP, 12)
    dataset.VOILUTSequence = [table_item(0, 16, entries)]
    assert same(read_radiograph(saved(dataset, tmp_path)), (entries[DEEP] / entries.max()).astype(np.float32))


def test_a_voi_table_that_uses_its_bits_is_left_alone(tmp_path):
    entries = np.rint(np.linspace(0, 3000, 4096))
    dataset = dicom(DEEP, 12)
    dataset.VOILUTSequence = [table_item(0, 12, entries)]
    assert same(read_radiograph(saved(dataset, tmp_path)), (entries[DEEP] / 4095).astype(np.float32))


def test_a_palette_narrower_than_declared(tmp_path):
    dataset = dicom(RAMP, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", np.arange(256, dtype="<u2").tobytes())
    assert same(read_radiograph(saved(dataset, tmp_path)), RAMP / 255)
    assert same(read_radiograph(saved(dataset, tmp_path), channels=3), np.dstack([RAMP] * 3) / 255)


def test_a_table_shorter_than_it_says_is_refused(tmp_path):
    item = table_item(0, 12, np.arange(4096))
    item.LUTDescriptor = [8192, 0, 12]
    dataset = dicom(DEEP, 12, VOILUTSequence=[item])
    with pytest.raises(DataError, match="VOILUTSequence has 4096 entries, but says 8192"):
        read_radiograph(saved(dataset, tmp_path))


RGB = np.dstack([RAMP, RAMP[::-1], 255 - RAMP])


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_in_either_order_of_channels(tmp_path, planar):
    dataset = dicom(RGB, PlanarConfiguration=planar)
    dataset.PixelData = (RGB if planar == 0 else RGB.transpose(2, 0, 1)).tobytes()
    assert same(read_radiograph(saved(dataset, tmp_path), channels=3), RGB / 255)


@pytest.mark.parametrize(
    "syntax", ["JPEGBaselineProcess1", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"]
)
def test_the_order_of_channels_does_not_matter_in_compressed_data(tmp_path, syntax):
    pytest.importorskip("gdcm")
    path = recoded(saved(dicom(RGB), tmp_path), syntax)
    expected = read_radiograph(path, channels=3)
    assert np.abs(expected - RGB / 255).mean() < 0.08
    dataset = pydicom.dcmread(path)
    dataset.PlanarConfiguration = 1 - dataset.PlanarConfiguration
    dataset.save_as(path)
    assert np.array_equal(read_radiograph(path, channels=3), expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Rows": 20}, "longer than its header says: 960 bytes, but 20 rows"),
        ({"Rows": 25}, "shorter than its header says: 960 bytes"),
        ({"Columns": 41}, "shorter than its header says"),
        ({"Columns": 39}, "longer than its header says"),
        ({"BitsAllocated": 16, "BitsStored": 8}, "shorter than its header says"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}, "shorter"),
        ({"BitsAllocated": 12}, "retired layout"),
    ],
)
def test_pixel_data_that_the_header_does_not_describe(tmp_path, change, words):
    with pytest.raises(DataError, match=words) as caught:
        read_radiograph(saved(dicom(RAMP, **change), tmp_path))
    assert "etch it again" not in str(caught.value)


def test_sixteen_bits_that_the_header_calls_eight(tmp_path):
    dataset = dicom(DEEP, 12)
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    with pytest.raises(DataError, match=r"longer than its header says: 1,920 bytes, but .* 8 bits .* make 960"):
        read_radiograph(saved(dataset, tmp_path))


@pytest.mark.parametrize("filled", [1, 16])
def test_pixel_data_may_be_filled_up(tmp_path, filled):
    dataset = dicom(RAMP)
    dataset.PixelData = RAMP.tobytes() + b"\0" * filled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(read_radiograph(saved(dataset, tmp_path)), RAMP / 255)


def jpeg(pixels: np.ndarray, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95, **options)
    return out.getvalue()


SMOOTH = np.dstack(
    [np.tile(np.arange(64) * 4, (48, 1)), np.tile(np.arange(48)[:, None] * 5, 64), np.full((48, 64), 90)]
)


def coloured_jpeg(mark: str, **options) -> bytes:
    """A JPEG with JFIF's mark, Adobe's (transformed or not) or none."""
    raw = jpeg(SMOOTH.astype(np.uint8), **options)
    if mark in ("jfif", "adobe 0"):
        return raw
    place = raw.index(b"\xff\xe0")
    rest = raw[place + 2 + int.from_bytes(raw[place + 2 : place + 4], "big") :]
    return raw[:place] + (b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01" if mark == "adobe 1" else b"") + rest


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("said", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("jfif", {"subsampling": 2}),
        ("jfif", {"subsampling": 0}),
        ("adobe 1", {"subsampling": 2}),
        ("adobe 1", {"subsampling": 0}),
        ("adobe 0", {"keep_rgb": True}),
        ("none", {"subsampling": 2}),
    ],
)
def test_colours_of_a_jpeg_are_those_it_was_encoded_with(tmp_path, syntax, planar, said, mark, options):
    dataset = dicom(SMOOTH.astype(np.uint8), syntax=syntax, PhotometricInterpretation=said, PlanarConfiguration=planar)
    dataset.PixelData = encapsulate([coloured_jpeg(mark, **options)])
    dataset["PixelData"].is_undefined_length = True
    read = read_radiograph(saved(dataset, tmp_path), channels=3)
    assert np.abs(read - SMOOTH / 255).max() < 6 / 255


def test_one_cause_one_message(tmp_path):
    compressed = encapsulate([jpeg(RAMP)])
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        dataset = dicom(RAMP, syntax=syntax)
        dataset.PixelData = compressed
        with pytest.raises(DataError, match="pixel data are compressed, but its transfer syntax is") as caught:
            read_radiograph(saved(dataset, tmp_path))
        assert "etch it again" not in str(caught.value)
    dataset = dicom(RAMP, syntax=JPEGBaseline8Bit)
    dataset["PixelData"].is_undefined_length = False
    path = tmp_path / "wrong.dcm"
    plain = saved(dicom(RAMP), tmp_path).read_bytes()
    path.write_bytes(plain.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.50", 1))
    fixed = bytearray(path.read_bytes())
    at = fixed.index(b"1.2.840.10008.1.2.4.50")
    fixed[at - 2 : at] = (22).to_bytes(2, "little")
    length = fixed.index(b"UL\x04\x00") + 4
    fixed[length : length + 4] = (int.from_bytes(fixed[length : length + 4], "little") + 2).to_bytes(4, "little")
    path.write_bytes(fixed)
    with pytest.raises(DataError, match="but its pixel data are not compressed so"):
        read_radiograph(path)


@pytest.mark.parametrize(
    "name",
    ["PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation"],
)
def test_a_missing_element_is_named(tmp_path, name):
    dataset = dicom(RAMP.astype(np.uint16) * 16, 12)
    delattr(dataset, name)
    with pytest.raises(DataError, match=f"its header lacks {name}. Export it again"):
        read_radiograph(saved(dataset, tmp_path))


def test_more_compressed_frames_than_the_header_says(tmp_path):
    dataset = dicom(RAMP, syntax=JPEGBaseline8Bit)
    dataset.PixelData = encapsulate([jpeg(RAMP), jpeg(255 - RAMP)])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(DataError, match="list 2 frames, its header says 1"):
        read_radiograph(saved(dataset, tmp_path))


@pytest.mark.parametrize("odd", [1, 3])
@pytest.mark.parametrize("kind", ["dicom", "png"])
def test_a_few_odd_pixels_do_not_set_the_range(tmp_path, odd, kind):
    pixels = np.rint(np.random.default_rng(0).normal(2000, 300, (96, 96)).clip(1000, 4095)).astype(np.uint16)
    marked = pixels.copy()
    marked.flat[:odd] = 65535
    if kind == "png":
        path = tmp_path / "image.png"
        Image.fromarray(marked).save(path)
        expected = np.clip(marked / 4095, 0, 1)
    else:
        path = saved(dicom(marked, 16), tmp_path)
        low, high = pixels.min(), pixels.flat[odd:].max()
        expected = np.clip((marked.astype(np.float64) - low) / (high - low), 0, 1)
    assert np.abs(read_radiograph(path) - expected).max() < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_the_range_of_a_usual_image_is_exact(seed):
    values = np.random.default_rng(seed).gamma(2, 300, (64, 64))
    assert robust_range(values) == (values.min(), values.max())
    box = np.zeros((64, 64))
    box[3, 4] = 7  # nothing else is in it
    assert robust_range(box) == (0, 7) and robust_range(np.array([])) == (0, 0)


@pytest.mark.parametrize(
    "elements",
    [
        {"PixelSpacing": [0.2, 0.1]},
        {"ImagerPixelSpacing": [0.2, 0.1]},
        {"NominalScannedPixelSpacing": [0.2, 0.1]},
        {"PixelAspectRatio": [2, 1]},
        {"PixelSpacing": [0.2, 0.1], "PixelAspectRatio": [1, 3]},
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square_become_so(tmp_path, elements, turned):
    yy, xx = np.mgrid[0:64, 0:128]
    disc = ((xx - 64) ** 2 + (2 * yy - 64) ** 2 < 50**2).astype(np.uint8) * 200  # rows twice as far apart as columns
    if turned:
        disc, elements = disc.T.copy(), {name: each[::-1] for name, each in elements.items()}
    path = saved(dicom(disc, **elements), tmp_path)
    read = read_radiograph(path)
    assert read.shape == radiograph_size(path) == (128, 128)
    rows, columns = (np.ptp(np.flatnonzero((read > 0.4).any(axis=axis))) for axis in (0, 1))
    assert abs(rows - columns) <= 2 and abs(rows - 99) <= 2
    assert read_radiograph(path, 32).shape == (32, 32)


@pytest.mark.parametrize(
    "elements", [{"PixelSpacing": [0.1, 0.1005]}, {"PixelSpacing": [0, 0]}, {"PixelSpacing": None}, {}]
)
def test_square_pixels_stay_as_they_are(tmp_path, elements):
    assert same(read_radiograph(saved(dicom(RAMP, **elements), tmp_path)), RAMP / 255)


def test_impossible_pixels_are_refused(tmp_path):
    with pytest.raises(DataError, match="its pixels are 1000 times as high as wide"):
        read_radiograph(saved(dicom(RAMP, PixelSpacing=[100, 0.1]), tmp_path))


@pytest.mark.parametrize("channels", [1, 3])
def test_cmyk_jpeg(tmp_path, channels):
    rgb = np.dstack([np.full((40, 40), 200), np.full((40, 40), 120), np.full((40, 40), 30)]).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "cmyk.tif")
    expected = read_radiograph(tmp_path / "rgb.png", channels=channels)
    for name in ("cmyk.jpg", "cmyk.tif"):
        assert np.abs(read_radiograph(tmp_path / name, channels=channels) - expected).max() < 0.02, name


def test_floating_point_pixels_are_named(tmp_path):
    dataset = dicom(RAMP, BitsAllocated=32)
    del dataset.PixelData
    dataset.FloatPixelData = RAMP.astype("<f4").tobytes()
    with pytest.raises(DataError, match="its pixels are floating-point numbers"):
        read_radiograph(saved(dataset, tmp_path))


@pytest.mark.parametrize("missing", [["PlanarConfiguration"], ["PixelRepresentation"]])
@pytest.mark.parametrize("pixels", [RAMP, RGB], ids=["grey", "RGB"])
def test_what_leaves_no_choice_may_be_missing(tmp_path, missing, pixels):
    """Images and clips have one rule: 8 bits and colours are unsigned, colours lie pixel by pixel."""
    whole = read_radiograph(saved(dicom(pixels), tmp_path))
    dataset = dicom(pixels)
    for name in missing:
        if name in dataset:
            delattr(dataset, name)
    np.testing.assert_array_equal(read_radiograph(saved(dataset, tmp_path)), whole)
