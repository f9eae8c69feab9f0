"""Clips as people have them: folders of frames in a CSV, in a tree and as a glob, MPEG-TS beside MP4, unequal rates."""

import csv
from dataclasses import replace

import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.finetune.run import finetune
from clinvit.pretrain.run import pretrain
from clinvit.stages.predict import Request, predict_stage
from clinvit.tests.datasets.video.made import folder, numbered, video

CLASSES = ("normal", "disease")


def frames(root, count: int = 16):
    """class/clip/frames, and a CSV beside the classes that names the folders."""
    rows = []
    for number in range(count):
        place = root / "clips" / CLASSES[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        folder(place / f"pat{number}", numbered(12, 32, 40), "{}.png")
        rows.append([f"clips/{place.name}/pat{number}", number % 2, f"p{number}"])
    with (root / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "sick", "patient"], *rows])
    return root


@pytest.mark.parametrize("task", ["clips", "erdes"])
def test_a_csv_that_names_folders_and_a_tree_of_folders_become_manifests(tmp_path, task, capsys):
    root = frames(tmp_path / "data")
    assert main(["prepare", task, str(root / "list.csv"), "--out", str(tmp_path / "list.csv")]) == 0
    table = read_manifest(tmp_path / "list.csv").table
    assert len(table) == 16
    assert set(table["patient"]) == {f"p{number}" for number in range(16)}
    options = ["--layout", "folders", "--option", "each_file_own_patient=true", "--out", str(tmp_path / "tree.csv")]
    video(root / "clips/normal/film.ts", numbered(12))
    assert main(["prepare", task, str(root / "clips"), *options]) == 0
    tree = read_manifest(tmp_path / "tree.csv")
    assert len(tree) == 17
    assert sum(path.suffix == ".ts" for path in tree.files()) == 1
    assert main(["check", task, str(tmp_path / "tree.csv")]) == 0
    assert "17 of 17 files read well: 32..48 px high" in capsys.readouterr().out


def test_what_is_missing_in_a_csv_of_folders_is_said(tmp_path, capsys):
    root = frames(tmp_path / "data")
    for file in (root / "clips/normal/pat0").iterdir():
        file.unlink()
    (root / "clips/disease/pat1/7.png").unlink()
    assert main(["prepare", "clips", str(root / "list.csv"), "--out", str(tmp_path / "list.csv")]) == 0
    out = capsys.readouterr().out
    assert "1 listed files are not there and were left out; the first is clips/normal/pat0" in out
    assert "warning: 1 folder of frames lacks numbers:" in out
    assert "clips/disease/pat1 has no frame 7." in out


def test_a_glob_of_folders_is_predicted(tmp_path, small_clip_recipes):
    root, fine = frames(tmp_path / "data"), small_clip_recipes[1]
    assert main(["prepare", "clips", str(root / "list.csv"), "--out", str(tmp_path / "m.csv")]) == 0
    fine = replace(fine, optim=replace(fine.optim, epochs=2, batch_size=8))
    finetune(fine, read_manifest(tmp_path / "m.csv"), tmp_path / "ft", tmp_path / "cache")
    inputs = [str(root / "clips/normal/*")]
    table = predict_stage(Request(tmp_path / "ft/model", inputs, tmp_path / "out.csv"))
    assert sorted(table["id"]) == sorted(f"pat{number}" for number in range(0, 16, 2))
    assert (table["status"] == "ok").all()
    one = predict_stage(Request(tmp_path / "ft/model", [str(root / "clips")], tmp_path / "all.csv"))
    assert len(one) == 16
    both = pd.merge(table, one, on="id")
    assert both["p_sick_x"].tolist() == pytest.approx(both["p_sick_y"].tolist(), abs=1e-5)


@pytest.mark.parametrize("fps", [None, 12])
def test_unequal_rates_are_warned_of_by_every_stage_but_where_clips_are_sampled_by_time(
    tmp_path, small_clip_recipes, capsys, fps
):
    (tmp_path / "data").mkdir()
    rows = []
    for number in range(16):
        video(tmp_path / f"data/{number}.mp4", numbered(24, 32, 40), rate=(12, 30)[number // 4 % 2])
        rows.append([f"{number}.mp4", number % 2, f"p{number}"])
    with (tmp_path / "data/list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "sick", "patient"], *rows])
    assert main(["prepare", "clips", str(tmp_path / "data/list.csv"), "--out", str(tmp_path / "m.csv")]) == 0
    words = "frame rates of 16 clips differ, from 12 to 30 frames a second"
    assert f"warning: {words}" in capsys.readouterr().out
    assert main(["check", "clips", str(tmp_path / "m.csv")]) == 0
    assert words in capsys.readouterr().out
    pre, fine = (
        replace(
            recipe,
            optim=replace(recipe.optim, epochs=2, batch_size=8),
            data=replace(recipe.data, clip=replace(recipe.data.clip, fps=fps)),
        )
        for recipe in small_clip_recipes
    )
    manifest = read_manifest(tmp_path / "m.csv")
    pretrain(pre, manifest, tmp_path / "mae", tmp_path / "cache")
    assert ("clips differ, from 12 to 30" in capsys.readouterr().out) is (fps is None)
    finetune(fine, manifest, tmp_path / "ft", tmp_path / "cache")
    assert ("clips differ, from 12 to 30" in capsys.readouterr().out) is (fps is None)
