"""The maps of `predict --explain` as the report finds them beside a table."""

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.images.image_maps import ImageMaps, case_file, write_maps
from clinvit.stages.box_report import image_map


def test_the_map_of_a_case_and_label_is_the_one_written_beside_the_table(tmp_path):
    folder, values = tmp_path / "explanations" / "maps", np.arange(8.0).reshape(2, 2, 2)
    write_maps(
        case_file(folder, "one", ".h5"),
        ImageMaps("one", ("Mass", "Edema"), values, (0, 0, 40, 30), 40, 30, "gradient", "0" * 64),
    )
    found = image_map(tmp_path / "predictions.csv", "one", "Edema")
    np.testing.assert_allclose(found.values / found.values.max(), values[1] / 7, atol=0.01)
    assert (found.width_px, found.height_px, tuple(found.extent_px)) == (40, 30, (0, 0, 40, 30))
    assert image_map(tmp_path / "predictions.csv", "one", "Hernia") is None
    assert image_map(tmp_path / "predictions.csv", "two", "Mass") is None
    case_file(folder, "two", ".h5").write_bytes(b"cut off")
    with pytest.raises(DataError):
        image_map(tmp_path / "predictions.csv", "two", "Mass")
