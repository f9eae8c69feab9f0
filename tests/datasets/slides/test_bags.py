"""Bags from HDF5 files and tables: lazily read, never a healthy case without features; what does not fit is refused."""

import numpy as np
import pytest
import torch
from clinvit.core.errors import DataError
from clinvit.datasets.slides.bags import BagCases, BagFolder, draw_instances, pad_bags
from hypothesis import given
from hypothesis import strategies as st


def write(folder, case, count=5, width=4, **attributes):
    """A feature file as CLAM and TRIDENT lay it out, with features that tell case and place."""
    h5py = pytest.importorskip("h5py")
    folder.mkdir(exist_ok=True)
    features = (np.arange(count * width).reshape(count, width) / 8).astype(np.float32)
    with h5py.File(folder / f"{case}.h5", "w") as file:
        stored = file.create_dataset("features", data=features)
        stored.attrs.update({"encoder": "vit", **attributes})
        coords = file.create_dataset("coords", data=np.arange(2 * count).reshape(count, 2))
        coords.attrs.update({"tile_um": 112.0, "mpp": 0.25, "patch_size_level0": 448})
    return features


def test_bags_are_read_when_asked_for(tmp_path):
    features = write(tmp_path, "a", 7)
    write(tmp_path, "b", 3)
    bags = BagFolder(["b", "a"], tmp_path)
    assert (len(bags), bags.width, bags.count(0), bags.count(1)) == (2, 4, 3, 7)
    assert bags.attributes == {"encoder": "vit", "tile_um": 112.0} and not any(bags.reasons())
    assert bags.bag(1).dtype == np.float16
    np.testing.assert_array_equal(bags.bag(1, np.array([1, 4])), features[[1, 4]].astype(np.float16))


def test_what_fits_stays_in_memory(tmp_path):
    for case in "ab":
        write(tmp_path, case, 1000, 8)
    bags = BagFolder(["a", "b"], tmp_path, cache_gib=16_500 / 2**30)
    assert not bags.fits()
    first = [bags.bag(row)[0] for row in (0, 1)]
    (tmp_path / "a.h5").unlink()
    np.testing.assert_array_equal(bags.bag(0)[0], first[0])
    (tmp_path / "b.h5").unlink()
    with pytest.raises(DataError, match=r"b\.h5"):
        bags.bag(1)


def test_missing_empty_and_broken_files_have_reasons(tmp_path):
    write(tmp_path, "good")
    write(tmp_path, "empty", 0)
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    (tmp_path / "text.h5").write_text("no HDF5")
    ids = ["missing", "empty", "broken", "text", "good"]
    bags = BagFolder(ids, tmp_path)
    assert [bool(reason) for reason in bags.reasons()] == [True] * 4 + [False]
    assert all(f"{case}.h5" in reason for case, reason in zip(ids, bags.reasons()[:4]))
    with pytest.raises(DataError, match="none of the 4 cases has readable features"):
        BagFolder(ids[:4], tmp_path)


@pytest.mark.parametrize(
    ("other", "words"),
    [({"width": 5}, r"b\.h5: features of width 5, but those of .*a\.h5 have 4"),
     ({"encoder": "resnet"}, r"b\.h5: encoder is 'resnet', but 'vit' in .*a\.h5")],
)  # fmt: skip
def test_bags_of_two_encoders_are_refused(tmp_path, other, words):
    write(tmp_path, "a")
    write(tmp_path, "b", **other)
    with pytest.raises(DataError, match=words):
        BagFolder(["a", "b"], tmp_path)


def test_values_beyond_half_precision_stay_in_single(tmp_path, capsys):
    h5py = pytest.importorskip("h5py")
    for name in "ab":
        write(tmp_path, name)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["features"]
        file["features"] = np.full((5, 4), 1e6, np.float32)
    bags = BagFolder(["a", "b"], tmp_path)
    assert bags.bag(0).dtype == np.float32 and (bags.bag(0) == 1e6).all()
    assert bags.bag(1).dtype == np.float16
    assert capsys.readouterr().err.count("beyond 65,504") == 1
    features, mask = pad_bags([bags.bag(0), bags.bag(1)])
    assert features.dtype == torch.float32 and (features[0, :5] == 1e6).all() and mask.sum() == 10


@given(count=st.integers(1, 500), most=st.none() | st.integers(1, 600), dropout=st.floats(0, 0.99))
def test_drawn_instances(count, most, dropout):
    drawn = draw_instances(count, most, dropout, 3)
    size = count if drawn is None else len(drawn)
    assert 1 <= size <= min(most or count, count) and size <= max(1, round(count * (1 - dropout)))
    if drawn is not None:
        assert (np.diff(drawn) > 0).all() and drawn[0] >= 0 and drawn[-1] < count
        np.testing.assert_array_equal(drawn, draw_instances(count, most, dropout, 3))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_padded_bags_come_back(sizes):
    bags = [np.random.default_rng(size).normal(size=(size, 3)).astype(np.float16) for size in sizes]
    features, mask = pad_bags(bags)
    assert features.dtype == torch.float16 and features.shape == (len(sizes), max(sizes), 3)
    for bag, row, real in zip(bags, features, mask):
        np.testing.assert_array_equal(row[real].numpy(), bag)
        assert not row[~real].any()


def test_batches_leave_bad_bags_out_up_to_the_cap(tmp_path):
    for case in "abc":
        write(tmp_path, case, 4)
    bags = BagFolder(list("abc"), tmp_path, cache_gib=0)
    (tmp_path / "b.h5").write_bytes(b"")
    targets = np.array([[0], [1], [1]], np.float32)
    batch = BagCases(bags, np.arange(3), targets, max_instances=2, max_bad=0.4).__getitems__([(0, 5), (1, 6), (2, 7)])
    assert batch["row"].tolist() == [0, 2] and batch["features"].shape == (2, 2, 4) and batch["mask"].all()
    assert batch["target"].tolist() == [[0], [1]]
    with pytest.raises(DataError, match=r"b\.h5"):
        BagCases(bags, np.arange(3), targets, max_bad=0.1).__getitems__([(1, 0)])


def test_a_lone_bag_is_not_copied():
    bag = np.ones((3, 2), np.float16)
    features, mask = pad_bags([bag])
    assert features.shape == (1, 3, 2) and np.shares_memory(features.numpy(), bag) and mask.tolist() == [[True] * 3]
