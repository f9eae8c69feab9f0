"""Images of a known data set that lie apart from its tables: `--data-root` names where."""

import pytest
from clinvit.core.errors import DataError
from clinvit.stages.prepare import prepare_stage
from clinvit.tasks.thorax.layouts import LAYOUTS
from clinvit.tests.tasks.thorax.test_layouts import chexpert, covidx, mimic, nih, padchest


@pytest.mark.parametrize("make", [nih, chexpert, mimic, covidx, padchest])
def test_images_of_every_layout_are_looked_for_in_the_data_roots(tmp_path, make):
    root = make(tmp_path / "tables")
    whole = prepare_stage(LAYOUTS, root, tmp_path / "whole/manifest.csv").manifest
    images = [file for file in root.rglob("*") if file.suffix in (".png", ".jpg")]
    for number, file in enumerate(images):
        place = tmp_path / ("disk 1", "disk 2")[number % 2] / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.rename(place)
    out, disks = tmp_path / "apart/manifest.csv", [tmp_path / "disk 1", tmp_path / "disk 2"]
    found = prepare_stage(LAYOUTS, root, out, data_roots=disks)
    assert all(file.is_file() for file in found.manifest.files())
    same = ["id", "patient", "split", *whole.labels]
    assert found.manifest.table[same].equals(whole.table[same])
    assert not [text for text in found.notes if "not there" in text]
    for file in list(disks[1].rglob("*.png")) + list(disks[1].rglob("*.jpg")):
        file.unlink()
    with pytest.raises(DataError, match=r"listed files are not there.*--data-root"):
        prepare_stage(LAYOUTS, root, out, data_roots=disks[1:])
    kept = prepare_stage(LAYOUTS, root, out, data_roots=disks[1:], options={"keep_missing": True})
    assert len(kept.manifest) >= len(whole)
