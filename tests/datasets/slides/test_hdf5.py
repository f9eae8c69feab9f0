"""The HDF5 files: ours there and back, theirs read, ours as they read them, rows at will, bad files named."""

import multiprocessing
import pickle
import sys

import h5py
import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.slides.hdf5 import all_finite, open_features, read_tiles, write_features, write_tiles
from clinvit.datasets.slides.tiles import TileGrid
from hypothesis import given, settings
from hypothesis import strategies as st

COUNT, DIM = 700, 24


@pytest.fixture(scope="module")
def grid() -> TileGrid:
    rng = np.random.default_rng(0)
    coords = rng.integers(0, 9_000, (COUNT, 2))
    return TileGrid(coords, rng.random(COUNT, np.float32), 224, 112.0, 10.0, 461, 0.243, 10_000, 12_000)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((COUNT, DIM)).astype(np.float16)


@pytest.fixture
def written(tmp_path, grid, features):
    write_features(tmp_path / "slide_1.h5", features, grid, {"encoder": "vit_small", "weights": "abc", "width": DIM})
    return tmp_path / "slide_1.h5"


def save(path, assets, attributes=None):
    """As CLAM and TRIDENT save: one row a chunk, open-ended, attributes by data set."""
    with h5py.File(path, "w") as file:
        for key, value in assets.items():
            value = np.asarray(value)
            if not value.ndim:
                file[key] = value
                continue
            kept = file.create_dataset(key, data=value, maxshape=(None, *value.shape[1:]), chunks=(1, *value.shape[1:]))
            kept.attrs.update((attributes or {}).get(key, {}))
    return path


def test_tiles_there_and_back(tmp_path, grid):
    write_tiles(tmp_path / "a.h5", grid)
    back = read_tiles(tmp_path / "a.h5")
    for name in ("coords", "tissue"):
        assert np.array_equal(getattr(back, name), getattr(grid, name))
        assert getattr(back, name).dtype == getattr(grid, name).dtype
    for name in ("tile_px", "tile_um", "overlap_um", "tile_level0_px", "mpp", "width_px", "height_px"):
        assert getattr(back, name) == getattr(grid, name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_tiles_of_a_feature_file(written, grid):
    assert np.array_equal(read_tiles(written).coords, grid.coords)


def test_features_there_and_back(written, features, grid):
    with open_features(written) as file:
        assert (file.count, file.dim, file.tile_level0_px) == (COUNT, DIM, 461)
        assert np.array_equal(file.coords, grid.coords) and file.coords.dtype == np.int64
        assert file.attributes["encoder"] == "vit_small" and file.attributes["width"] == DIM
        assert file.attributes["mpp"] == 0.243 and file.attributes["name"] == "slide_1"
        assert file.read().dtype == np.float16 and np.array_equal(file.read(), features)


def test_clam_cuts_our_squares(tmp_path, grid):
    """CLAM reads patch_size px at patch_level from coords; so does what it shows afterwards."""
    write_tiles(tmp_path / "a.h5", grid)
    with h5py.File(tmp_path / "a.h5") as file:
        said = file["coords"].attrs
        assert said["patch_size"] == 461 and said["patch_level"] == 0 and tuple(said["downsample"]) == (1, 1)
        assert tuple(said["level_dim"]) == tuple(said["downsampled_level_dim"]) == (10_000, 12_000)
        assert said["name"] == "a" and file["coords"].shape == (COUNT, 2)


def test_trident_cuts_our_squares(tmp_path, grid):
    """TRIDENT cuts patch_size * level0_magnification // target_magnification level-0 px."""
    write_tiles(tmp_path / "a.h5", grid)
    with h5py.File(tmp_path / "a.h5") as file:
        said = dict(file["coords"].attrs)
    side = said["patch_size"] * said["level0_magnification"] // said["target_magnification"]
    assert side == said["patch_size_level0"] == 461 and said["level0_magnification"] == 41
    assert (said["level0_width"], said["level0_height"], said["overlap"]) == (10_000, 12_000, round(10 / 0.243))


TRIDENT = {
    "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20, "overlap": 64,
    "name": "s", "savetodir": "x", "level0_width": 10_000, "level0_height": 12_000,
}  # fmt: skip
CLAM = {
    "patch_size": 256, "patch_level": 1, "downsample": (4.0, 4.0), "downsampled_level_dim": (2500, 3000),
    "level_dim": (2500, 3000), "name": "s", "save_path": "x",
}  # fmt: skip


@pytest.mark.parametrize("attributes, side", [(TRIDENT, 512), (CLAM, 1024)], ids=["TRIDENT", "CLAM"])
def test_their_tiles(tmp_path, grid, attributes, side):
    path = save(tmp_path / "s.h5", {"coords": grid.coords.astype(np.int32)}, {"coords": attributes})
    with pytest.raises(DataError, match=r"microns.*mpp"):
        read_tiles(path)
    back = read_tiles(path, mpp=0.25)
    assert np.array_equal(back.coords, grid.coords) and np.isnan(back.tissue).all()
    assert (back.tile_level0_px, back.tile_um, back.tile_px) == (side, side * 0.25, 256)
    assert (back.width_px, back.height_px, back.mpp) == (10_000, 12_000, 0.25)
    assert back.overlap_um == 32 if attributes is TRIDENT else np.isnan(back.overlap_um)


@pytest.mark.parametrize(
    "said, side",
    [
        ({}, None), ({"patch_size": 256}, None), ({"patch_size": 256, "patch_level": 0}, 256),
        ({"patch_size": 256, "patch_level": 1}, None), ({"patch_size": 256, "patch_level": 1, "downsample": 2.0}, 512),
        ({"patch_size": 256, "patch_level": 0, "custom_downsample": 2}, 512), (TRIDENT, 512), (CLAM, 1024),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(COUNT, DIM), (1, COUNT, DIM)])
def test_their_features(tmp_path, grid, features, said, side, shape):
    assets = {"features": features.astype(np.float32).reshape(shape), "coords": grid.coords}
    attributes = {"coords": said, "features": {"name": np.bytes_(b"s"), "savetodir": "x"}}
    with open_features(save(tmp_path / "s.h5", assets, attributes)) as file:
        assert (file.count, file.dim, file.tile_level0_px) == (COUNT, DIM, side)
        assert np.array_equal(file.read(), features.astype(np.float32)) and file.attributes["name"] == "s"
        assert np.array_equal(file.read([5, 600, 5]), features[[5, 600, 5]].astype(np.float32))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), max_size=80), st.integers(0, 40))
def test_rows_in_any_order(tmp_path_factory, grid, features, indices, run):
    path = tmp_path_factory.getbasetemp() / "rows.h5"
    if not path.exists():
        write_features(path, features, grid, {})
    indices = np.array(indices + list(range(100, 100 + run)), np.int64)
    with open_features(path) as file:
        rows = file.read(indices)
    assert rows.shape == (len(indices), DIM) and np.array_equal(rows, features[indices])


@pytest.mark.parametrize("indices", [[-1], [COUNT], [0, 10**9]])
def test_rows_that_are_not_there(written, indices):
    with open_features(written) as file, pytest.raises(IndexError):
        file.read(indices)


def test_workers_open_for_themselves(written, features):
    with open_features(written) as file:
        file.read([0])

        def same() -> bool:
            return all(np.array_equal(file.read([n]), features[[n]]) for n in range(0, COUNT, 7))

        child = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(0 if same() else 1))
        child.start()
        here = same()
        child.join(60)
        assert here and child.exitcode == 0
        with pickle.loads(pickle.dumps(file)) as other:
            assert np.array_equal(other.read(), features)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda f: f[:-1], "699 features for 700 tiles"),
        (lambda f: f[:, :0], r"shape \(700, 0\)"),
        (lambda f: f[0], r"shape \(24,\)"),
        (lambda f: f.astype(np.float64), "float64"),
        (lambda f: np.where(np.arange(COUNT)[:, None] == 7, np.nan, f).astype(np.float16), "1 tiles are NaN.*row 7"),
        (lambda f: (f.astype(np.float32) * 1e6).astype(np.float16), "infinite.*32 bits"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_bad_features_are_not_written(tmp_path, grid, features, change, words):
    with pytest.raises(DataError, match=words):
        write_features(tmp_path / "a.h5", change(features), grid, {})
    assert not list(tmp_path.iterdir())


COORDS = np.zeros((4, 2), np.int64)
GOOD = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    "assets, words",
    [
        ({"coords": COORDS}, "no `features`"),
        ({"features": GOOD, "coords": COORDS[:3]}, "4 features but 3 coordinates"),
        ({"features": GOOD, "coords": COORDS[:, :1]}, "`coords` are no numbers"),
        ({"features": GOOD, "coords": np.full((4, 2), np.nan)}, "`coords` are not all finite"),
        ({"features": GOOD.astype(int), "coords": COORDS}, "no `features`"),
        ({"features": GOOD[0, 0], "coords": COORDS}, "no `features`"),
        ({"features": np.ones((2, 4, 3)), "coords": COORDS}, "no `features`"),
        ({"features": GOOD[:0], "coords": COORDS[:0]}, "no tiles"),
        ({"imgs": GOOD}, "no `features`"),
    ],
)
def test_foreign_files(tmp_path, assets, words):
    path = save(tmp_path / "a.h5", assets)
    with pytest.raises(DataError, match=words) as raised:
        open_features(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_rows_that_were_never_written_are_refused(tmp_path):
    path = save(tmp_path / "a.h5", {"features": GOOD, "coords": COORDS})
    with h5py.File(path, "a") as file:
        file["coords"].resize((1_000_000, 2))
    with pytest.raises(DataError, match=r"a\.h5.*coords.*never written"):
        open_features(path)


def test_features_without_values(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["coords"], file["features"] = COORDS, np.ones((4, 0), np.float32)
    with pytest.raises(DataError, match="width 0"):
        open_features(tmp_path / "a.h5")


def test_nan_is_found_when_its_row_is_read(tmp_path):
    broken = GOOD.copy()
    broken[2, 1] = np.nan
    with open_features(save(tmp_path / "a.h5", {"features": broken, "coords": COORDS})) as file:
        assert np.array_equal(file.read([3, 0]), GOOD[:2])
        with pytest.raises(DataError, match=r"a\.h5.*NaN.*row 2"):
            file.read()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_truncated_files(written, share):
    content = written.read_bytes()
    written.write_bytes(content[: int(share * len(content))])
    for read in (open_features, read_tiles):
        with pytest.raises(DataError, match=r"slide_1\.h5.*cut off") as raised:
            read(written)
        assert "\n" not in str(raised.value)


def test_missing_and_text_files(tmp_path):
    (tmp_path / "a.h5").write_text("id,path")
    for name, words in (("a.h5", "not an HDF5 file"), ("b.h5", "no such file")):
        with pytest.raises(DataError, match=words):
            open_features(tmp_path / name)


def test_another_scale_than_the_slides(tmp_path, grid):
    write_tiles(tmp_path / "a.h5", grid)
    assert read_tiles(tmp_path / "a.h5", mpp=0.25).mpp == 0.243
    with pytest.raises(DataError, match=r"0\.243 microns.*0\.5 now"):
        read_tiles(tmp_path / "a.h5", mpp=0.5)


def test_every_half_float_is_known_as_finite_or_not():
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(values)
    assert all_finite(values[finite]) and not any(all_finite(value[None]) for value in values[~finite])
    for odd in (np.nan, np.inf, -np.inf):
        assert not all_finite(np.array([1, odd, -1], np.float32))
    assert all_finite(np.empty((0, 4), np.float16))
