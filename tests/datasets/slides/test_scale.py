"""Microns per pixel: what is believed, what is refused, and what the message tells to do."""

import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.slides.scale import MppOverride, Scale, microns_per_px, openslide_scale

OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels DimensionOrder='
    '"XYCZT" PhysicalSizeX="{}" PhysicalSizeXUnit="{}" PhysicalSizeY="{}" PhysicalSizeYUnit="{}"/></Image></OME>'
)


@pytest.mark.parametrize(
    "properties, x_um, y_um",
    [
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26", "aperio.MPP": "9"}, 0.25, 0.26),
        ({"aperio.MPP": "0.499"}, 0.499, 0.499),
        ({"tiff.XResolution": "40000", "tiff.YResolution": "20000", "tiff.ResolutionUnit": "centimeter"}, 0.25, 0.5),
        ({"tiff.XResolution": "50800", "tiff.YResolution": "50800", "tiff.ResolutionUnit": "inch"}, 0.5, 0.5),
        ({"tiff.XResolution": "1", "tiff.YResolution": "1", "tiff.ResolutionUnit": "none"}, None, None),
        ({"openslide.mpp-x": "0.25"}, None, None),
        ({"openslide.mpp-x": "nan", "openslide.mpp-y": "-1"}, None, None),
        ({"aperio.MPP": "unknown"}, None, None),
        ({"tiff.ImageDescription": OME.format("0.25", "µm", "0.25", "µm")}, 0.25, 0.25),
        ({"tiff.ImageDescription": OME.format("250", "nm", "2.6e2", "nm")}, 0.25, 0.26),
        ({"tiff.ImageDescription": OME.format("0.5", "&#181;m", "0.0005", "mm")}, 0.5, 0.5),
        ({"tiff.ImageDescription": OME.format("1", "pixel", "1", "pixel")}, None, None),
        ({"tiff.ImageDescription": OME.format("0.5", "µm", "0.5", "µm"), "openslide.mpp-x": "352.8",
          "openslide.mpp-y": "352.8"}, 0.5, 0.5),
        ({"tiff.ImageDescription": "Exported |AppMag = 20|MPP = 0.4990"}, 0.499, 0.499),
        ({"tiff.ImageDescription": "<PerkinElmer-QPI-ImageDescription><PixelSizeMicrons>0.5</PixelSizeMicrons></x>"},
         0.5, 0.5),
        ({"tiff.ImageDescription": "ImageJ=1.53\nunit=micron\n", "tiff.XResolution": "4", "tiff.YResolution": "2",
          "tiff.ResolutionUnit": "none"}, 0.25, 0.5),
        ({"tiff.ImageDescription": "ImageJ=1.53\nunit=\\u00B5m\n", "tiff.XResolution": "2", "tiff.YResolution": "2"},
         0.5, 0.5),
        ({"tiff.ImageDescription": "ImageJ=1.53\nunit=pixel\n", "tiff.XResolution": "1", "tiff.YResolution": "1"},
         None, None),
        ({"openslide.vendor": "aperio", "openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25",
          "tiff.ImageDescription": "x|MPP = 0.5"}, 0.25, 0.25),
        ({}, None, None),
    ],
)  # fmt: skip
def test_properties(properties, x_um, y_um):
    said = openslide_scale(properties)
    assert (said.x_um, said.y_um) == pytest.approx((x_um, y_um))


@pytest.mark.parametrize(
    "said, manifest, mpp, source",
    [
        (Scale(0.25, 0.25), None, 0.25, "metadata"),
        (Scale(0.25, 0.26), None, 0.255, "metadata"),
        (Scale(0.25, 0.25), 0.26, 0.25, "metadata"),
        (Scale(), 0.5, 0.5, "manifest"),
        (Scale(352.8, 352.8), 0.5, 0.5, "manifest"),
    ],
)
def test_settled(said, manifest, mpp, source):
    assert microns_per_px("a.svs", said, manifest) == (pytest.approx(mpp), source)


@pytest.mark.parametrize(
    "said, manifest, words",
    [
        (Scale(), None, ["a.svs", "name no microns", "column `mpp`"]),
        (Scale(magnification=20), None, ["20x", "about 0.5"]),
        (Scale(352.8, 352.8), None, ["352.8", "dpi", "column `mpp`"]),
        (Scale(0.01, 0.01), None, ["0.01 x 0.01"]),
        (Scale(0.25, 0.27), None, ["not square"]),
        (Scale(0.25, 0.25), 0.5, ["metadata say 0.25", "manifest's mpp says 0.5"]),
        (Scale(0.25, 0.25), 250.0, ["250 is not possible"]),
        (Scale(), float("nan"), ["nan is not possible"]),
    ],
)
def test_refused_in_one_line(said, manifest, words):
    with pytest.raises(DataError) as raised:
        microns_per_px("a.svs", said, manifest)
    assert all(word in str(raised.value) for word in words) and "\n" not in str(raised.value)


@pytest.mark.parametrize("said", [Scale(), Scale(352.8, 352.8), Scale(0.25, 0.25), Scale(0.25, 0.5)])
def test_an_override_wins_and_says_what_it_overrides(said):
    mpp, source = microns_per_px("a.svs", said, MppOverride(0.5))
    assert mpp == 0.5 and type(mpp) is float and source.startswith("mpp_override (metadata say")
    assert (f"{said.x_um:.4g}" if said.x_um else "nothing") in source
    with pytest.raises(DataError, match="not possible"):
        microns_per_px("a.svs", said, MppOverride(500))
