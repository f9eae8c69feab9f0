"""Radiographs in DICOM: transfer syntaxes, depths, the order of the grey-level steps, bad files, silence."""

import base64
import struct
import tracemalloc
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.images.dicom_header import dicom_facts
from clinvit.datasets.images.radiographs import STEP, radiograph_size, read_grey, read_radiograph
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import apply_voi_lut, convert_color_space
from pydicom.uid import (
    HTJ2K,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

HEIGHT, WIDTH = 24, 40
RAMP = np.add.outer(np.linspace(0, 100, HEIGHT), np.linspace(0, 155, WIDTH)).astype(np.uint8)


def same(read: np.ndarray, expected: np.ndarray) -> bool:
    """Equal up to the rounding to multiples of 2^-24."""
    return read.shape == expected.shape and np.abs(read - expected).max() <= 2 * STEP


def dicom(pixels: np.ndarray, bits: int | None = None, syntax=ExplicitVRLittleEndian, **elements) -> Dataset:
    """A minimal radiograph; `elements` are added or replaced."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3"
    dataset.PatientName, dataset.PatientID, dataset.StudyInstanceUID = "Doe^Jane", "MRN-4711", "1.2.9"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset.add_new("PixelData", "OB" if pixels.dtype.itemsize == 1 else "OW", raw + b"\0" * (len(raw) % 2))
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def saved(dataset: Dataset, folder: Path, name: str = "image.dcm") -> Path:
    path = folder / name
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.save_as(
        path,
        enforce_file_format=True,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
    )
    return path


def table_item(first: int, bits: int, entries) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


def recoded(path: Path, syntax: str) -> Path | None:
    """The file in another transfer syntax, by GDCM; None where it has no encoder for these pixels."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    if not change.Change():
        return None
    out = path.with_name(f"{syntax}.dcm")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(out))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return out


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
@pytest.mark.parametrize(("bits", "dtype"), [(8, "u1"), (10, "u2"), (12, "u2"), (16, "u2"), (12, "i2"), (20, "u4")])
def test_uncompressed_dicom(tmp_path, syntax, bits, dtype):
    pixels = np.rint(RAMP / 255 * (2**bits - 1)) - (2 ** (bits - 1) if dtype[0] == "i" else 0)
    path = saved(dicom(pixels.astype(dtype), bits, syntax), tmp_path)
    assert same(read_radiograph(path), (pixels - pixels.min()) / (2**bits - 1))
    assert radiograph_size(path) == RAMP.shape


LOSSLESS = [
    "JPEGLosslessProcess14",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEG2000Lossless",
    "RLELossless",
]
LOSSY = {"JPEGLSNearLossless": 3, "JPEG2000": 3, "JPEGBaselineProcess1": 3, "JPEGExtendedProcess2_4": 3}


@pytest.mark.parametrize(
    ("bits", "dtype"), [(8, "u1"), (10, "u2"), (12, "u2"), (14, "u2"), (16, "u2"), (12, "i2"), (16, "i2")]
)
def test_compressed_dicom(tmp_path, bits, dtype):
    pytest.importorskip("gdcm")
    pixels = np.rint(RAMP / 255 * (2**bits - 1)) - (2 ** (bits - 1) if dtype[0] == "i" else 0)
    original = saved(dicom(pixels.astype(dtype), bits), tmp_path)
    expected = read_radiograph(original)
    read = []
    for syntax in [*LOSSLESS, *LOSSY]:
        path = recoded(original, syntax)
        if path is None:  # baseline and extended JPEG hold unsigned 8 and 12 bits only
            assert syntax in ("JPEGBaselineProcess1", "JPEGExtendedProcess2_4")
            continue
        read.append(syntax)
        difference = np.abs(read_radiograph(path) - expected).max()
        assert difference <= LOSSY.get(syntax, 0) / 255, syntax
    assert set(LOSSLESS) < set(read)
    assert ("JPEGExtendedProcess2_4" in read) == (bits in (8, 10, 12) and dtype[0] == "u")


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_by_pydicom(tmp_path, syntax):
    dataset = dicom(np.tile(RAMP, (2, 1)).astype(np.uint16) * 16, 12)
    expected = read_radiograph(saved(dataset, tmp_path))
    dataset.compress(syntax)
    path = tmp_path / "compressed.dcm"
    dataset.save_as(path)
    assert np.array_equal(read_radiograph(path), expected)


# `RAMP` by OpenJPH 0.26: no library that is installed here writes High-Throughput JPEG 2000.
HTJ2K_RAMP = base64.b64decode(
    "/0//UQApQAAAAAAoAAAAGAAAAAAAAAAAAAAAKAAAABgAAAAAAAAAAAABBwEB/1AACAACAAAAAv9SAAwAAgABAAUEBEAB/1wAEyBIUFBQUFBQ"
    "UFBQUFBQSEhI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAQsAAf+TwCY15QEBdADAEcATQBIAF3MAkpQAQjQA/hdzAMASQBJA"
    "EgBxC5MAQ/Y0AP0A4wDAFXAFdAE4ESDyAAD+0AZ1GAAANU1k/gALAADXfWUZADQAqZsxxgDAFbAFswBVAEEAACD8noXZU+SsKAAAAICABFJE"
    "JAT5DJeSkfyciw3antUXy38AQPhFDHDKgOAYAMAtqAXfQCvAUBSFosD+VXxdndyKXaQp5ElOiqcIMXIMBAEAAAAAAAAAAAAgGGJE27YNAEDg"
    "YASS/ZJ7H1TTVPNSm6igw3XUgdEM1Bj3Uhj3XUgzzDNQY911LnAiGml7AgDwX9Jm14ASSKBEgDEdAP/Z"
)


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
def test_high_throughput_jpeg_2000(tmp_path, syntax):
    dataset = dicom(RAMP, syntax=syntax)
    dataset.PixelData = encapsulate([HTJ2K_RAMP])
    dataset["PixelData"].is_undefined_length = True
    assert same(read_radiograph(saved(dataset, tmp_path)), RAMP / 255)


def test_twelve_bit_extended_jpeg_of_pydicoms_own_files():
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "JPEG-lossy.dcm"
    if not path.exists():
        pytest.skip("this pydicom brings no test files")
    read = read_radiograph(path)
    assert read.shape == (1024, 256)
    assert 0 < read.mean() < 0.2


@pytest.mark.parametrize("preamble", [True, False])
def test_dicom_without_preamble_or_meta(tmp_path, preamble):
    path = saved(dicom(RAMP), tmp_path)
    if not preamble:
        path.write_bytes(path.read_bytes()[132:])
        assert same(read_radiograph(path), RAMP / 255)
    bare = tmp_path / "bare.dcm"
    dataset = dicom(RAMP)
    del dataset.file_meta
    dataset.save_as(bare, implicit_vr=preamble, little_endian=True)
    assert same(read_radiograph(bare), RAMP / 255)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize(
    ("centre", "width"), [(600, 500), ([600, 9], [500, 9]), (2048, 4096), (-300.5, 801.25), (600, 1)]
)
def test_windows_agree_with_pydicom(tmp_path, function, centre, width):
    pixels = np.rint(RAMP / 255 * 4095).astype(np.uint16)
    dataset = dicom(pixels, 12, WindowCenter=centre, WindowWidth=width)
    if function:
        dataset.VOILUTFunction = function
    expected = apply_voi_lut(pixels, dataset) / 4095
    assert np.abs(read_radiograph(saved(dataset, tmp_path)) - expected).max() < 1e-6


def test_the_window_is_in_units_after_the_rescale(tmp_path):
    pixels = np.rint(RAMP / 255 * 4095).astype(np.uint16)
    rescale = {"RescaleSlope": -2, "RescaleIntercept": 1000}
    dataset = dicom(pixels, 12, WindowCenter=-3000, WindowWidth=4001, **rescale)
    expected = (1000 - 2.0 * pixels + 3000.5) / 4000 + 0.5
    assert np.abs(read_radiograph(saved(dataset, tmp_path)) - np.clip(expected, 0, 1)).max() < 1e-6


@pytest.mark.parametrize("window", [(100, 0), (100, 0.5), (100, None), (None, 50), ("", "")])
def test_a_window_that_is_none_gives_way_to_the_range(tmp_path, window):
    dataset = dicom(RAMP.astype(np.uint16), 12, WindowCenter=window[0], WindowWidth=window[1])
    assert same(read_radiograph(saved(dataset, tmp_path)), RAMP / 255)


@pytest.mark.parametrize(("first", "bits"), [(0, 8), (100, 12), (-50, 16)])
def test_voi_tables(tmp_path, first, bits):
    pixels = np.rint(RAMP / 255 * 4095).astype(np.int16 if first < 0 else np.uint16)
    entries = np.rint(np.linspace(0, 1, 3000) ** 2 * (2**bits - 1))
    dataset = dicom(pixels, 13 if first < 0 else 12, WindowCenter=1, WindowWidth=2)
    dataset.VOILUTSequence = [table_item(first, bits, entries)]
    expected = entries[np.clip(pixels.astype(int) - first, 0, 2999)] / (2**bits - 1)
    assert same(read_radiograph(saved(dataset, tmp_path)), expected.astype(np.float32))


def test_modality_table_then_window(tmp_path):
    entries = np.arange(4096)[::-1]
    dataset = dicom(RAMP.astype(np.uint16), 12, WindowCenter=4000.5, WindowWidth=256)
    dataset.ModalityLUTSequence = [table_item(0, 12, entries)]
    expected = (entries[RAMP] - 4000) / 255 + 0.5
    assert np.abs(read_radiograph(saved(dataset, tmp_path)) - np.clip(expected, 0, 1)).max() < 1e-6


def test_padding_is_left_out_of_the_range(tmp_path):
    pixels = RAMP.astype(np.int16) + 500
    pixels[:, :3] = -2000
    path = saved(dicom(pixels, 16, PixelPaddingValue=-2000), tmp_path)
    used = pixels[:, 3:]
    read = read_radiograph(path)
    assert np.all(read[:, :3] == 0)
    assert same(read[:, 3:], (used - used.min()) / np.float32(np.ptp(used)))
    pixels[0, 0] = -1990
    with_range = saved(dicom(pixels, 16, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1900), tmp_path)
    assert np.array_equal(read_radiograph(with_range), read)


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"WindowCenter": 20000, "WindowWidth": 30001},
        {"WindowCenter": 20000, "WindowWidth": 30001, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 100, "WindowWidth": 300, "RescaleSlope": 0.013, "RescaleIntercept": -7},
        {"PixelPaddingValue": 0},
    ],
)
@pytest.mark.parametrize("shorter_px", [None, 17])
def test_monochrome1_is_the_exact_negative(tmp_path, elements, shorter_px):
    pixels = np.random.default_rng(1).integers(0, 65536, RAMP.shape, dtype=np.uint16)
    one = saved(dicom(pixels, PhotometricInterpretation="MONOCHROME1", **elements), tmp_path, "one.dcm")
    two = saved(dicom(pixels, **elements), tmp_path, "two.dcm")
    one, two = read_radiograph(one, shorter_px), read_radiograph(two, shorter_px)
    assert np.array_equal(one, 1 - two)
    assert np.array_equal(two, 1 - one)


def test_the_shared_pair_are_exact_negatives(shared_data):
    folder = shared_data / "cxr_formats"
    one = read_radiograph(folder / "Fake_MONOHR1.dcm")
    two = read_radiograph(next(folder.glob("1.2.*.dcm")))
    assert one.shape == (1024, 1024)
    assert np.array_equal(one, 1 - two)
    assert np.array_equal(two, 1 - one)
    assert two[300:700, 480:540].mean() > two[:40].mean()  # the spine is brighter than the rim


def test_colour_captures_become_grey(tmp_path):
    rgb = np.dstack([RAMP, RAMP, RAMP])
    assert same(read_radiograph(saved(dicom(rgb), tmp_path)), RAMP / 255)
    ybr = np.dstack([RAMP, np.full_like(RAMP, 128), np.full_like(RAMP, 128)])
    path = saved(dicom(ybr, PhotometricInterpretation="YBR_FULL"), tmp_path)
    assert np.abs(read_radiograph(path) - RAMP / 255).max() < 1.01 / 255
    palette = dicom(RAMP, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(palette, f"{colour}PaletteColorLookupTableData", bytes(range(255, -1, -1)))
    assert same(read_radiograph(saved(palette, tmp_path)), 1 - RAMP / 255)


def test_colours_are_kept_in_three_channels(tmp_path):
    rgb = np.dstack([RAMP, RAMP[::-1], 255 - RAMP])
    ybr = np.dstack([np.full_like(RAMP, 120), RAMP, 255 - RAMP])
    palette = dicom(RAMP, PhotometricInterpretation="PALETTE COLOR")
    for colour, table in zip(("Red", "Green", "Blue"), (range(256), range(255, -1, -1), [77] * 256)):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(palette, f"{colour}PaletteColorLookupTableData", bytes(table))
    for dataset, expected in (
        (dicom(rgb), rgb),
        (dicom(rgb.astype(np.uint16) * 257), rgb),
        (palette, np.dstack([RAMP, 255 - RAMP, np.full_like(RAMP, 77)])),
        (dicom(ybr, PhotometricInterpretation="YBR_FULL"), convert_color_space(ybr, "YBR_FULL", "RGB")),
    ):
        path = saved(dataset, tmp_path)
        assert same(read_radiograph(path, channels=3), expected / 255)
        assert read_grey(path).lost_colour
    path = saved(dicom(RAMP, PhotometricInterpretation="MONOCHROME1"), tmp_path)
    assert same(read_radiograph(path, channels=3), 1 - np.dstack([RAMP] * 3) / 255) and not read_grey(path).lost_colour


def test_overlay_bits_are_ignored(tmp_path):
    pixels = np.rint(RAMP / 255 * 4095).astype(np.uint16)
    marked = pixels | np.uint16(0x8000)
    assert same(read_radiograph(saved(dicom(marked, 12), tmp_path)), pixels / 4095)


def test_facts_name_nobody(tmp_path):
    path = saved(dicom(RAMP, ViewPosition="PA", PatientSex="F", PatientAge="045Y"), tmp_path)
    facts = dicom_facts(path, salt="pepper and salt and thyme")
    assert (facts["view"], facts["sex"], facts["age"]) == ("PA", "F", 45)
    assert len(facts["patient"]) == len(facts["study"]) == 16
    assert facts["patient"] != facts["study"]
    assert facts["patient"] != dicom_facts(path, salt="other of them all")["patient"]
    assert facts == dicom_facts(path, salt="pepper and salt and thyme")
    assert not {"MRN-4711", "Doe^Jane", "1.2.9"} & {str(value) for value in facts.values()}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("018M", 1.5),
        ("089Y", 89),
        ("090Y", 90),
        ("104Y", 90),
        ("1200M", 90),
        ("026W", 0.5),
        ("45", 45),
        ("", None),
        ("old", None),
    ],
)
def test_ages(tmp_path, age, years):
    dataset = dicom(RAMP, PatientAge=age)
    del dataset.PatientID
    facts = dicom_facts(saved(dataset, tmp_path), salt="0123456789abcdef")
    assert facts["age"] == years
    assert facts["patient"] == ""


@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY])
@pytest.mark.parametrize("lost", [20, 700])
def test_truncated_compressed_dicom_is_refused(tmp_path, syntax, lost):
    pytest.importorskip("gdcm")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = recoded(saved(dicom(noise), tmp_path), syntax)
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataError, match=r"broken or truncated|ends too early|cut off"):
        read_radiograph(path)


@pytest.mark.parametrize(
    "syntax", ["JPEGLSLossless", "JPEG2000Lossless", "JPEGBaselineProcess1", "JPEGLosslessProcess14_1"]
)
def test_a_frame_without_its_end_is_refused(tmp_path, syntax):
    pytest.importorskip("gdcm")
    path = recoded(saved(dicom(RAMP), tmp_path), syntax)
    dataset = pydicom.dcmread(path)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame])
    dataset.save_as(path)
    read_radiograph(path)
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(path)
    with pytest.raises(DataError, match="ends too early"):
        read_radiograph(path)


def without(name: str) -> Dataset:
    dataset = dicom(RAMP)
    delattr(dataset, name)
    return dataset


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (without("PixelData"), "without pixel data"),
        (without("Rows"), "without an image .it is a Digital X-Ray"),
        (without("BitsAllocated"), "its header lacks BitsAllocated. Export it again"),
        (dicom(RAMP, NumberOfFrames=12), "multi-frame DICOM file .12 frames"),
        (dicom(RAMP.astype(np.uint16), 12, HighBit=15), "retired layout"),
        (dicom(RAMP, BitsStored=12, HighBit=11), "no possible pixels"),
        (dicom(RAMP, PixelRepresentation=114), "no possible pixels"),
        (dicom(RAMP, PhotometricInterpretation="CMYK"), "colours of the kind CMYK are not read"),
        (dicom(RAMP, Rows=HEIGHT + 9), "shorter than its header says: 960 bytes, but 33 rows .* make 1,320"),
    ],
)
def test_dicom_files_that_are_no_radiograph(tmp_path, dataset, words):
    path = saved(dataset, tmp_path)
    with pytest.raises(DataError, match=words) as caught:
        read_radiograph(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "syntax", ["JPEGLSLossless", "JPEGBaselineProcess1", "JPEGLosslessProcess14_1", "JPEG2000Lossless"]
)
def test_a_frame_of_another_size_is_refused(tmp_path, syntax):
    """Before GDCM sees it, which ends the process over some contradictions, or OpenJPEG, which takes all memory."""
    pytest.importorskip("gdcm")
    path = recoded(saved(dicom(RAMP), tmp_path), syntax)
    dataset = pydicom.dcmread(path)
    dataset.Rows, dataset.Columns = WIDTH, HEIGHT
    dataset.save_as(path)
    with pytest.raises(DataError, match="not the one that the header tells of"):
        read_radiograph(path)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize(
    "tag, rows, words",
    [
        (0x7FE00010, 0, "without describing an image"),
        (0x7FE00010, 12_000, "inflates to more than is read .*at most 0.1 GB; CLINVIT_MAX_INFLATED_GB"),
        (0x7FE00010, 100, "inflates to more than its header says"),
        (0x00091001, 0, "without describing an image"),
    ],
    ids=["pixels", "pixels of a giant", "more pixels than declared", "an element before the pixels"],
)
def test_a_deflated_bomb_is_never_inflated_whole(tmp_path, monkeypatch, explicit, tag, rows, words):
    """Also where the meta information is not explicit, as the standard has it, which pydicom reads too."""
    uid = DeflatedExplicitVRLittleEndian.encode() + b"\0" * (len(DeflatedExplicitVRLittleEndian) % 2)
    length = b"UI" + struct.pack("<H", len(uid)) if explicit else struct.pack("<I", len(uid))
    squeeze = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    values = {0x0002: 1, 0x0010: rows, 0x0011: rows, 0x0100: 16} if rows else {}
    sides = [struct.pack("<HH2sHH", 0x0028, each, b"US", 2, value) for each, value in values.items()]
    element = b"".join(sides) + struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"OW", 0, 2**28)
    data = squeeze.compress(element + bytes(2**28)) + squeeze.flush()
    (tmp_path / "bomb.dcm").write_bytes(bytes(128) + b"DICM" + struct.pack("<HH", 2, 0x0010) + length + uid + data)
    monkeypatch.setenv("CLINVIT_MAX_INFLATED_GB", "0.1")
    tracemalloc.start()
    with pytest.raises(DataError, match=f"bomb.dcm: .*{words}"):
        read_radiograph(tmp_path / "bomb.dcm")
    with suppress(DataError):
        dicom_facts(tmp_path / "bomb.dcm", "0123456789abcdef")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def test_an_unknown_transfer_syntax_is_named(tmp_path):
    path = saved(dicom(RAMP), tmp_path)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.20\0\0"))
    with pytest.raises(DataError, match=r"transfer syntax .* is not read"):
        read_radiograph(path)


def test_nothing_is_printed_and_nobody_named(tmp_path, capfd, caplog):
    """A header with wrong values, of which pydicom would warn by quoting them."""
    path = saved(dicom(RAMP, PatientAge="045Y", RescaleSlope=77.5, RescaleIntercept=20), tmp_path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"045Y", b"Doe^").replace(b"77.5", b"Doe^"))
    with warnings.catch_warnings(), pytest.raises(DataError) as caught:
        warnings.simplefilter("error")
        dicom_facts(path, salt="0123456789abcdef")
        read_radiograph(path)
    assert "Doe" not in str(caught.value)
    assert "MRN" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_constant_image_is_allowed(tmp_path):
    path = saved(dicom(np.full((20, 20), 700, np.uint16), 12), tmp_path)
    assert np.all(read_radiograph(path) == 0)


def test_shrinking_averages_areas(tmp_path):
    big = np.random.default_rng(0).integers(0, 4096, (64, 96), dtype=np.uint16)
    path = saved(dicom(big, 12), tmp_path)
    full, small = read_radiograph(path), read_radiograph(path, 32)
    assert same(small, full.reshape(32, 2, 48, 2).mean((1, 3)))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(tmp_path, share):
    path = saved(dicom(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)), tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match="broken or truncated") as caught:
        read_radiograph(path)
    assert str(caught.value).startswith(str(path))


def test_a_huge_image_is_refused_by_its_header(tmp_path, monkeypatch):
    path = saved(dicom(RAMP, Rows=30000, Columns=30000), tmp_path)
    monkeypatch.setattr("clinvit.datasets.images.dicom_frames.get_decoder", lambda syntax: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"30000x30000 px, too large \(at most 200 million px"):
        read_radiograph(path)
    assert radiograph_size(path) == (30000, 30000)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_values_that_are_no_numbers(tmp_path):
    rescaled = dicom(RAMP, RescaleSlope="nan", RescaleIntercept=0, WindowCenter=9, WindowWidth=9)
    with pytest.raises(DataError, match="NaN or infinite"):
        read_radiograph(saved(rescaled, tmp_path))


@pytest.mark.parametrize("kind", ["monochrome1", " MONOCHROME1", "Monochrome1 "])
def test_a_code_in_other_capitals_or_with_blanks_is_the_same_code(tmp_path, kind):
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    usual = saved(dicom(pixels, 12, PhotometricInterpretation="MONOCHROME1"), tmp_path, "a.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = saved(dicom(pixels, 12, PhotometricInterpretation=kind), tmp_path, "b.dcm")
    np.testing.assert_array_equal(read_radiograph(odd), read_radiograph(usual))
    assert read_radiograph(odd)[0, 0] > read_radiograph(odd)[-1, -1]


def test_a_photometric_interpretation_that_dicom_has_not_is_named(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = saved(dicom(np.zeros((64, 64), np.uint16), PhotometricInterpretation="MONOCHROME3"), tmp_path)
    with pytest.raises(DataError, match="PhotometricInterpretation 'MONOCHROME3' is none of DICOM's"):
        read_radiograph(path)
