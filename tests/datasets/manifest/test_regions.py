"""Where findings are: boxes and masks at any size, what is unknown, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.boxes import Box, write_boxes
from clinvit.datasets.manifest.regions import (
    UNKNOWN,
    Mask,
    boxes_around,
    boxes_drawn,
    regions_of,
    regions_there,
)
from clinvit.datasets.manifest.tables import read_manifest
from PIL import Image


def manifest(folder, **columns):
    size = len(next(iter(columns.values())))
    ids = [f"c{i}" for i in range(size)]
    table = pd.DataFrame({"id": ids, "path": [f"{i}.png" for i in ids], "patient": ids, "split": "train"} | columns)
    table.to_csv(folder / "manifest.csv", index=False)
    return read_manifest(folder / "manifest.csv")


def save(folder, name, pixels):
    Image.fromarray(pixels).save(folder / name)
    return name


def half(height=40, width=60) -> np.ndarray:
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, : width // 2] = 255
    return pixels


def test_boxes_are_drawn_at_any_size_and_what_nobody_drew_is_unknown(tmp_path):
    own = manifest(tmp_path, Mass=[1, 0, 1, "", 0], Edema=[0, 0, 0, 0, 1])
    write_boxes(tmp_path / "boxes.csv", [
        Box("c0", "Mass", 256, 512, 256, 256, 1024, 1024), Box("c0", "Mass", 0, 0, 10, 10, 1024, 1024),
        Box("c1", "Mass", 0, 0, 1024, 512, 1024, 1024),
    ])  # fmt: skip
    assert regions_there(own) == "boxes"
    found = regions_of(own, "boxes")
    assert found.known.T.tolist() == [[True, True, False, False, True], [True, True, True, True, False]]
    first = found.on(0, 16, 32)
    expected = np.zeros((16, 32), np.uint8)
    expected[8:12, 8:16] = 1
    expected[0, 0] = 1  # smaller than a pixel, and not lost
    np.testing.assert_array_equal(first[0], expected)
    assert not first[1].any() and (found.on(2, 4, 4)[0] == UNKNOWN).all() and not found.on(4, 4, 4)[0].any()
    assert found.on(1, 4, 4)[0].sum() == 8, "a box counts more than a label of 0"
    assert any("labelled 1 and not drawn" in note for note in found.notes)
    assert any("drawn though their label is 0" in note for note in found.notes)
    np.testing.assert_array_equal(found.present()[:, 0], [True, True, False, False, False])


def test_masks_of_one_label_and_of_several(tmp_path):
    name = save(tmp_path, "m.png", half())
    one = manifest(tmp_path, Mass=[1, 0, ""], mask=[name, "", ""])
    assert one.labels == ("Mass",) and regions_there(one) == "masks"
    found = regions_of(one, "masks")
    np.testing.assert_array_equal(found.on(0, 20, 30)[0], half(20, 30) > 0)
    np.testing.assert_array_equal(found.on(0, 80, 120)[0], half(80, 120) > 0)
    assert found.known[:, 0].tolist() == [True, True, False]
    several = manifest(tmp_path, Mass=[1, 0], Edema=[1, 0], mask_Edema=["", name])
    found = regions_of(several, "masks")
    assert found.known.tolist() == [[False, False], [True, True]] and found.on(1, 20, 30)[1].sum() == 300


@pytest.mark.parametrize("value", [1, 255])
def test_any_second_value_is_the_finding_and_16_bits_too(tmp_path, value):
    pixels = (half() > 0) * np.uint16(value)
    own = manifest(tmp_path, Mass=[1], mask=[save(tmp_path, "m.png", pixels)])
    np.testing.assert_array_equal(regions_of(own, "masks").on(0, 40, 60)[0], half() > 0)


def test_masks_with_other_proportions_or_blurred_edges_or_elsewhere_are_refused(tmp_path):
    own = manifest(tmp_path, Mass=[1], mask=[save(tmp_path, "m.png", half())])
    with pytest.raises(DataError, match=r"m.png: a mask of 60 x 40 px for an image of 40 x 40 px"):
        regions_of(own, "masks").on(0, 40, 40)
    blurred = half()
    blurred[:, 29:31] = 120
    own = manifest(tmp_path, Mass=[1], mask=[save(tmp_path, "b.png", blurred)])
    with pytest.raises(DataError, match=r"row 2.*b.png: holds more than two values"):
        regions_of(own, "masks")
    own = manifest(tmp_path, Mass=[1], mask=["gone.png"])
    with pytest.raises(DataError, match=r"row 2.*gone.png"):
        regions_of(own, "masks")
    with pytest.raises(DataError, match="mask_Mass"):
        manifest(tmp_path, Mass=[1], mask_Mass=["../../etc/m.png"])


def test_an_empty_mask_says_nowhere_unless_the_label_says_otherwise(tmp_path):
    name = save(tmp_path, "e.png", np.zeros((20, 20), np.uint8))
    found = regions_of(manifest(tmp_path, Mass=[0, 1, ""], mask=[name] * 3), "masks")
    assert found.known[:, 0].tolist() == [True, False, True] and not found.present().any()
    assert any("masks are empty" in note for note in found.notes)


def test_what_is_known_decides_the_fingerprint(tmp_path):
    own = manifest(tmp_path, Mass=[1, 0], mask=[save(tmp_path, "m.png", half()), ""])
    first = regions_of(own, "masks").fingerprint()
    assert first == regions_of(own, "masks").fingerprint()
    save(tmp_path, "m.png", half()[:, ::-1].copy())
    assert regions_of(own, "masks").fingerprint() != first


def test_a_mask_is_kept_small_and_whole():
    pixels = np.random.default_rng(0).random((37, 21)) > 0.5
    assert np.array_equal(Mask.of("m.png", pixels).whole(), pixels)


def test_boxes_around_parts():
    mask = np.zeros((10, 12), bool)
    mask[1:3, 2:5] = mask[3, 5] = mask[8, 0] = True  # the second touches the first at a corner
    assert boxes_around(mask).tolist() == [[2, 1, 6, 4], [0, 8, 1, 9]]
    assert boxes_around(~mask & mask).shape == (0, 4)
    drawn = boxes_drawn(np.array([[0.5, 0.5, 2, 2]]), 4, 4)
    assert drawn.sum() == 4 and drawn[2:, 2:].all()
