"""An archive is curated by the command: what is dropped has its reason, and what goes wrong is one line."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.phantoms.radiographs import write_chestxray14
from PIL import Image


def curate(*words) -> int:
    return main(["curate", *map(str, words)])


def dropped(folder: Path) -> dict[str, str]:
    table = pd.read_csv(folder / "dropped.csv", dtype=str)
    assert list(table.columns) == ["id", "reason"]
    return dict(zip(table["id"], table["reason"]))


def write(root: Path, images: list[np.ndarray], **columns) -> Path:
    """A manifest of images in a folder, each of its own patient."""
    (root / "images").mkdir(parents=True)
    names = [f"{number:02d}" for number in range(len(images))]
    for name, pixels in zip(names, images):
        Image.fromarray(pixels).save(root / f"images/{name}.png")
    table = {"id": names, "path": [f"images/{name}.png" for name in names], "patient": names, "split": "train"}
    pd.DataFrame(table | columns).to_csv(root / "manifest.csv", index=False)
    return root


def textures(count: int, low: int = 30, high: int = 220, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(low, high, (count, 12, 12)).astype(np.uint8)
    return [np.asarray(Image.fromarray(one).resize((48, 48), Image.Resampling.BICUBIC)) for one in coarse]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """A prepared archive of phantoms outside of its manifest's folder, with a broken, a blank and two doubled files."""
    root = tmp_path_factory.mktemp("phantoms")
    write_chestxray14(root / "set", patients=24, size=80)
    assert main(["prepare", "thorax", str(root / "set"), "--out", str(root / "data/manifest.csv")]) == 0
    table = pd.read_csv(root / "data/manifest.csv", dtype=str)
    test, train = (table[table["split"] == split]["id"].to_list() for split in ("test", "train"))
    files = {row.id: root / "data" / row.path for row in table.itertuples()}
    files[train[0]].write_bytes(b"broken")
    Image.new("L", (80, 80), 7).save(files[train[1]])
    shutil.copy(files[train[4]], files[test[0]])
    with Image.open(files[train[5]]) as image:
        image.convert("L").resize((70, 70)).save(files[train[-1]], "JPEG", quality=80)
    return root, train, test


def test_an_archive_by_the_command(phantoms, tmp_path, capsys):
    root, train, test = phantoms
    assert curate(root / "data", "--out", tmp_path / "new/cur") == 0
    said, why = capsys.readouterr().out, dropped(tmp_path / "new/cur")
    assert "curate thorax" in said  # the manifest says what its cases are
    assert why[train[0]].startswith("broken: ") and why[train[1]].startswith("blank: ")
    assert why[train[4]] == f"copy: the same image as {test[0]}"  # what is tested on stays
    one, other = train[5], train[-1]
    assert why.get(one, why.get(other)).startswith("copy: nearly the same image")
    assert len(why) == 4 and str(root) not in "".join(why.values())
    for rule, count in (("broken", 1), ("blank", 1), ("copy", 2)):
        assert f"{count} dropped: {rule}" in said
    facts = json.loads((tmp_path / "new/cur/curation.json").read_text())
    before, after = read_manifest(root / "data/manifest.csv"), read_manifest(tmp_path / "new/cur/manifest.csv")
    assert facts["dropped"] == {"broken": 1, "blank": 1, "copy": 2}
    of_view = [row for row in facts["composition"] if row["column"] == "view"]
    assert sum(row["before"] for row in of_view) == facts["cases"]
    assert sum(row["after"] for row in of_view) == facts["kept"]
    page = (tmp_path / "new/cur/curation.html").read_text()
    assert "the same image, or nearly, as one that stays" in page and "view: PA" in page
    assert str(root) not in page and not any(name in page for name in why)  # it may be shown: no case is named
    assert (facts["cases"], facts["kept"], facts["data"]) == (len(before), len(after), before.fingerprint())
    kept = before.table[~before.table["id"].isin(why)].reset_index(drop=True)
    pd.testing.assert_frame_equal(after.table.drop(columns="path"), kept.drop(columns="path"))
    assert after.labels == before.labels and after.meaning == before.meaning
    where = dict(zip(before.table["id"], before.files()))
    assert [file.resolve() for file in after.files()] == [where[name].resolve() for name in kept["id"]]
    assert after.table["path"].str.startswith("../../").all() and "/../" not in after.table["path"][0].lstrip("./")


def test_balance_keeps_patients_together_whatever_the_order(phantoms, tmp_path, capsys, monkeypatch):
    root = phantoms[0]
    words = ["--balance", "findings,view,age,sex", "--per-entry", 4]
    assert curate("thorax", root / "data", "--out", tmp_path / "a", *words) == 0
    said = capsys.readouterr().out
    assert "finding=none" in said and "view=PA" in said
    table = pd.read_csv(root / "data/manifest.csv", dtype=str, keep_default_na=False)
    order = np.random.default_rng(0).permutation(len(table))
    shuffled = table.iloc[order].assign(path=[str(root / "data" / path) for path in table["path"].iloc[order]])
    (tmp_path / "shuffled").mkdir()
    shuffled.to_csv(tmp_path / "shuffled/manifest.csv", index=False)
    (tmp_path / "shuffled/manifest.json").write_text(json.dumps({"roots": [str(root)], "holds": "radiograph"}))
    monkeypatch.setenv("CLINVIT_ROOTS", f"{root}{os.pathsep}{tmp_path}")
    assert curate(tmp_path / "shuffled", "--out", tmp_path / "b", *words) == 0
    first, second = dropped(tmp_path / "a"), dropped(tmp_path / "b")
    assert {name for name, why in first.items() if why.startswith("balance")}
    assert first == second
    by_balance = {name for name, why in first.items() if why.startswith("balance")}
    rest = table[~table["id"].isin(set(first) - by_balance)]
    assert (rest["id"].isin(by_balance).groupby(rest["patient"]).nunique() == 1).all()


def test_views_where_the_column_says_so(tmp_path, capsys):
    data = write(tmp_path / "data", textures(5), **{"View Position": ["PA", "lateral", "", "ap", "PA"]})
    assert curate(data, "--out", tmp_path / "all") == 0
    assert "3 views" in capsys.readouterr().out and dropped(tmp_path / "all") == {}
    assert curate(data, "--out", tmp_path / "cur", "--views", "PA,AP") == 0
    assert dropped(tmp_path / "cur") == {"01": "view: lateral, not PA or AP"}
    assert "cases of unknown view stay: 1." in capsys.readouterr().out


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
    torch.manual_seed(0)
    return save_encoder(tmp_path_factory.mktemp("encoder"), ViT(arch), EncoderCard(arch, (0.5,), (0.25,), "mae"))


def test_images_like_a_target(encoder, tmp_path, capsys):
    images = textures(12, 10, 90) + textures(12, 150, 250, seed=1)
    data = write(tmp_path / "data", images)
    target = write(tmp_path / "target", textures(3, 150, 250, seed=2))
    (target / "images/01.png").write_bytes(b"broken")
    words = ["--encoder", encoder, "--target", target, "--clusters", 2]
    assert curate(data, "--out", tmp_path / "cur", *words) == 0
    said, why = capsys.readouterr().out, dropped(tmp_path / "cur")
    assert set(why) == {f"{number:02d}" for number in range(12)}
    assert set(why.values()) == {"unlike the target: no image of the target list falls into its cluster"}
    assert "1 of 3 images of the target list" in said and "12 dropped: unlike the target" in said
    facts = json.loads((tmp_path / "cur/curation.json").read_text())["target"]
    assert (facts["cases"], facts["clusters"], facts["values"]) == (3, 2, 32)


def test_what_goes_wrong_is_one_line_and_writes_nothing(encoder, tmp_path, capsys):
    data = write(tmp_path / "data", textures(4), Mass=[1, 0, 1, 0])

    def refused(*words, data=data) -> str:
        capsys.readouterr()
        assert curate(data, "--out", tmp_path / "cur", *words) == 2
        assert not (tmp_path / "cur").exists()
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("clinvit: error")]
        return line

    one = write(tmp_path / "one", textures(1))
    views = write(tmp_path / "views", textures(4), view="PA")
    assert "one case alone" in refused(data=one)
    empty = tmp_path / "empty.csv"
    empty.write_text("id,path,patient,split\n")
    assert "empty.csv" in refused("--encoder", encoder, "--target", empty)
    assert "no manifest.csv" in refused(data=tmp_path / "data/images")
    assert "--encoder and --target" in refused("--target", one)
    assert "--balance" in refused("--balance", "findings") and "--balance" in refused("--per-entry", 3)
    assert "at least 1" in refused("--balance", "findings", "--per-entry", 0)
    assert "no column 'site'" in refused("--balance", "site", "--per-entry", 3)
    assert "no column 'view'" in refused("--views", "PA")
    assert "--clusters" in refused("--clusters", 3) and "--cache-px 0" in refused("--cache-px", 0)
    assert "no case would be left of 4: 4 by view" in refused("--views", "XX", data=views)
    assert "--clusters 9" in refused("--encoder", encoder, "--target", one, "--clusters", 9)
    assert "no such" in refused("--encoder", tmp_path / "nowhere", "--target", one)
    (one / "images/00.png").write_bytes(b"broken")
    assert "no image of the target list" in refused("--encoder", encoder, "--target", one)
    for number in range(4):
        (data / f"images/{number:02d}.png").write_bytes(b"broken")
    said = refused()
    assert "no case would be left of 4: 4 by broken, first 00" in said and "curate TASK" in said


def test_clips_and_an_out_folder_within_the_archive(clip_cohort, capsys):
    data = clip_cohort(patients=5).parent
    name = pd.read_csv(data / "manifest.csv", dtype=str)["id"][3]
    for frame in (data / name).iterdir():
        frame.write_bytes(b"broken")
    assert curate("clips", data, "--out", data / "cur") == 0
    assert set(dropped(data / "cur")) == {name}
    table = read_manifest(data / "cur/manifest.csv").table
    assert len(table) == 9 and (table["path"] == "../" + table["id"]).all()
    assert curate("clips", data / "cur", "--out", data / "again") == 0  # and what was curated is an archive itself
    assert (read_manifest(data / "again/manifest.csv").table["path"] == "../" + table["id"]).all()


def test_another_manifest_is_never_overwritten(tmp_path, capsys):
    data = write(tmp_path / "data", textures(4))
    before = (data / "manifest.csv").read_bytes()
    assert curate(data, "--out", data) == 2
    assert (data / "manifest.csv").read_bytes() == before
    assert curate(data, "--out", tmp_path / "cur") == 0 == curate(data, "--out", tmp_path / "cur")
    capsys.readouterr()
    assert curate(tmp_path / "cur", "--out", tmp_path / "cur") == 2
    assert "own folder" in capsys.readouterr().err
