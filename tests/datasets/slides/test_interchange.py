"""Files as CLAM, TRIDENT and STAMP write them: tiles lie where they lay, features are bags, maps find their place."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from clinvit.core.errors import DataError
from clinvit.datasets.slides.bags import BagFolder
from clinvit.datasets.slides.hdf5 import open_features, read_tiles
from clinvit.datasets.slides.places import features_file, tiles_file
from clinvit.datasets.slides.tile_reading import slide_tiles

WIDTH, HEIGHT, MPP = 1100, 1000, 0.5
COORDS = np.array([[0, 0], [256, 0], [768, 0], [0, 256], [1024, 768]], np.int64)  # the last sticks out
FEATURES = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)


def save(path, assets, attributes=(), of_file=(), chunk=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in assets.items():
            kept = file.create_dataset(key, data=value, maxshape=(None, *value.shape[1:]),
                                       chunks=(chunk, *value.shape[1:]))  # fmt: skip
            kept.attrs.update(dict(attributes).get(key, {}))
        file.attrs.update(dict(of_file))
    return path


def trident(path, features=None, *, old=False, magnification=20, size=256):
    """`coords_to_h5`, and with features `extract_patch_features`."""
    said = {
        "patch_size": size * 20 // magnification, "patch_size_level0": size, "level0_magnification": magnification,
        "target_magnification": 20, "overlap": 0, "name": "s", "savetodir": "x", "level0_width": WIDTH,
        "level0_height": HEIGHT,
    }  # fmt: skip
    if old:
        del said["patch_size_level0"]
    encoder = {"name": "s", "savetodir": "x", "encoder": "uni_v1"}
    assets = {"coords": COORDS} | ({} if features is None else {"features": features})
    return save(path, assets, {"coords": said, "features": encoder})


def clam_patches(path, level=1, downsample=2.0):
    """`process_contour`: the size of the level is rounded."""
    dimensions = (int(WIDTH / downsample), int(HEIGHT / downsample))
    said = {
        "patch_size": round(256 / downsample), "patch_level": level, "downsample": (downsample, downsample),
        "downsampled_level_dim": dimensions, "level_dim": dimensions, "name": "s", "save_path": "x",
    }  # fmt: skip
    return save(path, {"coords": COORDS}, {"coords": said}, chunk=32)


def clam_features(path):
    """`compute_w_loader`: no attributes at all."""
    return save(path, {"features": FEATURES, "coords": COORDS.astype(np.int32)}, chunk=32)


def stamp(path, old=False, mpp=MPP):
    size = {"tile_size": 128.0} if old else {"tile_size_um": 128.0, "tile_size_px": 224, "feat_type": "tile"}
    with h5py.File(path, "w") as file:
        file["coords"], file["feats"] = (COORDS * mpp).astype(np.float32), FEATURES.astype(np.float16)
        file.attrs.update({"stamp_version": "2.4.0", "extractor": "uni2", "unit": "um", "code_hash": "x", **size})
    return path


@pytest.fixture
def slide(tmp_path, tiff, tissue_pixels):
    return tiff(tmp_path / "s.tif", tissue_pixels(WIDTH, HEIGHT), mpp=MPP)


@pytest.mark.parametrize(
    "write",
    [
        trident, lambda path: trident(path, old=True), lambda path: trident(path, FEATURES), clam_patches,
        lambda path: clam_patches(path, 1, 2.0009), stamp, lambda path: stamp(path, old=True),
    ],
    ids=["TRIDENT", "TRIDENT old", "TRIDENT features", "CLAM", "CLAM uneven", "STAMP", "STAMP old"],
)  # fmt: skip
def test_tiles_of_others_lie_on_their_slide(tmp_path, slide, write):
    pytest.importorskip("openslide")
    grid = slide_tiles(write(tmp_path / "t.h5"), slide, None)
    assert np.array_equal(grid.coords, COORDS) and grid.tile_level0_px == 256
    assert (grid.width_px, grid.height_px) == (WIDTH, HEIGHT)
    assert (grid.tile_um, grid.mpp) == (pytest.approx(128), pytest.approx(MPP))


def test_tiles_of_a_slide_without_scale_take_the_manifests(tmp_path, tiff, tissue_pixels):
    pytest.importorskip("openslide")
    bare = tiff(tmp_path / "s.tif", tissue_pixels(WIDTH, HEIGHT), mpp=None)
    assert slide_tiles(trident(tmp_path / "t.h5"), bare, 0.25).mpp == 0.25
    with pytest.raises(DataError, match="column `mpp`"):
        slide_tiles(tmp_path / "t.h5", bare, None)


def test_features_without_attributes_need_the_size_of_their_tiles(tmp_path, slide):
    pytest.importorskip("openslide")
    path = clam_features(tmp_path / "f.h5")
    with pytest.raises(DataError, match=r"how large its tiles are; they lie 256 px apart.*tile_level0_px"):
        slide_tiles(path, slide, None)
    assert slide_tiles(path, slide, None, 256).tile_um == 128
    with pytest.raises(DataError, match="256 level-0 px, not 512"):
        slide_tiles(trident(tmp_path / "t.h5"), slide, None, 512)


@pytest.mark.parametrize("write", [lambda path: trident(path, FEATURES), clam_features, stamp],
                         ids=["TRIDENT", "CLAM", "STAMP"])  # fmt: skip
def test_features_of_others_are_bags(tmp_path, write):
    write(tmp_path / "a.h5")
    bags = BagFolder(["a"], tmp_path)
    assert bags.width == 8 and np.allclose(bags.bag(0), FEATURES, atol=2e-3)


def test_the_extractor_of_stamp_is_an_encoder_that_must_agree(tmp_path):
    for name in "ab":
        stamp(tmp_path / f"{name}.h5")
    assert BagFolder(["a", "b"], tmp_path).attributes == {"encoder": "uni2", "tile_um": 128.0, "tile_px": 224}
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file.attrs["extractor"] = "virchow2"
    with pytest.raises(DataError, match="encoder is 'virchow2', but 'uni2'"):
        BagFolder(["a", "b"], tmp_path)


@pytest.mark.parametrize("coords", [COORDS, COORDS.astype(np.float32), COORDS[None], None, "one"])
@pytest.mark.parametrize("shape", [(5, 8), (1, 5, 8), (8,), (1, 8)])
def test_shapes_that_people_have(tmp_path, coords, shape):
    """Whole-slide vectors lie beside the coordinates of all tiles; of one tile, TRIDENT squeezes these too."""
    single = shape in ((8,), (1, 8))
    values = FEATURES[0].reshape(shape) if single else FEATURES.reshape(shape)
    if isinstance(coords, str):
        coords = COORDS[0] if shape == (8,) else None
    if shape == (1, 8) and coords is not None:
        coords = coords.reshape(-1, 2)[:1]
    assets = {"features": values} | ({} if coords is None else {"coords": coords})
    with open_features(save(tmp_path / "a.h5", assets)) as file:
        assert (file.count, file.dim) == ((1 if single else 5), 8)
        assert np.array_equal(file.read(), FEATURES[:1] if single else FEATURES)
        assert np.array_equal(file.read(np.array([0])), FEATURES[:1])
        if file.coords is not None:
            assert np.array_equal(file.coords, COORDS[: file.count])


def test_tensors_of_clam_are_bags_and_nothing_else_is(tmp_path):
    torch.save(torch.from_numpy(FEATURES), tmp_path / "a.pt")
    torch.save(torch.from_numpy(FEATURES[0]).bfloat16(), tmp_path / "slide.pt")
    bags = BagFolder(["a", "slide"], tmp_path)
    assert [bags.count(row) for row in (0, 1)] == [5, 1]
    assert np.allclose(bags.bag(0), FEATURES, atol=2e-3)
    with open_features(tmp_path / "a.pt") as file:
        assert np.array_equal(file.read(np.array([3, 1])), FEATURES[[3, 1]])
    wrong = {"array": FEATURES, "dict": {"features": torch.ones(2, 2)}, "shape": torch.ones(2, 2, 2),
             "ints": torch.ones(2, 2, dtype=torch.int64), "huge": torch.ones(1).expand(10**5, 10**5),
             "code": torch.nn.Linear(2, 2)}  # fmt: skip
    for name, value in wrong.items():
        torch.save(value, tmp_path / f"{name}.pt")
        with pytest.raises(DataError, match=rf"{name}\.pt"):
            open_features(tmp_path / f"{name}.pt")
    (tmp_path / "text.pt").write_text("no tensor")
    with pytest.raises(DataError, match=r"text\.pt: no tensor"):
        open_features(tmp_path / "text.pt")


def test_a_process_that_may_only_read_knows_tensors(tmp_path):
    """PyTorch cannot be imported by a process that is shut in; one that was forked without it must have it before."""
    torch.save(torch.from_numpy(FEATURES), tmp_path / "a.pt")
    clam_features(tmp_path / "b.h5")
    code = (
        "import sys; from pathlib import Path; from clinvit.datasets.slides.bags import BagFolder; "
        "bags = BagFolder(['a', 'b'], Path(sys.argv[1])); print([bags.count(0), bags.count(1)], bags.reasons())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"[5, {bag_size(tmp_path / 'b.h5')}] ['', '']", done.stderr[-500:]


def bag_size(path) -> int:
    with h5py.File(path) as file:
        return len(file["features"])


@pytest.mark.parametrize("place", ["{}.h5", "h5_files/{}.h5"])
def test_features_are_found_where_others_put_them(tmp_path, place):
    path = clam_features(tmp_path / place.format("a.b"))
    assert features_file(tmp_path, "a.b") == path


@pytest.mark.parametrize("place", ["{}.h5", "{}_patches.h5", "patches/{}.h5", "patches/{}_patches.h5"])
def test_tiles_are_found_where_others_put_them(tmp_path, place):
    path = trident(tmp_path / place.format("a.b"))
    assert tiles_file(tmp_path, "a.b") == path
    assert tiles_file(tmp_path, "gone") == tmp_path / "gone.h5"


def test_no_coordinates_are_no_tiles(tmp_path):
    path = save(tmp_path / "a.h5", {"features": FEATURES})
    with pytest.raises(DataError, match="where its tiles lie, it does not say"):
        read_tiles(path, 0.5, (WIDTH, HEIGHT))
