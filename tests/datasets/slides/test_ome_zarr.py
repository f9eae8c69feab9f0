"""OME-Zarr 0.4 and 0.5 as slides, as the zarr package writes them; bombs and what is no slide refused in one line."""

import json
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import zarr
from clinvit.core.errors import DataError
from clinvit.datasets.kinds import ZARR, ZIPPED_ZARR, file_kind, is_zarr_folder
from clinvit.datasets.manifest.contents import contents
from clinvit.datasets.slides.reading import open_slide, slide_stem
from clinvit.datasets.slides.settings import Quality, Tiling, Tissue
from clinvit.datasets.slides.tile_reading import Tiles
from clinvit.datasets.slides.tiling import tile_slide
from clinvit.datasets.slides.zarr_array import _crc32c
from clinvit.stages.requested_files import requested_files
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

DYES = ("0000FF", "FFFF00", "FF0000")
AXES = [{"name": "c", "type": "channel"}] + [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    image = np.full((420, 600, 3), 240, np.uint8)
    image[60:360, 80:500] = np.array((200, 120, 170)) + rng.integers(-40, 40, (300, 420, 1))
    return image


def write(path, pixels, version="0.4", levels=3, mpp=0.5, axes=AXES, attributes=None, store=None, **options):
    """Write a slide as OME-Zarr, each level half of the one before."""
    format_ = 2 if version == "0.4" else 3
    root = zarr.open_group(store or str(path), mode="w", zarr_format=format_)
    names, datasets = [axis["name"] for axis in axes], []
    for level in range(levels):
        small = pixels[:: 2**level, :: 2**level].transpose(2, 0, 1)
        if "c" not in names:
            small = small[0]
        kept = [name for name in names if name in "cyx"]
        small = small.reshape([small.shape[kept.index(name)] if name in kept else 1 for name in names])
        made = {"chunks": (*([1] * (len(names) - 2)), 64, 96), **options}
        if format_ == 2:
            made["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        root.create_array(str(level), shape=small.shape, dtype="uint8", **made)[:] = small
        step = [1.0] * (len(names) - 2) + [mpp * 2**level] * 2
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": step}]})
    image = {"axes": axes, "datasets": datasets}
    if version == "0.4":
        root.attrs.update({"multiscales": [image | {"version": "0.4"}], **(attributes or {})})
    else:
        root.attrs.update({"ome": {"version": version, "multiscales": [image], **(attributes or {})}})
    return path


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("0.4", {}),
        ("0.4", {"compressors": None}),
        ("0.5", {}),
        ("0.5", {"compressors": None}),
        ("0.5", {"compressors": GzipCodec()}),
        ("0.5", {"compressors": BloscCodec(cname="lz4")}),
        ("0.5", {"compressors": ZstdCodec(checksum=True)}),
        ("0.5", {"chunks": (3, 32, 32), "shards": (3, 128, 96)}),
        ("0.5", {"chunks": (1, 64, 64), "shards": (3, 128, 128), "compressors": BloscCodec()}),
    ],
)
def test_pixels_levels_and_scale_are_those_that_were_written(tmp_path, pixels, version, options):
    with open_slide(write(tmp_path / "a.ome.zarr", pixels, version, **options)) as slide:
        assert (slide.width_px, slide.height_px, slide.mpp, slide.mpp_source) == (600, 420, 0.5, "metadata")
        assert slide.downsamples == pytest.approx((1, 2, 4))
        np.testing.assert_array_equal(slide._source.region(0, 0, 0, 600, 420), pixels)
        np.testing.assert_array_equal(slide._source.region(70, 50, 0, 301, 203), pixels[50:253, 70:371])
        np.testing.assert_array_equal(slide._source.region(0, 0, 1, 300, 210), pixels[::2, ::2])
        np.testing.assert_array_equal(slide.tile(100, 80, 50.0, 100), pixels[80:180, 100:200])


@pytest.mark.parametrize("name", ["zlib", "gzip", "zstd", "blosc", "lz4"])
def test_compressors_of_version_2_are_read(tmp_path, pixels, name):
    import numcodecs

    codec = {"zlib": numcodecs.Zlib, "gzip": numcodecs.GZip, "zstd": numcodecs.Zstd, "blosc": numcodecs.Blosc,
             "lz4": numcodecs.LZ4}[name]()  # fmt: skip
    with open_slide(write(tmp_path / "a", pixels, compressors=codec)) as slide:
        np.testing.assert_array_equal(slide._source.region(0, 0, 0, 600, 420), pixels)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_zip_files_are_read_and_known_by_their_content(tmp_path, pixels, version):
    folder, packed = write(tmp_path / "a.ome.zarr", pixels, version), tmp_path / "b.bin"
    first = {"0.4": ".zgroup", "0.5": "zarr.json"}[version]
    with zipfile.ZipFile(packed, "w") as file:
        files = sorted(folder.rglob("*"), key=lambda each: each != folder / first)
        for each in files:
            if each.is_file():
                file.write(each, each.relative_to(folder))
    assert file_kind(packed) == ZIPPED_ZARR
    with open_slide(packed) as slide:
        np.testing.assert_array_equal(slide._source.region(0, 0, 0, 600, 420), pixels)


def test_an_ordinary_zip_file_is_no_slide(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("lesions/a.xml", "<a/>")
    assert not contents(tmp_path, "slide").entries


def test_grey_five_axes_and_a_first_image_of_several_are_read(tmp_path, pixels):
    five = [{"name": "t", "type": "time"}, AXES[0], {"name": "z", "type": "space"}, *AXES[1:]]
    with open_slide(write(tmp_path / "five", pixels, axes=five)) as slide:
        np.testing.assert_array_equal(slide._source.region(0, 0, 0, 600, 420), pixels)
    with open_slide(write(tmp_path / "grey", pixels, axes=AXES[1:])) as slide:
        np.testing.assert_array_equal(slide._source.region(0, 0, 0, 600, 420), np.repeat(pixels[..., :1], 3, 2))
    top = tmp_path / "series"
    root = zarr.open_group(str(top), mode="w", zarr_format=2)
    root.attrs.update({"bioformats2raw.layout": 3})
    shutil.move(write(tmp_path / "one", pixels), top / "0")
    with open_slide(top) as slide:
        assert slide.width_px == 600


def test_what_was_never_written_holds_the_fill_value(tmp_path, pixels):
    path = write(tmp_path / "a", pixels, fill_value=255)
    shutil.rmtree(path / "0" / "0" / "1")
    with open_slide(path) as slide:
        assert (slide._source.region(0, 0, 0, 600, 420)[64:128, :, 0] == 255).all()


def test_without_a_unit_the_scale_is_the_manifests(tmp_path, pixels):
    bare = [{key: value for key, value in axis.items() if key != "unit"} for axis in AXES]
    path = write(tmp_path / "a", pixels, axes=bare)
    with pytest.raises(DataError, match="no scale"):
        open_slide(path)
    with open_slide(path, 0.25) as slide:
        assert slide.mpp == 0.25
    nm = [axis | ({"unit": "nanometer"} if axis["name"] != "c" else {}) for axis in AXES]
    with open_slide(write(tmp_path / "b", pixels, axes=nm, mpp=250)) as slide:
        assert slide.mpp == pytest.approx(0.25)


def test_it_is_tiled_judged_and_read_by_confined_processes(tmp_path, pixels):
    path = write(tmp_path / "a.ome.zarr", pixels, "0.5")
    tissue = Tissue(overview_mpp=2, min_island_um2=0, remove_ink=False)
    found = tile_slide(path, Tiling(20, 40, tissue=tissue, quality=Quality(measure=True)), None)
    assert len(found.grid.coords) > 20 and np.median(found.grid.quality["sharpness"]) > 1000
    tiles = np.concatenate(list(Tiles(path, None, found.grid).batches(16)))
    x, y = found.grid.coords[0]
    np.testing.assert_array_equal(tiles[0], pixels[y : y + 40, x : x + 40])


def test_folders_show_it_as_one_slide_whatever_its_name(tmp_path, pixels):
    write(tmp_path / "data" / "s1.ome.zarr", pixels)
    write(tmp_path / "data" / "s2", pixels, "0.5")
    assert is_zarr_folder(tmp_path / "data" / "s2")
    held = contents(tmp_path / "data", "slide")
    assert [(entry.path, entry.kind) for entry in held.entries] == [("s1.ome.zarr", ZARR), ("s2", ZARR)]
    assert contents(tmp_path / "data", "image").counts() == {ZARR: 2}
    cases, _ = requested_files([str(tmp_path / "data" / "s1.ome.zarr")], "slide")
    assert len(cases["id"]) == 1 and slide_stem("s1.ome.zarr") == "s1"


def changed(path: Path, change) -> Path:
    """Change the metadata of a Zarr of version 2: of the group and of its first array."""
    group, array = path / ".zattrs", path / "0" / ".zarray"
    about, stored = json.loads(group.read_text()), json.loads(array.read_text())
    change(about, stored)
    group.write_text(json.dumps(about))
    array.write_text(json.dumps(stored))
    return path


def image(about):
    return about["multiscales"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda about, array: (array.update(shape=[3, 2**30, 2**30]), image(about)["datasets"].clear()), "0 levels"),
        (lambda about, array: array.update(chunks=[3, 2**20, 2**20]), "refused: a chunk of .* bytes in memory"),
        (lambda about, array: array.update(shape=[3, 2**80, 4]), "sizes .* are none of an image"),
        (lambda about, array: array.update(shape=[3, -4, 4]), "sizes .* are none of an image"),
        (lambda about, array: array.update(chunks=[3, 0, 64]), "sizes .* are none of an image"),
        (lambda about, array: array.update(dtype="<u2"), "'<u2'.*8 bits per channel"),
        (lambda about, array: array.update(compressor={"id": "pickle"}), "codec 'pickle' is not read"),
        (lambda about, array: array.update(filters=[{"id": "delta"}]), "filters are not read"),
        (lambda about, array: array.update(shape="wide"), "metadata are not those of Zarr|sizes"),
        (lambda about, array: image(about)["datasets"][0].update(path="../../a"), "leads out of it"),
        (lambda about, array: image(about)["datasets"][0].update(path="9"), "is not there"),
        (lambda about, array: image(about).update(datasets=image(about)["datasets"] * 20), "refused: 60 levels"),
        (lambda about, array: image(about).update(version="0.1"), "OME-Zarr 0.1; 0.4 and 0.5 are read"),
        (lambda about, array: image(about).update(axes=[{"name": "a"}] * 3), "axes a, a, a"),
        (lambda about, array: about.update(multiscales=[]), "not those of OME-Zarr"),
        (lambda about, array: about.pop("multiscales"), "no multiscale image"),
        (lambda about, array: (about.pop("multiscales"), about.update(plate={})), "a plate of wells"),
        (
            lambda about, array: about.update(omero={"channels": [{"color": c} for c in DYES]}),
            "dyes of fluorescence",
        ),
    ],
)  # fmt: skip
def test_bombs_and_what_is_no_slide_are_refused_in_one_line(tmp_path, pixels, change, words):
    path = changed(write(tmp_path / "a", pixels), change)
    with pytest.raises(DataError, match=words) as refused:
        open_slide(path)
    assert str(tmp_path / "a") in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("axis", ["t", "z"])
def test_stacks_are_refused(tmp_path, pixels, axis):
    axes = [{"name": axis}, *AXES]
    path = write(tmp_path / "a", pixels, axes=axes)
    array = path / "0" / ".zarray"
    array.write_text(json.dumps(json.loads(array.read_text()) | {"shape": [5, 3, 420, 600]}))
    with pytest.raises(DataError, match="a stack of 5"):
        open_slide(path)


def test_deep_and_large_metadata_are_refused(tmp_path, pixels):
    path = write(tmp_path / "a", pixels)
    (path / ".zattrs").write_text('{"a":' * 5000 + "1" + "}" * 5000)
    with pytest.raises(DataError, match="nested deeper"):
        open_slide(path)
    (path / ".zattrs").write_text(json.dumps({"a": "x" * 17_000_000}))
    with pytest.raises(DataError, match="larger than 16 MB"):
        open_slide(path)


@pytest.mark.parametrize("name", ["zlib", "zstd", "blosc"])
def test_a_chunk_that_inflates_beyond_its_size_is_an_error_not_memory(tmp_path, pixels, name):
    import numcodecs

    codec = {"zlib": numcodecs.Zlib, "zstd": numcodecs.Zstd, "blosc": numcodecs.Blosc}[name]()
    path = write(tmp_path / "a", pixels, compressors=codec)
    (path / "0" / "0" / "1" / "1").write_bytes(codec.encode(np.zeros(50_000_000, np.uint8)))
    with open_slide(path) as slide, pytest.raises(DataError, match=f"cannot be decoded by {name}"):
        slide._source.region(100, 70, 0, 10, 10)


@pytest.mark.parametrize("version", ["0.4", "0.5"])  # Blosc and zstd, as zarr chooses
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:20], lambda data: b"\x00" * len(data), lambda data: zlib.compress(b"1"), lambda data: b""],
)
def test_damaged_chunks_are_named(tmp_path, pixels, damage, version):
    path = write(tmp_path / "a", pixels, version)
    chunk = path / "0" / ("c/0/1/1" if version == "0.5" else "0/1/1")
    chunk.write_bytes(damage(chunk.read_bytes()))
    with open_slide(path) as slide, pytest.raises(DataError, match="the array '0'"):
        slide._source.region(100, 70, 0, 10, 10)


def test_a_shard_whose_index_is_damaged_is_named(tmp_path, pixels):
    path = write(tmp_path / "a", pixels, "0.5", chunks=(3, 32, 32), shards=(3, 128, 96))
    shard = path / "0" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[-30] ^= 255
    shard.write_bytes(data)
    with open_slide(path) as slide, pytest.raises(DataError, match="another checksum"):
        slide._source.region(0, 0, 0, 10, 10)
    index = struct.pack("<QQ", 2**40, 100) * 12
    shard.write_bytes(bytes(data[: -12 * 16 - 4]) + index + struct.pack("<I", _crc32c(index)))
    with open_slide(path) as slide, pytest.raises(DataError, match="points beyond its end"):
        slide._source.region(0, 0, 0, 10, 10)


def test_the_checksum_is_that_of_the_standard():
    assert _crc32c(b"123456789") == 0xE3069283


def test_a_slide_of_more_pixels_than_any_is_refused_before_it_is_read(tmp_path, pixels):
    path = changed(write(tmp_path / "a", pixels, levels=1), lambda about, array: array.update(shape=[3, 2**30, 2**30]))
    with pytest.raises(DataError, match="too large"):
        open_slide(path)
