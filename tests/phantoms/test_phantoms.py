import csv
import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import UserError
from clinvit.phantoms import radiographs
from clinvit.phantoms.chest import Body, Chest
from clinvit.phantoms.chest_findings import FINDINGS
from clinvit.phantoms.radiographs import BOXED, chest_phantom, write_chestxray14


def image(*findings, seed=0, size=128, **options):
    return chest_phantom(findings, size=size, rng=np.random.default_rng(seed), **options)


def digest(folder):
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def test_a_image_is_grey_square_and_uses_its_range():
    grey, boxes = image()
    assert grey.shape == (128, 128) and grey.dtype == np.uint8 and boxes == {}
    assert np.ptp(grey) > 120


@pytest.mark.parametrize("size", [64, 97, 256])
def test_any_size(size):
    assert image("Effusion", size=size)[0].shape == (size, size)


def test_lungs_are_darker_than_the_heart_and_outside_is_black():
    body = Body.draw(np.random.default_rng(3))
    shadow = Chest(body, 128).shadow()
    at = lambda x, y: shadow[round((y + 1) * 64), round((x + 1) * 64)]
    for side in (-1, 1):
        assert at(side * 0.8 * body.width, 0.1) < at(0, 0.2) - 0.2
    assert at(-0.99, -0.99) < 0.05


@pytest.mark.parametrize("finding", FINDINGS)
def test_each_finding_changes_the_image_where_its_box_is(finding):
    """The same draws with and without the finding: the change is stronger inside the box than outside."""
    for seed in range(3):
        body = Body.draw(np.random.default_rng((7, seed)))
        healthy, _ = image(seed=seed, body=body)
        ill, boxes = image(finding, seed=seed, body=body)
        x, y, w, h = (round(value) for value in boxes[finding])
        assert 0 <= x < x + w <= 128 and 0 <= y < y + h <= 128
        change = np.abs(ill.astype(float) - healthy)
        inside = np.zeros_like(change, bool)
        inside[y : y + h, x : x + w] = True
        assert change[inside].mean() > 4
        assert change[inside].mean() > 1.5 * change[~inside].mean()


def test_the_heart_is_wider_with_cardiomegaly():
    for seed in range(5):
        box = image("Cardiomegaly", seed=seed)[1]["Cardiomegaly"]
        assert box[2] > 0.3 * 128


def test_follow_ups_share_the_place_of_a_finding():
    body = Body.draw(np.random.default_rng(1))
    first, second = (image("Mass", seed=seed, body=body)[1]["Mass"] for seed in (1, 2))
    assert np.abs(np.array(first) - second).max() < 0.2 * 128


def test_mean_grey_does_not_tell_the_finding():
    """Exposure varies more than a finding adds."""
    healthy = [image(seed=seed)[0].mean() for seed in range(20)]
    ill = [image("Mass", seed=100 + seed)[0].mean() for seed in range(20)]
    assert abs(np.mean(healthy) - np.mean(ill)) < np.std(healthy)


def test_the_same_seed_gives_the_same_image():
    first, second = image("Edema", "Effusion", seed=5), image("Effusion", "Edema", seed=5)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]


def test_an_unknown_finding_or_view_is_refused():
    with pytest.raises(UserError, match="did you mean 'Effusion'"):
        image("Efusion")
    with pytest.raises(UserError, match="PA or AP"):
        image(view="lateral")


def test_a_tree_is_laid_out_as_downloaded(tmp_path):
    seen = []
    root = write_chestxray14(tmp_path / "set", patients=12, size=48, progress=lambda *done: seen.append(done))
    assert seen[-1] == (12, 12)
    header = (root / "Data_Entry_2017.csv").read_text().splitlines()[0]
    assert header == (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    )
    assert (root / "BBox_List_2017.csv").read_text().startswith("Image Index,Finding Label,Bbox [x,y,w,h],,,\n")
    with (root / "Data_Entry_2017.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    assert all(len(row) == 12 for row in rows)
    images = {path.name: path for path in root.glob("images_0*/images/*.png")}
    assert len({path.parent for path in images.values()}) == 3
    lists = [(root / f"{part}_list.txt").read_text().split() for part in ("train_val", "test")]
    assert {row[0] for row in rows} == set(images) == {*lists[0], *lists[1]}
    assert not {name[:8] for name in lists[0]} & {name[:8] for name in lists[1]}
    for row in rows:
        assert row[0] == f"{int(row[3]):08d}_{int(row[2]):03d}.png"
    with (root / "BBox_List_2017.csv").open() as file:
        boxed = list(csv.reader(file))[1:]
    assert boxed and {row[0] for row in boxed} <= set(lists[1]) and {row[1] for row in boxed} <= {*BOXED.values()}
    assert all(float(row[2]) + float(row[4]) <= 1024 for row in boxed)


def test_some_images_have_four_channels_and_all_are_readable(tmp_path, monkeypatch):
    monkeypatch.setattr(radiographs, "RGBA_EVERY", 3)
    root = write_chestxray14(tmp_path, patients=8, size=32)
    shapes = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in root.glob("images_*/images/*.png")]
    assert {len(shape) for shape in shapes} == {2, 3}


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    write_chestxray14(tmp_path / "here", patients=4, size=40, seed=3)
    code = (
        "import sys; from clinvit.phantoms.radiographs import write_chestxray14 as write;"
        "write(sys.argv[1], patients=4, size=40, seed=3)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, cwd=tmp_path)
    assert digest(tmp_path / "here") == digest(tmp_path / "there")
    write_chestxray14(tmp_path / "other", patients=4, size=40, seed=4)
    assert digest(tmp_path / "here") != digest(tmp_path / "other")


def test_too_small_a_set_or_an_unknown_prevalence_is_refused(tmp_path):
    with pytest.raises(UserError, match="4 patients"):
        write_chestxray14(tmp_path, patients=2)
    with pytest.raises(UserError, match="did you mean 'Hernia'"):
        write_chestxray14(tmp_path, patients=4, prevalence={"Hernea": 0.1})


def test_bedside_and_sick_can_be_planted_to_go_together(tmp_path):
    write_chestxray14(tmp_path, patients=60, size=32, bedside=(0.95, 0.05))
    table = pd.read_csv(tmp_path / "Data_Entry_2017.csv")
    sick = table["Finding Labels"] != "No Finding"
    bedside = table["View Position"] == "AP"
    assert bedside[sick].mean() > 0.85 and bedside[~sick].mean() < 0.15
