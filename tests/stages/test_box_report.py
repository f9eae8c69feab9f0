"""The maps of `predict --explain` as the report finds them beside a table."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.images.image_maps import ImageMaps, case_file, write_maps
from clinvit.datasets.manifest.boxes import Box, write_boxes
from clinvit.datasets.manifest.tables import predictions_table, read_manifest, read_predictions, write_predictions
from clinvit.eval.evaluation import Evaluation
from clinvit.stages.box_report import box_report, image_map


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


@pytest.fixture
def explained(tmp_path):
    """Twelve cases with a box, explained by a CNN and by both methods of a ViT."""
    ids, rng = [f"c{i}" for i in range(12)], np.random.default_rng(0)
    cases = pd.DataFrame({"id": ids, "path": [f"{i}.png" for i in ids], "patient": ids, "split": "test", "Mass": 1})
    cases.to_csv(tmp_path / "manifest.csv", index=False)
    write_boxes(tmp_path / "boxes.csv", [Box(each, "Mass", 10, 10, 20, 20, 80, 80) for each in ids])
    table = predictions_table(cases, ("Mass",), np.ones((12, 1)), rng.random((12, 1)), [""] * 12)
    folders = {"vit": {"maps": "gradient", "maps-attention": "attention"}, "cnn": {"maps": "grad_cam"}}
    for name, methods in folders.items():
        write_predictions(tmp_path / name / "p.csv", table)
        for folder, method in methods.items():
            for each in ids:
                own = ImageMaps(each, ("Mass",), rng.random((1, 4, 4)), (0, 0, 80, 80), 80, 80, method, name)
                write_maps(case_file(tmp_path / name / "explanations" / folder, each, ".h5"), own)
    return {name: tmp_path / name / "p.csv" for name in folders}


def section_of(predictions):
    manifest = read_manifest(next(iter(predictions.values())).parent.parent / "manifest.csv")
    tables = {name: read_predictions(path) for name, path in predictions.items()}
    return box_report(predictions, tables, manifest, Evaluation(resamples=20))


def test_every_method_of_maps_is_in_one_table(explained):
    found = section_of(explained)
    assert {name: own["maps"] for name, own in found.plain.items()} == {
        "vit": "gradient", "vit, attention": "attention", "cnn": "grad_cam",
    }  # fmt: skip
    for part in found.content["against"]:
        assert [row["maps"] for row in part["rows"]] == ["relevance", "attention rollout", "Grad-CAM"]
    assert len({own["verdict"] for own in found.plain.values()}) > 1 and "Grad-CAM" in found.methods


def test_maps_of_attention_by_another_model_are_refused(explained):
    file = explained["vit"].parent / "explanations/maps-attention/c0.h5"
    for own in file.parent.glob("*.h5"):
        write_maps(own, ImageMaps(own.stem, ("Mass",), np.ones((1, 4, 4)), (0, 0, 80, 80), 80, 80, "attention", "old"))
    with pytest.raises(DataError, match="several models or methods"):
        section_of(explained)
