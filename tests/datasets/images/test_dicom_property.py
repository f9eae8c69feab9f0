"""Random but legal radiographs, and all files that pydicom brings, against the standard's formulas written anew."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pydicom
from clinvit.core.errors import DataError
from clinvit.datasets.images.radiographs import read_radiograph
from clinvit.tests.datasets.images.test_dicom import dicom, saved, table_item
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@st.composite
def radiographs(draw):
    """Stored pixels, how they are written, and the elements of their header."""
    bits = draw(st.sampled_from([8, 10, 12, 14, 16]))
    signed = draw(st.booleans())
    height, width = draw(st.integers(33, 48)), draw(st.integers(33, 48))
    low = -(2 ** (bits - 1)) if signed else 0
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels = random.integers(low, low + 2**bits, (height, width), np.int64)
    elements = {"PhotometricInterpretation": draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))}
    modality = draw(st.sampled_from(["none", "rescale", "table"]))
    if modality == "rescale":
        elements["RescaleSlope"] = draw(st.sampled_from([1, -1, 0.5, 2.25]))
        elements["RescaleIntercept"] = draw(st.sampled_from([0, -1024, 7.5]))
    if modality == "table":
        entries = np.sort(random.integers(0, 4096, draw(st.integers(2**bits // 4, min(2**bits, 65535)))))
        elements["ModalityLUTSequence"] = [table_item(low if signed else 0, 12, entries)]
    voi = draw(st.sampled_from(["none", "window", "windows", "table"]))
    if voi.startswith("window"):
        centre, width = draw(st.integers(-3000, 5000)), draw(st.integers(2, 9000))
        several = voi == "windows"
        elements["WindowCenter"], elements["WindowWidth"] = ([centre, 1], [width, 9]) if several else (centre, width)
        if shape := draw(st.sampled_from(["", "LINEAR", "LINEAR_EXACT", "SIGMOID"])):
            elements["VOILUTFunction"] = shape
    if voi == "table":
        depth = draw(st.integers(8, 16))
        entries = random.integers(0, 2**depth, draw(st.integers(2, 5000)))
        entries[0] = 2**depth - 1
        elements["VOILUTSequence"] = [table_item(draw(st.integers(-200, 200)), depth, entries)]
    if draw(st.booleans()):
        elements["PixelPaddingValue"] = int(draw(st.sampled_from([low, low + 2**bits - 1, int(pixels[0, 0])])))
        if draw(st.booleans()):
            elements["PixelPaddingRangeLimit"] = int(elements["PixelPaddingValue"] + draw(st.integers(-1, 1)))
    container = 8 if bits == 8 else 16
    pixels = pixels.astype(f"{'i' if signed else 'u'}{container // 8}")
    for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if name in elements:
            elements[name] = int(np.clip(elements[name], np.iinfo(pixels.dtype).min, np.iinfo(pixels.dtype).max))
    return pixels, bits, elements, draw(st.sampled_from([*NATIVE, RLELossless, JPEG2000Lossless])), draw(st.booleans())


def looked_up(values: np.ndarray, item) -> np.ndarray:
    count, first, _ = item.LUTDescriptor
    entries = np.array(item.LUTData, np.float64)
    return entries[np.clip(np.rint(values).astype(int) - first, 0, count - 1)]


def by_the_standard(pixels: np.ndarray, bits: int, elements: dict) -> np.ndarray:
    """Grey levels in 0..1 by PS3.3 C.11 and C.7.5.1.1.2, in double precision."""
    values, padding = pixels.astype(np.float64), np.zeros(pixels.shape, bool)
    if "PixelPaddingValue" in elements:
        one = elements["PixelPaddingValue"]
        other = elements.get("PixelPaddingRangeLimit", one)
        padding = (pixels >= min(one, other)) & (pixels <= max(one, other))
    slope, intercept = elements.get("RescaleSlope", 1), elements.get("RescaleIntercept", 0)
    if "ModalityLUTSequence" in elements:
        values = looked_up(values, elements["ModalityLUTSequence"][0])
    else:
        values = values * slope + intercept
    if "VOILUTSequence" in elements:
        item = elements["VOILUTSequence"][0]
        levels = looked_up(values, item) / (2 ** item.LUTDescriptor[2] - 1)
    elif "WindowCenter" in elements:
        centre, width = (np.ravel(elements[name])[0] for name in ("WindowCenter", "WindowWidth"))
        shape = elements.get("VOILUTFunction", "LINEAR")
        if shape == "SIGMOID":
            levels = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
        elif shape == "LINEAR_EXACT":
            levels = np.clip((values - (centre - width / 2)) / width, 0, 1)
        else:
            levels = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    else:
        used = values[~padding]
        low, high = (used.min(), used.max()) if used.size else (0, 0)
        if bits == 8 and "ModalityLUTSequence" not in elements:
            ends = np.array([-128, 127] if pixels.dtype.kind == "i" else [0, 255]) * slope + intercept
            low, high = ends.min(), ends.max()
        levels = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    levels = 1 - levels if elements["PhotometricInterpretation"] == "MONOCHROME1" else levels
    return np.where(padding, 0, levels)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(radiographs())
def test_legal_radiographs_are_read_as_the_standard_says(tmp_path, radiograph):
    pixels, bits, elements, syntax, preamble = radiograph
    dataset = dicom(pixels, bits, syntax if syntax in NATIVE else ExplicitVRLittleEndian, **elements)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if syntax not in NATIVE:
            dataset.compress(syntax, encoding_plugin="pydicom" if syntax == RLELossless else "pylibjpeg")
        path = saved(dataset, tmp_path)
    if not preamble and syntax != DeflatedExplicitVRLittleEndian:
        path.write_bytes(path.read_bytes()[132:])
    assert np.abs(read_radiograph(path) - by_the_standard(pixels, bits, elements)).max() < 2e-6


def bundled() -> list[Path]:
    """All files that pydicom brings, and those of pydicom-data where it is installed."""
    roots = [Path(pydicom.__file__).parent / "data"]
    if (data := importlib.util.find_spec("pydicom_data")) is not None:
        roots += [Path(place) for place in data.submodule_search_locations or ()]
    endings = (".py", ".pyc", ".json", ".txt", ".md", ".csv")
    return sorted(file for root in roots for file in root.rglob("*") if file.is_file() and file.suffix not in endings)


# What is not read: a part of the refusal, and how many files of pydicom 3.0 at least are refused so.
REFUSALS = {
    "a DICOM file without an image": 60,
    "without pixel data": 1,
    "a multi-frame DICOM file": 5,
    "no image that is read here": 0,
    "px, too small": 1,
    "broken or truncated DICOM file": 1,
    "the file is empty": 0,
    "is not read": 0,
    "not the one that the header tells of": 0,
    "ends too early": 0,
}


def test_every_file_that_pydicom_brings_is_right_or_refused_with_its_reason(capfd):
    counts, compared, unlike = dict.fromkeys(REFUSALS, 0), 0, []
    for file in bundled():
        try:
            read = read_radiograph(file)
        except DataError as refused:
            assert str(refused).startswith(f"{file}: ")
            known = [words for words in REFUSALS if words in str(refused)]
            assert known, f"another refusal: {refused}"
            counts[known[0]] += 1
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = independently(file)
        if expected is not None:
            compared += 1
            if read.shape != expected.shape or np.abs(read - expected).max() > 2e-6:
                unlike.append(file.name)
    assert not unlike
    assert compared >= 30 and all(counts[words] >= least for words, least in REFUSALS.items())


def independently(file: Path) -> np.ndarray | None:
    """Grey levels of a file whose stored pixels pydicom decodes by itself; None of colours and what is rarer."""
    dataset = pydicom.dcmread(file, force=True)
    if "PhotometricInterpretation" not in dataset or not dataset.PhotometricInterpretation.startswith("MONOCHROME"):
        return None
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or [1, 1]
    if abs(spacing[0] / spacing[1] - 1) > 0.01 or dataset.get("PixelAspectRatio", [1, 1]) != [1, 1]:
        return None
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
        )
    try:
        pixels = dataset.pixel_array
    except Exception:  # what pydicom cannot decode by itself cannot be compared
        return None
    names = (
        "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence",
        "WindowCenter", "WindowWidth", "VOILUTFunction", "PixelPaddingValue", "PixelPaddingRangeLimit",
    )  # fmt: skip
    elements = {name: dataset[name].value for name in names if dataset.get(name) not in (None, "", [])}
    for name in ("RescaleSlope", "RescaleIntercept"):
        if name in elements:
            elements[name] = float(elements[name])
    for name in ("WindowCenter", "WindowWidth"):
        if name in elements:
            elements[name] = np.ravel(elements[name]).astype(float)
    return by_the_standard(pixels, dataset.BitsStored, elements)
